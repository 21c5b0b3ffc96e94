// OutlierLoss: an example for the tests that walk the list of ops, and what it computes against plain loops in double.
#include "kernels/ops/outlier_loss.h"

#include <gtest/gtest.h>

#include "kernels/op_example.h"

namespace sluice {
namespace {

struct OutlierLossExample : ExampleBase {
  using ExampleBase::ExampleBase;
  const size_t x = given(C), d_x = given(C), loss = given_flat(acc, {1});

  OutlierLoss op(const Tensors& t) const {
    return {.x = t[x], .d_x = t[d_x], .loss = t[loss], .limit = 0.7, .value_scale = 0.01, .grad_scale = 0.3};
  }
};

TEST(OutlierLoss, AddsFourthPowersAndTheirGradient) {
  for (const IsaKernels* isa : available_isas())
    for (const DType type : kActivationTypes)
      for (const auto& [N, C] : {std::pair<int64_t, int64_t>{1, 1}, {9, 33}, {70, 300}}) {
        SCOPED_TRACE(fmt::format("{} {} {} x {}", isa->name, name_of(type), N, C));
        const DType acc = accumulator_of(type);
        TestBuffer x(type, N, C, C + 3), d_x(type, N, C, C + 1), loss(acc, Shape{1});
        x.randomise(1), d_x.randomise(2), loss.set(0, 0.5);
        const TestBuffer before = d_x;
        isa->run(OutlierLoss{x, d_x, loss, 0.5, 0.25, 0.125});
        double sum = 0;
        for (int64_t i = 0; i < x.size(); ++i) {
          const double r = x.at(i) / 0.5;
          sum += r * r * r * r;
          ASSERT_TRUE(near_value(d_x.at(i), before.at(i) + 0.125 * 4 * r * r * r / 0.5, type,
                                 std::fabs(before.at(i)) + std::fabs(r * r * r), 8));
        }
        ASSERT_TRUE(near_value(loss.at(0), 0.5 + 0.25 * sum, acc, 0.5 + 0.25 * sum, 8 + double(C) / 4 + double(N)));
        EXPECT_TRUE(x.untouched() && d_x.untouched());
      }
}

TEST(OutlierLoss, ItsGradientIsTheDifferenceOfItsValue) {
  const IsaKernels& isa = *available_isas().back();
  TestBuffer x(DType::kF64, 3, 5), d_x(DType::kF64, 3, 5), loss(DType::kF64, Shape{1});
  x.randomise(1);
  isa.run(OutlierLoss{x, d_x, loss, 0.8, 1, 1});
  const TestBuffer gradient = d_x;
  const auto value = [&] {
    loss.set(0, 0);
    isa.run(OutlierLoss{x, d_x, loss, 0.8, 1, 0});
    return loss.at(0);
  };
  for (int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(gradient.at(i), slope(x, i, value), 1e-7);
}

}  // namespace

SLUICE_OP_EXAMPLE(OutlierLoss, OutlierLossExample)

}  // namespace sluice

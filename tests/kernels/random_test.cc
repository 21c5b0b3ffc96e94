// Filling, counted random numbers, and the backend's argument checks and choice of instruction set.
#include "base/philox.h"
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

TEST(Random, ElementsFollowTheirCounter) {
  const auto backend = make_cpu_backend();
  const uint64_t seed = 42, stream = uint64_t(Stream::kInit) + 3;
  for (DType dtype : kActivationTypes)
    for (int64_t gap : {0, 2}) {
      TestBuffer uniform(dtype, 5, 7, 7 + gap), normal(dtype, 5, 7, 7 + gap), want(dtype, 1, 1);
      backend->run(RandomUniform{uniform, seed, stream, -2, 3});
      backend->run(RandomNormal{normal, seed, stream, 0.5, 2});
      for (int64_t i = 0; i < 35; ++i) {
        const Random4 r = philox(seed, stream, uint64_t(i / 4));
        const int which = int(i % 4), pair = which / 2 * 2;
        want.set(0, -2 + 5 * double(uniform24(r.word[which])));
        EXPECT_EQ(uniform.at(i), want.at(0));
        want.set(0, 0.5 + 2 * double(normal_from(r.word[pair], r.word[pair + 1], which % 2)));
        EXPECT_EQ(normal.at(i), want.at(0));
      }
      EXPECT_TRUE(uniform.untouched() && normal.untouched());
    }
}

TEST(Random, HasTheAskedMoments) {
  const auto backend = make_cpu_backend();
  const int64_t n = 200000;
  TestBuffer x(DType::kF32, Shape{n});
  const auto moments = [&] {
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; ++i) mean += x.at(i) / double(n), square += x.at(i) * x.at(i) / double(n);
    return std::make_pair(mean, std::sqrt(square - mean * mean));
  };
  backend->run(RandomNormal{x, 1, 2, 3, 0.02});
  EXPECT_NEAR(moments().first, 3, 5 * 0.02 / std::sqrt(double(n)));
  EXPECT_NEAR(moments().second, 0.02, 0.02 * 0.01);
  backend->run(RandomUniform{x, 1, 2, -1, 1});
  EXPECT_NEAR(moments().first, 0, 5 / std::sqrt(3.0 * double(n)));
  EXPECT_NEAR(moments().second, 1 / std::sqrt(3.0), 0.005);
  for (int64_t i = 0; i < n; ++i) ASSERT_TRUE(x.at(i) >= -1 && x.at(i) <= 1);
}

TEST(Random, SameBitsWithAnyThreads) {
  const auto backend = make_cpu_backend();
  expect_same_with_any_threads([&] {
    TestBuffer x(DType::kF32, Shape{10007});
    backend->run(RandomNormal{x, 5, 6, 0, 1});
    return x;
  });
}

TEST(Random, FillAndTransfer) {
  const auto backend = make_cpu_backend();
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF64, DType::kI32}) {
    TestBuffer x(dtype, 3, 5, 8);
    backend->run(Fill{x, 7});
    for (int64_t i = 0; i < 15; ++i) EXPECT_EQ(x.at(i), 7);
    EXPECT_TRUE(x.untouched());
    EXPECT_THROW(backend->upload(x, nullptr), std::logic_error);  // strided
  }
  TestBuffer x(DType::kI32, Shape{3});
  const int32_t in[] = {1, 2, 3};
  int32_t out[3] = {};
  backend->upload(x, in);
  backend->download(out, x);
  EXPECT_EQ(out[2], 3);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Backend, NamesTheOpAndTheTensorThatIsWrong) {
  const auto backend = make_cpu_backend();
  TestBuffer x(DType::kF32, 4, 8), wide(DType::kF32, 4, 9), bf16(DType::kBF16, 4, 8), small(DType::kF32, Shape{10});
  TestBuffer gain(DType::kF32, Shape{8}), stats(DType::kF32, 4, 2), targets(DType::kI32, Shape{4});
  EXPECT_EQ(message_of([&] {
              backend->run(Copy{x, wide});
            }),
            "copy: out is f32 [4,8] with rows 8 apart, expected f32 [4,9]");
  EXPECT_EQ(message_of([&] {
              backend->run(ActivationForward{Activation::kRelu, bf16, x});
            }),
            "activation_forward: out is bf16 [4,8] with rows 8 apart, expected f32 [4,8]");
  EXPECT_EQ(message_of([&] { backend->run(CrossEntropy{{}, x, targets, 0}); }), "cross_entropy: losses is absent");
  EXPECT_EQ(message_of([&] { backend->run(GroupNorms{x, x, 3}); }), "group_norms: groups must divide the width");
  NormForward norm;
  norm.x = norm.out = norm.sum = x;
  norm.gain = gain;
  norm.stats = stats;
  EXPECT_EQ(message_of([&] { backend->run(norm); }), "norm_forward: sum must be absent: there is no delta to add");
  norm.sum = Tensor{};
  NormBackward backward;
  backward.forward = norm;
  backward.d_out = backward.d_x = x;
  backward.d_gain = gain;
  backward.workspace = small;
  EXPECT_EQ(message_of([&] { backend->run(backward); }), "norm_backward: the workspace has 40 bytes, 4096 are needed");
  EXPECT_EQ(message_of([&] {
              backend->run(AdamWUpdate{{x, x, x, {}, {}, 0}, {1e-3, 0.9, 0.99, 1e-8, 1}});
            }),
            "adamw_update: second_moment is absent");
}

TEST(Backend, ChoosesAnInstructionSet) {
  const auto sets = available_isas();
  EXPECT_STREQ(sets.front()->name, "baseline");
  EXPECT_EQ(&select_isa(nullptr), sets.back());
  EXPECT_EQ(&select_isa(""), sets.back());
  for (const IsaKernels* set : sets) EXPECT_EQ(&select_isa(set->name), set);
  EXPECT_THROW(select_isa("mmx"), UserError);
  EXPECT_NE(make_cpu_backend()->describe().find(cpu_isa_name()), std::string::npos);
}

}  // namespace
}  // namespace sluice

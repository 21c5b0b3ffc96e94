// Matrix products against plain loops in double: the backend's own choice (oneDNN where it has the types) and, for
// every instruction set, the kernel that stands in for it. All transpositions, strided operands, sizes off the 64 x 64
// blocks.
#include "kernels/cpu/matmul.h"
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

struct Sizes {
  int64_t M, N, K;
};
const Sizes kSizes[] = {{1, 1, 1}, {3, 5, 7}, {1, 70, 64}, {128, 1, 3}, {17, 33, 65}, {64, 64, 64}, {65, 130, 20}};

struct Types {
  DType act, out;
};
const Types kTypes[] = {
    {DType::kF32, DType::kF32}, {DType::kBF16, DType::kBF16}, {DType::kBF16, DType::kF32}, {DType::kF64, DType::kF64}};

using MatmulKernel = std::function<void(const Matmul&)>;

struct Element {
  double value, magnitude;  // the sum, and that of its terms' sizes
};

class Product {
 public:
  Product(const Types& types, const Sizes& sizes, bool transpose_a, bool transpose_b, bool accumulate, bool bias)
      : sizes_(sizes),
        transpose_a_(transpose_a),
        transpose_b_(transpose_b),
        accumulate_(accumulate),
        with_bias_(bias),
        a_(operand(types.act, sizes.M, sizes.K, transpose_a, 3)),
        b_(operand(types.act, sizes.K, sizes.N, transpose_b, 1)),
        bias_(accumulator_of(types.act), Shape{sizes.N}),
        out_(types.out, sizes.M, sizes.N, sizes.N + 2) {
    a_.randomise(1), b_.randomise(2), bias_.randomise(3), out_.randomise(4);
    if (!accumulate)  // what was there may be anything
      for (int64_t i = 0; i < out_.size(); ++i) out_.set(i, std::nan(""));
    for (int64_t m = 0; m < sizes.M; ++m)
      for (int64_t n = 0; n < sizes.N; ++n) expected_.push_back(element(m, n));
  }

  // (K + 2) roundings in the accumulator and one of the stored result.
  void check(const MatmulKernel& matmul) const {
    TestBuffer out = out_;
    Matmul args{.out = out,
                .a = a_,
                .b = b_,
                .transpose_a = transpose_a_,
                .transpose_b = transpose_b_,
                .accumulate = accumulate_,
                .bias = {}};
    if (with_bias_) args.bias = bias_;
    matmul(args);
    EXPECT_TRUE(out.untouched());
    for (int64_t i = 0; i < out.size(); ++i) {
      const Element& expected = expected_[size_t(i)];
      const auto near =
          near_value(out.at(i), expected.value, out_.tensor().dtype, expected.magnitude, double(sizes_.K + 2));
      ASSERT_TRUE(near) << "element " << i;
    }
  }

 private:
  static TestBuffer operand(DType type, int64_t rows, int64_t cols, bool transposed, int64_t gap) {
    if (transposed) std::swap(rows, cols);
    return TestBuffer(type, rows, cols, cols + gap);
  }
  Element element(int64_t m, int64_t n) const {
    Element out{0, 0};
    const auto add = [&](double term) { out.value += term, out.magnitude += std::fabs(term); };
    for (int64_t k = 0; k < sizes_.K; ++k)
      add((transpose_a_ ? a_.at(k, m) : a_.at(m, k)) * (transpose_b_ ? b_.at(n, k) : b_.at(k, n)));
    if (with_bias_) add(bias_.at(n));
    if (accumulate_) add(out_.at(m, n));
    return out;
  }

  Sizes sizes_;
  bool transpose_a_, transpose_b_, accumulate_, with_bias_;
  TestBuffer a_, b_, bias_, out_;
  std::vector<Element> expected_;
};

TEST(Matmul, IsThePlainSum) {
  for (const Types& types : kTypes)
    for (const Sizes& sizes : kSizes)
      for (int flags = 0; flags < 16; ++flags) {
        SCOPED_TRACE(fmt::format("{} into {}, M {} N {} K {}, transpose a {} b {}, accumulate {}, bias {}",
                                 name_of(types.act), name_of(types.out), sizes.M, sizes.N, sizes.K, flags & 1,
                                 flags >> 1 & 1, flags >> 2 & 1, flags >> 3 & 1));
        const Product product(types, sizes, flags & 1, flags & 2, flags & 4, flags & 8);
        product.check(cpu_matmul);
        for (const IsaKernels* isa : available_isas()) {
          SCOPED_TRACE(isa->name);
          product.check([&](const Matmul& op) { isa->run(op); });
        }
      }
}

TEST(Matmul, ThreadsDoNotChangeOurOwnKernel) {
  for_kernels([](const IsaKernels& isa, DType act) {
    TestBuffer a(act, 130, 70), b(act, 70, 200), out(act, 130, 200);
    a.randomise(1), b.randomise(2);
    expect_same_with_any_threads([&] {
      isa.run(Matmul{.out = out, .a = a, .b = b, .bias = {}});
      return out;
    });
  });
}

TEST(Matmul, NaNComesThrough) {
  for (const DType act : kActivationTypes) {
    TestBuffer a(act, 5, 9), b(act, 9, 6), out(act, 5, 6);
    a.randomise(1), b.randomise(2);
    a.set(2 * 9 + 8, std::nan(""));
    const Matmul args{.out = out, .a = a, .b = b, .bias = {}};
    for (const MatmulKernel& matmul :
         {MatmulKernel(cpu_matmul), MatmulKernel([](const Matmul& op) { isa_kernels().run(op); })}) {
      matmul(args);
      for (int64_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out.at(i)), i / 6 == 2) << name_of(act) << " " << i;
    }
  }
}

// Against one product with a weight that is zero outside its blocks.
TEST(Matmul, HeadsReadTheirOwnSlices) {
  constexpr int64_t rows = 6, heads = 3, in = 4, out = 2;
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  TestBuffer x(DType::kF32, rows, heads * in), weight(DType::kF32, heads * out, in),
      bias(DType::kF32, Shape{heads * out}), got(DType::kF32, rows, heads * out), want(DType::kF32, rows, heads * out),
      whole(DType::kF32, heads * out, heads * in);
  x.randomise(1), weight.randomise(2), bias.randomise(3);
  for (int64_t row = 0; row < heads * out; ++row)
    for (int64_t col = 0; col < heads * in; ++col)
      whole.set(row * heads * in + col, col / in == row / out ? weight.at(row * in + col % in) : 0);
  backend->run(HeadMatmul{{.out = got, .a = x, .b = weight, .transpose_b = true, .bias = bias}, heads});
  backend->run(Matmul{.out = want, .a = x, .b = whole, .transpose_b = true, .bias = bias});
  for (int64_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got.at(i), want.at(i), 1e-5) << i;
  TestBuffer narrow(DType::kF32, rows, heads * in - 1);
  EXPECT_THROW(backend->run(HeadMatmul{{.out = got, .a = narrow, .b = weight, .transpose_b = true, .bias = {}}, heads}),
               std::logic_error);
}

}  // namespace
}  // namespace sluice

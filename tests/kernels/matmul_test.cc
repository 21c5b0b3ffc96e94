// Matrix products against plain loops in double: the backend's own choice (oneDNN where bf16 is fast) and, for
// every instruction set, our own. All transpositions, strided operands, sizes off the blocks.
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

// op(a)[m, k] op(b)[k, n]
double term(const TestBuffer& a, bool transpose_a, const TestBuffer& b, bool transpose_b, int64_t m, int64_t n,
            int64_t k) {
  return (transpose_a ? a.at(k, m) : a.at(m, k)) * (transpose_b ? b.at(n, k) : b.at(k, n));
}

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
    for (int64_t k = 0; k < sizes_.K; ++k) add(term(a_, transpose_a_, b_, transpose_b_, m, n, k));
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

// Whole numbers so small that every sum is exact in f32, whatever its order: C must be equal to the bit. The sizes are
// those at which products are cut differently: several chunks of the sum, panels of rows and of columns, B packed once
// or by each task, A packed by all threads together.
class ExactProduct {
 public:
  ExactProduct(DType act, const Sizes& sizes, bool transpose_a, bool transpose_b, bool add)
      : sizes_(sizes),
        transpose_a_(transpose_a),
        transpose_b_(transpose_b),
        add_(add),
        a_(filled(act, transpose_a ? sizes.K : sizes.M, transpose_a ? sizes.M : sizes.K, 1)),
        b_(filled(act, transpose_b ? sizes.N : sizes.K, transpose_b ? sizes.K : sizes.N, 2)),
        c_(filled(DType::kF32, sizes.M, sizes.N, 3)),
        bias_(filled(accumulator_of(act), 1, sizes.N, 4)) {
    for (int64_t m = 0; m < sizes.M; m += kRowStep)
      for (int64_t n = 0; n < sizes.N; ++n) expected_.push_back(element(m, n));
  }

  void check(const IsaKernels& isa, DType out_type) const {
    TestBuffer out(out_type, sizes_.M, sizes_.N, sizes_.N + 3), want(out_type, Shape{1});
    poison(out);
    if (add_)
      for (int64_t i = 0; i < out.size(); ++i) out.set(i, c_.at(i));
    Matmul op{.out = out,
              .a = a_,
              .b = b_,
              .transpose_a = transpose_a_,
              .transpose_b = transpose_b_,
              .accumulate = add_,
              .bias = {}};
    if (add_) op.bias = bias_.tensor().reshaped({sizes_.N});
    isa.run(op);
    EXPECT_TRUE(out.untouched());
    size_t i = 0;
    for (int64_t m = 0; m < sizes_.M; m += kRowStep)
      for (int64_t n = 0; n < sizes_.N; ++n) {
        want.set(0, expected_[i++]);
        ASSERT_EQ(out.at(m, n), want.at(0)) << m << ", " << n;
      }
  }

 private:
  static constexpr int64_t kRowStep = 37;  // of the rows that are looked at

  static TestBuffer filled(DType type, int64_t rows, int64_t cols, uint64_t stream) {
    TestBuffer out(type, rows, cols);
    for (int64_t i = 0; i < rows * cols; ++i) out.set(i, double(philox(7, stream, uint64_t(i)).word[0] % 5) - 2);
    return out;
  }
  double element(int64_t m, int64_t n) const {
    double sum = add_ ? c_.at(m, n) + bias_.at(n) : 0;
    for (int64_t k = 0; k < sizes_.K; ++k) sum += term(a_, transpose_a_, b_, transpose_b_, m, n, k);
    return sum;
  }

  Sizes sizes_;
  bool transpose_a_, transpose_b_, add_;
  TestBuffer a_, b_, c_, bias_;
  std::vector<double> expected_;
};

TEST(Matmul, CutAnyWayItIsTheSameProduct) {
  const Sizes sizes[] = {{1030, 40, 800},  {700, 45, 1600}, {60, 9000, 33},
                         {300, 1100, 900}, {45, 70, 1000},  {1500, 1050, 130}};
  const int threads = omp_get_max_threads();
  for (const Sizes& size : sizes)
    for (int flags = 0; flags < 8; ++flags) {
      const bool transpose_a = flags & 1, transpose_b = flags & 2, add = flags & 4;
      const ExactProduct f32(DType::kF32, size, transpose_a, transpose_b, add);
      const ExactProduct bf16(DType::kBF16, size, transpose_a, transpose_b, add);
      for (const IsaKernels* isa : available_isas())
        for (const int team : {1, 2, 4}) {
          if (add && team == 1) continue;
          SCOPED_TRACE(fmt::format("{}, {} threads, M {} N {} K {}, transpose a {} b {}, add {}", isa->name, team,
                                   size.M, size.N, size.K, transpose_a, transpose_b, add));
          omp_set_num_threads(team);
          f32.check(*isa, DType::kF32);
          bf16.check(*isa, team == 2 ? DType::kF32 : DType::kBF16);
        }
    }
  omp_set_num_threads(threads);
}

TEST(Matmul, ThreadsDoNotChangeABitOfIt) {
  const Sizes sizes[] = {{130, 200, 70}, {1100, 60, 900}, {700, 65, 1700}, {100, 1500, 900}};
  for_kernels([&](const IsaKernels& isa, DType act) {
    for (const Sizes& size : sizes) {
      TestBuffer a(act, size.M, size.K), b(act, size.K, size.N), out(act, size.M, size.N);
      a.randomise(1), b.randomise(2);
      expect_same_with_any_threads([&] {
        poison(out);
        isa.run(Matmul{.out = out, .a = a, .b = b, .bias = {}});
        return out;
      });
    }
  });
}

TEST(Matmul, TheActivationIsOfWhatWasStored) {
  for_kernels([](const IsaKernels& isa, DType act) {
    for (const int64_t M : {5, 70})  // few rows are another kernel's
      for (const Activation kind : kActivations) {
        TestBuffer a(act, M, 37), b(act, 90, 37), out(act, M, 90, 93), got(act, M, 90, 95), want(act, M, 90, 95);
        a.randomise(1), b.randomise(2);
        isa.run(
            Matmul{.out = out, .a = a, .b = b, .transpose_b = true, .bias = {}, .activated = got, .activation = kind});
        isa.run(ActivationForward{kind, want, out});
        EXPECT_TRUE(got.untouched());
        for (int64_t i = 0; i < got.size(); ++i) ASSERT_EQ(got.at(i), want.at(i)) << isa.name << " " << i;
      }
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

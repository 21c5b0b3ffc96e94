// Token and position embedding, and their scattered gradients, against plain loops.
#include "kernels/test_buffer.h"

namespace sluice {
namespace {

struct Sizes {
  int64_t B, T, V, C, contexts;  // contexts: rows of the position table
};
const Sizes kSizes[] = {
    {1, 1, 1, 1, 1}, {3, 5, 4, 7, 5}, {2, 9, 400, 33, 12}, {40, 16, 5, 64, 16}, {4, 64, 67, 130, 80}};

struct EmbeddingCase {
  Sizes s;
  TestBuffer tokens, table, positions, out;
  EmbeddingCase(DType dtype, const Sizes& s)
      : s(s),
        tokens(DType::kI32, Shape{s.B * s.T}),
        table(accumulator_of(dtype), s.V, s.C),
        positions(accumulator_of(dtype), s.contexts, s.C),
        out(dtype, s.B * s.T, s.C, s.C + 1) {
    tokens.randomise_indices(1, s.V);
    table.randomise(2), positions.randomise(3), out.randomise(4);
  }
};

TEST(Embedding, Forward) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    for (const Sizes& s : kSizes)
      for (bool with_positions : {false, true}) {
        EmbeddingCase t(dtype, s);
        TestBuffer segment(accumulator_of(dtype), 1, s.C);
        segment.randomise(5);
        EmbeddingForward op{t.out, t.tokens, t.table, with_positions ? t.positions.tensor() : Tensor{}, s.T};
        if (s.C % 2 == 0) op.segment = segment;
        isa.run(op);
        for (int64_t n = 0; n < s.B * s.T; ++n)
          for (int64_t c = 0; c < s.C; ++c) {
            const double token = t.table.at(int64_t(t.tokens.at(n)), c), position = t.positions.at(n % s.T, c);
            const double every = op.segment ? segment.at(0, c) : 0;
            const double want = token + (with_positions ? position : 0) + every;
            const double size = std::fabs(token) + std::fabs(position) + std::fabs(every);
            ASSERT_TRUE(near_value(t.out.at(n, c), want, dtype, size, 1));
          }
        EXPECT_TRUE(t.out.untouched());
      }
  });
}

// Their tokens are negative; the rows after them count positions from 0.
TEST(Embedding, Registers) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    constexpr int64_t B = 2, T = 5, R = 2, V = 3, C = 33;
    const DType acc = accumulator_of(dtype);
    TestBuffer tokens(DType::kI32, Shape{B * T}), table(acc, V, C), positions(acc, T - R, C), registers(acc, R, C);
    TestBuffer out(dtype, B * T, C, C + 1);
    tokens.randomise_indices(1, V), table.randomise(2), positions.randomise(3), registers.randomise(4);
    for (int64_t n = 0; n < B * T; ++n)
      if (n % T < R) tokens.set(n, -1);
    isa.run(EmbeddingForward{out, tokens, table, positions, T, registers});
    std::vector<double> d_table(V * C), d_positions((T - R) * C), d_registers(R * C);
    for (int64_t n = 0; n < B * T; ++n)
      for (int64_t c = 0; c < C; ++c) {
        const int64_t t = n % T, token = int64_t(tokens.at(n));
        const double want = t < R ? registers.at(t, c) : table.at(token, c) + positions.at(t - R, c);
        ASSERT_TRUE(near_value(out.at(n, c), want, dtype, 2, 1));
        if (t < R) d_registers[size_t(t * C + c)] += out.at(n, c);
        else d_table[size_t(token * C + c)] += out.at(n, c), d_positions[size_t((t - R) * C + c)] += out.at(n, c);
      }
    isa.run(EmbeddingBackward{table, positions, out, tokens, T, false, false, registers});
    const auto expect = [&](const TestBuffer& found, const std::vector<double>& wanted) {
      for (size_t i = 0; i < wanted.size(); ++i)
        ASSERT_TRUE(near_value(found.at(int64_t(i)), wanted[i], acc, 4 * B * T, 4)) << i;
    };
    expect(table, d_table), expect(positions, d_positions), expect(registers, d_registers);
  });
}

TEST(Embedding, Backward) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    const DType acc = accumulator_of(dtype);
    for (const Sizes& s : kSizes)
      for (int flags = 0; flags < 8; ++flags) {
        if (s.B * s.T * s.C > 20000 && flags != 1 && flags != 7) continue;  // every combination on small shapes only
        const bool with_positions = flags & 1, add_table = flags & 2, add_positions = flags & 4;
        EmbeddingCase t(dtype, s);  // `table` and `positions` are the gradients here, `out` is d_out
        std::vector<double> table(size_t(s.V * s.C)), positions(size_t(s.contexts * s.C));
        if (add_table)
          for (size_t i = 0; i < table.size(); ++i) table[i] = t.table.at(int64_t(i));
        if (add_positions)
          for (size_t i = 0; i < positions.size(); ++i) positions[i] = t.positions.at(int64_t(i));
        for (int64_t n = 0; n < s.B * s.T; ++n)
          for (int64_t c = 0; c < s.C; ++c) {
            table[size_t(int64_t(t.tokens.at(n)) * s.C + c)] += t.out.at(n, c);
            positions[size_t(n % s.T * s.C + c)] += t.out.at(n, c);
          }
        const TestBuffer before = t.positions;
        isa.run(EmbeddingBackward{t.table, with_positions ? t.positions.tensor() : Tensor{}, t.out, t.tokens, s.T,
                                  add_table, add_positions});
        const double size = 4 * double(s.B * s.T);
        for (int64_t i = 0; i < t.table.size(); ++i)
          ASSERT_TRUE(near_value(t.table.at(i), table[size_t(i)], acc, size, 4)) << i;
        if (with_positions)
          for (int64_t i = 0; i < t.positions.size(); ++i)
            ASSERT_TRUE(near_value(t.positions.at(i), positions[size_t(i)], acc, size, 4)) << i;
        else EXPECT_TRUE(t.positions == before);
        EXPECT_TRUE(t.table.untouched() && t.positions.untouched());
      }
  });
}

TEST(Embedding, SameBitsWithAnyThreads) {
  for_kernels([](const IsaKernels& isa, DType dtype) {
    expect_same_with_any_threads([&] {
      EmbeddingCase t(dtype, {8, 32, 11, 130, 32});
      isa.run(EmbeddingBackward{t.table, t.positions, t.out, t.tokens, 32, false, true});
      return std::vector<TestBuffer>{t.table, t.positions};
    });
  });
}

TEST(Embedding, ATokenBeyondTheTableIsRefused) {
  const auto backend = make_cpu_backend();
  for (double bad : {-1.0, 4.0}) {
    EmbeddingCase t(DType::kF32, {3, 5, 4, 7, 5});
    t.tokens.set(7, bad);
    EXPECT_THROW(backend->run(EmbeddingForward{t.out, t.tokens, t.table, t.positions, 5}), std::logic_error);
    EXPECT_THROW(backend->run(EmbeddingBackward{t.table, t.positions, t.out, t.tokens, 5, false, false}),
                 std::logic_error);
  }
}

}  // namespace
}  // namespace sluice

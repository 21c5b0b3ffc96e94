// Embedding of tokens, positions and registers.
//
// Backward is a scatter-add without atomics: each thread owns a range of columns and walks all tokens in order, so a
// small vocabulary with many repeats stays in cache and a large one costs one read and one write per token.
#include <omp.h>

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

// A row of the table and, unless null, one of the positions and the segment's.
template <class S>
void embed_row(S* out, const Acc<S>* token, const Acc<S>* position, const Acc<S>* segment, int64_t C) {
  for_vectors<Acc<S>>(C, [=](int64_t i, int64_t count) SLUICE_INLINE_BODY {
    auto sum = load_some(token + i, count);
    if (position) sum += load_some(position + i, count);
    if (segment) sum += load_some(segment + i, count);
    store_some(out + i, sum, count);
  });
}

// Its gradient, added to both.
template <class S>
void scatter_row(Acc<S>* token, Acc<S>* position, const S* d_out, int64_t count) {
  for_vectors<Acc<S>>(count, [=](int64_t i, int64_t n) SLUICE_INLINE_BODY {
    const auto d = load_some(d_out + i, n);
    store_some(token + i, load_some(token + i, n) + d, n);
    if (position) store_some(position + i, load_some(position + i, n) + d, n);
  });
}

void clear(const Tensor& t) {
  const int64_t row_bytes = t.cols() * int64_t(size_of(t.dtype));
  for_rows(t.rows(), t.cols(),
           [&](int64_t n) { __builtin_memset(row_of<char>(t, 0) + n * row_bytes, 0, size_t(row_bytes)); });
}

}  // namespace

template <>
void on(const EmbeddingForward& op) {
  const Tensor &out = op.out, &tokens = op.tokens, &table = op.table, &positions = op.positions;
  const int64_t N = out.rows(), C = out.cols();
  const int32_t* token = static_cast<const int32_t*>(tokens.data);
  with_storage(out.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
    const int64_t R = register_rows(op.registers);
    for_rows(N, C, [&](int64_t n) {
      const int64_t t = n % op.T;
      if (t < R) return embed_row<S>(row_of<S>(out, n), row_of<A>(op.registers, t), nullptr, nullptr, C);
      embed_row<S>(row_of<S>(out, n), row_of<A>(table, token[n]),
                   positions.data ? row_of<A>(positions, t - R) : nullptr,
                   op.segment.data ? row_of<A>(op.segment, 0) : nullptr, C);
    });
  });
}

template <>
void on(const EmbeddingBackward& op) {
  const Tensor &d_table = op.d_table, &d_positions = op.d_positions, &d_out = op.d_out, &tokens = op.tokens;
  const int64_t N = d_out.rows(), C = d_out.cols(), R = register_rows(op.d_registers);
  if (!op.accumulate_table) clear(d_table);
  for (const Tensor* rows : {&d_positions, &op.d_registers})
    if (rows->data && !op.accumulate_positions) clear(*rows);
  // Whole cache lines, so that two threads never write to the same one.
  const int64_t width = (C + omp_get_max_threads() - 1) / omp_get_max_threads();
  const int64_t tile = (width + 15) / 16 * 16, tiles = (C + tile - 1) / tile;
  const int32_t* token = static_cast<const int32_t*>(tokens.data);
  with_storage(d_out.dtype, [&](auto tag) {
    using S = decltype(tag);
    using A = Acc<S>;
#pragma omp parallel for schedule(static) if (N * C >= kParallelElements)
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = t * tile, count = min_of(tile, C - first);
      for (int64_t n = 0; n < N; ++n) {
        const int64_t row = n % op.T;
        const S* d = row_of<S>(d_out, n) + first;
        if (row < R) {
          scatter_row<S>(row_of<A>(op.d_registers, row) + first, nullptr, d, count);
          continue;
        }
        A* position = d_positions.data ? row_of<A>(d_positions, row - R) + first : nullptr;
        scatter_row<S>(row_of<A>(d_table, token[n]) + first, position, d, count);
      }
    }
  });
}

}  // namespace sluice::SLUICE_ISA

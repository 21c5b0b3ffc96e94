// What a training step's work is, and what it costs: pieces of documents, stretches of their rows, a model's sizes, a
// machine's speeds. A model of it all, for plans; nothing here is measured.
//
// A piece is what a window of the context holds of one document (or of all, where they are not masked). Row i of a
// piece attends to its rows 0 .. i, so it takes i + 1 score pairs. A row and its mirror image, i and S - 1 - i in a
// piece of S rows, take S + 1 pairs together, whatever i is: so that work can be cut into equal parts (DistCA, arXiv
// 2510.18121).
#pragma once

#include <cstdint>
#include <vector>

#include "data/sources/source.h"
#include "model/config/config.h"

namespace sluice {

using Pieces = std::vector<int32_t>;  // rows of each, at least 1

// Rows [begin, end) of a piece, end <= its rows.
struct Rows {
  int32_t piece, begin, end;

  int64_t count() const { return int64_t{end} - begin; }
  // Score pairs: with q = count() and kv = end, q kv - q (q - 1) / 2.
  int64_t pairs() const { return count() * (int64_t{begin} + 1 + end) / 2; }
  // Pairs that a kernel computes which takes `tile` rows at once, from `begin` on, and as many keys, up to the block
  // that holds the last row's own: whole tiles, whether they are full or not, and whether the mask leaves them or not.
  int64_t computed_pairs(int64_t tile) const;
};

// Pieces of windows [first, first + count) of a source, in their order.
Pieces pieces_of(const DataSource& source, int64_t first, int64_t count);

// Of one step, all layers.
struct ModelWork {
  double linear_operations = 0;  // of a token in everything but attention, forward and backward
  double pair_operations = 0;    // of a score pair, forward and backward
  // Bytes of a token in a forward pass.
  double query_bytes = 0;
  double key_value_bytes = 0;
  double result_bytes = 0;  // with the row's log-sum-exp

  // A backward pass sends twice as much: the same again with the results' gradients, and the gradients back.
  static constexpr double kPasses = 3;
};

// `bytes`: of an element of queries, keys and values. UserError where rows do not attend to all rows before them, for
// pairs are counted so: windows, other cores than tiles, registers.
ModelWork work_of(const ModelConfig& model, int64_t bytes);

struct Machine {
  double linear_rate = 0;     // operations a second that a rank reaches in matrix products
  double attention_rate = 0;  // and in attention's kernels
  double bandwidth = 0;       // bytes a second that a rank sends, and receives at the same time
  int64_t tile = 128;         // rows of attention's tiles

  double linear_seconds(const ModelWork& work, int64_t tokens) const {
    return double(tokens) * work.linear_operations / linear_rate;
  }
  double attention_seconds(const ModelWork& work, int64_t computed_pairs) const {
    return double(computed_pairs) * work.pair_operations / attention_rate;
  }
};

}  // namespace sluice

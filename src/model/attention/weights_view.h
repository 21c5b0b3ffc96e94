// The weights of a core whose results are weighted sums of values, for instruments.
#pragma once

#include <memory>
#include <vector>

#include "model/config/heads.h"

namespace sluice {

struct Pass;

// One head of one sequence.
struct HeadWeights {
  std::vector<double> rows;      // [T, T], zeros on keys that a row does not see
  std::vector<double> key_bias;  // [T]: the weight on a key that is no token; empty without one
};

// What a run's weights are computed from, in host memory. Threads may read it at once.
class HostWeights {
 public:
  virtual ~HostWeights() = default;
  // Of the first `positions` queries on their keys.
  virtual HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const = 0;
};

class WeightsView {
 public:
  virtual ~WeightsView() = default;
  // Whether a row's weights are shares of one whole. Where each weight depends on its own score alone, figures that
  // speak of shares take |a_ij| / sum_j |a_ij| instead (arXiv 2410.10781).
  virtual bool normalised() const = 0;
  // Whether weights may be negative: what a position receives from all rows then is no mass.
  virtual bool may_be_negative() const { return false; }
  virtual bool has_bias_key() const = 0;       // a key that is no token
  virtual int64_t reach() const { return 0; }  // as CoreOptions::reach
  // On the device, for every query row [B, H_q, T] acc, after a forward run: the weight on the first position of its
  // document, and that key's score less the mean of the scores between it and the row's own (over both sides: of all
  // others). 0 where there are none, and in rows that do not reach back so far.
  virtual void probe(const Pass& pass, const Heads& heads, const Tensor& first_weight,
                     const Tensor& first_gap) const = 0;
  // After a forward run, while its queries and keys are there.
  virtual std::unique_ptr<HostWeights> read(const Pass& pass, const Heads& heads) const = 0;
};

}  // namespace sluice

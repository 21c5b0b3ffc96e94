// Sums the gradients of all ranks, bucket by bucket, while the backward pass computes the next bucket's. A bucket opens
// with the first of its sections and closes with the last.
//
//   zero   gradients                              after finish()
//   0      every rank has all                     every rank has the sums
//   1      every rank has all                     a rank has the sums of the pieces it keeps
//   2      a bucket's, while it is computed       the same; they are kept beside, from micro-batch to micro-batch
//
// With zero 0 and 1 the exchange runs in a step's last micro-batch. With 2 a bucket's memory is soon another's, so that
// it is exchanged in each: it starts from what the rank keeps (and zero elsewhere), and its sums are kept again.
#pragma once

#include <vector>

#include "model/transformer.h"
#include "ranks/communicator.h"
#include "ranks/partition.h"

namespace sluice {

class GradientExchange final : public GradientListener {
 public:
  GradientExchange(Backend& backend, Params& params, Communicator& ranks, int64_t zero);

  // Before each micro-batch, and after it.
  void begin(bool first, bool last);
  void finish();

  void open(int section) override;
  void close(int section) override;

  // After the last finish(): a rank's share of the squared norm; all shares together are the norm's square.
  double squares() const;
  // The summed gradients of a range of the partition that the optimizer updates.
  Tensor summed(const Partition::Range& range) const;
  size_t bytes() const { return kept_.bytes(); }

 private:
  void open_bucket(int bucket);
  void close_bucket(int bucket);
  Tensor kept(int bucket) const;       // zero 2: what this rank keeps of the bucket
  Tensor own_piece(int bucket) const;  // in the bucket's gradients
  void keep_exchanged();

  Backend& backend_;
  Params& params_;
  Communicator& ranks_;
  const int64_t zero_;
  const Partition shares_;          // equal shares, whatever the optimizer's
  std::vector<int> open_, closed_;  // sections of each bucket, in this micro-batch
  std::vector<int> sections_;       // of each bucket
  Arena kept_;
  bool first_ = true, last_ = true;
  int exchanged_ = -1;  // zero 2: the bucket under way
};

}  // namespace sluice

// Which elements of the flat parameter arenas a rank keeps and updates.
//
// ZeRO (arXiv 1910.02054) by buckets: each bucket is cut into as many equal pieces as there are ranks, and rank r keeps
// piece r of every bucket. What it keeps of a kind (gradients, a moment) lies packed, bucket after bucket, in `kept`
// elements. Without sharding every rank keeps all.
#pragma once

#include <cstdint>
#include <vector>

#include "model/module/params.h"

namespace sluice {

struct Partition {
  // A rank's part of one bucket.
  struct Piece {
    int bucket = 0;
    int64_t flat = 0;  // where it begins in the arenas
    int64_t count = 0;
    int64_t local = 0;  // where it begins among what the rank keeps
  };
  // A piece's elements with weight decay, or those without.
  struct Range {
    int64_t flat = 0, count = 0, local = 0;
    int bucket = 0;
    bool decays = false;
  };

  Partition() = default;
  Partition(const std::vector<ParamBucket>& buckets, int rank, int size);

  std::vector<Piece> pieces;  // one a bucket
  std::vector<Range> ranges;
  int64_t kept = 0;  // elements
};

}  // namespace sluice

#include "ranks/partition.h"

#include <algorithm>

namespace sluice {

Partition::Partition(const std::vector<ParamBucket>& buckets, int rank, int size) {
  for (size_t i = 0; i < buckets.size(); ++i) {
    const ParamBucket& bucket = buckets[i];
    check_eq(bucket.size() % size, int64_t{0}, "a bucket that ranks cannot share evenly");
    const int64_t count = bucket.size() / size, begin = bucket.begin + rank * count, end = begin + count;
    const Piece piece{int(i), begin, count, kept};
    pieces.push_back(piece);
    const int64_t border = std::clamp(bucket.decayed_end, begin, end);
    for (const auto& [first, last, decays] : {std::tuple{begin, border, true}, std::tuple{border, end, false}})
      if (first < last) ranges.push_back({first, last - first, kept + first - begin, int(i), decays});
    kept += count;
  }
}

}  // namespace sluice

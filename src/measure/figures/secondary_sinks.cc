#include "measure/figures/secondary_sinks.h"

#include <algorithm>
#include <cmath>

#include "measure/figures/dot.h"

namespace sluice {
namespace {

constexpr double kAlike = 0.9;  // the least |cos|
constexpr double kLeastBlocks =
    7;  // a secondary sink lives through more than a part of the depth that is one of so many

}  // namespace

SecondarySinks::SecondarySinks(int64_t blocks, int64_t T, int64_t C)
    : blocks_(blocks), T_(T), C_(C), first_(size_t(blocks + 1)), alike_(size_t(blocks + 1)) {}

void SecondarySinks::add(int64_t block, std::span<const float> streams, Mean& share) {
  std::vector<double>& first = first_[size_t(block)];
  std::vector<uint8_t>& alike = alike_[size_t(block)];
  const int64_t N = int64_t(streams.size()) / C_;
  first.clear();
  undefined_.resize(size_t(N / T_));
  if (block == 0) std::fill(undefined_.begin(), undefined_.end(), uint8_t(0));
  alike.assign(size_t(N), 0);
  for (int64_t n = 0; n < N; ++n) {
    const float *h = streams.data() + n * C_, *h0 = streams.data() + n / T_ * T_ * C_;
    const double size = std::sqrt(dot(h, h, C_));
    undefined_[size_t(n / T_)] |= !std::isfinite(size);
    if (n % T_ == 0) {
      first.push_back(size);
      continue;
    }
    const double both = size * first.back();
    alike[size_t(n)] = std::fabs(dot(h, h0, C_)) > kAlike * both;
    share.add(std::isfinite(both) ? alike[size_t(n)] : kNoNumber);
  }
}

void SecondarySinks::add_lifetimes(ModelTotals& totals) const {
  for (size_t sequence = 0; sequence < first_[0].size(); ++sequence) add_lifetimes(sequence, totals);
}

void SecondarySinks::add_lifetimes(size_t sequence, ModelTotals& totals) const {
  const auto size = [&](int64_t block) { return first_[size_t(block)][sequence]; };
  const auto rise = [&](int64_t block) { return size(block) - size(block - 1); };
  int64_t from = 1;
  for (int64_t block = 1; block <= blocks_; ++block)
    if (rise(block) > rise(from)) from = block;
  int64_t to = blocks_ + 1;
  for (int64_t block = from + 1; block <= blocks_; ++block)
    if (rise(block) < (to > blocks_ ? 0 : rise(to))) to = block;
  int64_t secondary = 0, primary_like = 0;
  for (int64_t t = 1; t < T_; ++t) {
    int64_t lifetime = 0;
    for (int64_t block = from; block < to; ++block)
      lifetime += alike_[size_t(block)][sequence * size_t(T_) + size_t(t)];
    if (lifetime == to - from) ++primary_like;
    else if (double(lifetime) * kLeastBlocks > double(blocks_)) ++secondary;
    if (lifetime > 0) totals.secondary_lifetime.add(double(lifetime) / double(blocks_));
  }
  const bool undefined = undefined_[sequence];
  totals.secondary_sinks.add(undefined ? kNoNumber : double(secondary));
  totals.primary_like_sinks.add(undefined ? kNoNumber : double(primary_like));
  if (undefined) totals.secondary_lifetime.add(kNoNumber);
}

}  // namespace sluice

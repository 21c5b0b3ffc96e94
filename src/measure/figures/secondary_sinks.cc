#include "measure/figures/secondary_sinks.h"

#include <algorithm>
#include <cmath>

#include "measure/figures/dot.h"

namespace sluice {
namespace {

constexpr double kAlike = 0.9;  // the least |cos|
constexpr double kLeastBlocks =
    7;  // a secondary sink lives through more than a part of the depth that is one of so many

// Of two vectors with these norms; a vector of zeros points nowhere.
double cosine(double product, double norms) { return norms == 0 ? 0 : product / norms; }

}  // namespace

SecondarySinks::SecondarySinks(int64_t blocks, int64_t T, int64_t C)
    : blocks_(blocks), T_(T), C_(C), first_(size_t(blocks + 1)), alike_(size_t(blocks + 1)), mlp_(size_t(blocks + 1)) {}

void SecondarySinks::add(int64_t block, std::span<const float> streams, LikeFirst* sums) {
  std::vector<double>& first = first_[size_t(block)];
  std::vector<uint8_t>& alike = alike_[size_t(block)];
  std::vector<float>& mlp = mlp_[size_t(block)];
  const int64_t N = int64_t(streams.size()) / C_;
  first.clear();
  undefined_.resize(size_t(N / T_));
  if (block == 0) std::fill(undefined_.begin(), undefined_.end(), uint8_t(0));
  alike.assign(size_t(N), 0);
  for (int64_t n = 0; n < N; ++n) {
    const float *h = streams.data() + n * C_, *h0 = streams.data() + n / T_ * T_ * C_;
    const double size = std::sqrt(dot(h, h, C_));
    undefined_[size_t(n / T_)] |= !std::isfinite(size);
    const bool is_first = n % T_ == 0;
    if (is_first) first.push_back(size);
    const double both = size * first.back();
    if (!is_first) alike[size_t(n)] = std::fabs(dot(h, h0, C_)) > kAlike * both;
    if (!sums) continue;
    if (!is_first) sums->share.add(std::isfinite(both) ? alike[size_t(n)] : kNoNumber);
    const bool is_alike = alike[size_t(n)] != 0;
    (is_first ? sums->first_norm : is_alike ? sums->norm : sums->others_norm).add(size);
    if (mlp.empty()) continue;
    const float* added = mlp.data() + n * C_;
    const double along = std::fabs(cosine(dot(added, h0, C_), std::sqrt(dot(added, added, C_)) * first.back()));
    (is_first ? sums->mlp_of_first : is_alike ? sums->mlp : sums->mlp_of_others).add(along);
  }
  mlp.clear();
}

void SecondarySinks::add_lifetimes(ModelTotals& totals) const {
  SinkPlaces& places = totals.places;
  for (auto* by_position : {&places.secondary, &places.primary_like}) by_position->resize(size_t(T_));
  for (auto* by_block : {&places.lifetimes, &places.starts}) by_block->resize(size_t(blocks_ + 1));
  places.like_first.resize(size_t(blocks_));
  for (std::vector<double>& of_block : places.like_first) of_block.resize(size_t(T_));
  for (size_t sequence = 0; sequence < first_[0].size(); ++sequence) add_lifetimes(sequence, totals);
}

SecondarySinks::Own SecondarySinks::own_blocks(size_t sequence) const {
  const auto size = [&](int64_t block) { return first_[size_t(block)][sequence]; };
  const auto rise = [&](int64_t block) { return size(block) - size(block - 1); };
  int64_t from = 1;
  for (int64_t block = 1; block <= blocks_; ++block)
    if (rise(block) > rise(from)) from = block;
  int64_t to = blocks_ + 1;
  for (int64_t block = from + 1; block <= blocks_; ++block)
    if (rise(block) < (to > blocks_ ? 0 : rise(to))) to = block;
  return {from, to};
}

SecondarySinks::Life SecondarySinks::life(size_t sequence, int64_t t, const Own& own) const {
  Life out;
  for (int64_t block = own.from; block < own.to; ++block)
    if (is_alike(block, sequence, t)) {
      if (out.blocks++ == 0) out.start = block;
    }
  out.primary_like = out.blocks == own.to - own.from;
  out.secondary = !out.primary_like && double(out.blocks) * kLeastBlocks > double(blocks_);
  return out;
}

// Of a sequence some number of which is none nothing is known.
void SecondarySinks::add_lifetimes(size_t sequence, ModelTotals& totals) const {
  if (undefined_[sequence]) return add_no_numbers(totals);
  const Own own = own_blocks(sequence);
  SinkPlaces& places = totals.places;
  int64_t secondary = 0, primary_like = 0;
  for (int64_t t = 1; t < T_; ++t) {
    const Life life = this->life(sequence, t, own);
    for (int64_t block = 1; block <= blocks_; ++block)
      places.like_first[size_t(block - 1)][size_t(t)] += is_alike(block, sequence, t);
    if (life.blocks > 0) totals.secondary_lifetime.add(double(life.blocks) / double(blocks_));
    if (life.primary_like) ++primary_like, ++places.primary_like[size_t(t)];
    if (!life.secondary) continue;
    if (secondary++ == 0) totals.secondary_first_position.add(double(t));
    totals.secondary_blocks.add(double(life.blocks));
    totals.secondary_position.add(double(t));
    totals.secondary_at_second.add(t == 1 ? 1 : 0);
    ++places.secondary[size_t(t)], ++places.lifetimes[size_t(life.blocks)], ++places.starts[size_t(life.start)];
  }
  totals.secondary_sinks.add(double(secondary));
  totals.primary_like_sinks.add(double(primary_like));
}

void SecondarySinks::add_no_numbers(ModelTotals& totals) {
  for (Mean* mean :
       {&totals.secondary_sinks, &totals.primary_like_sinks, &totals.secondary_lifetime, &totals.secondary_blocks,
        &totals.secondary_position, &totals.secondary_at_second, &totals.secondary_first_position})
    mean->add(kNoNumber);
  SinkPlaces& places = totals.places;
  for (auto* sums : {&places.secondary, &places.primary_like, &places.lifetimes, &places.starts})
    std::fill(sums->begin(), sums->end(), kNoNumber);
  for (std::vector<double>& of_block : places.like_first) std::fill(of_block.begin(), of_block.end(), kNoNumber);
}

}  // namespace sluice

#include "model/attention/cores/permuted_rows.h"

#include <algorithm>

#include "kernels/host_copy.h"

namespace sluice {

PermutedRows::PermutedRows(const LayerPlace& place, int64_t reach, int64_t seed)
    : sizes_(place.projected),
      reach_(std::min(reach, place.d.config.context)),
      permutation_{.seed = uint64_t(seed),
                   .stream = uint64_t(Stream::kWindowOrder) + uint64_t(place.layer),
                   .size = uint64_t(place.d.config.context)},
      slots_(permutation_.size) {
  for (uint64_t slot = 0; slot < permutation_.size; ++slot) {
    places_.push_back(int32_t(permutation_(slot)));
    slots_[size_t(places_.back())] = int32_t(slot);
  }
  const Declarations& d = place.d;
  const int64_t N = d.max_tokens(), columns = sizes_.projected_columns() + sizes_.result_columns();
  const int64_t most = std::min(2 * reach_ - 1, d.config.context);
  const Timeline& time = d.timeline;
  const int back = time.attention_backward(place.layer);
  order_ = d.attention_activation(place.layer, place.name + ".order", "statistics", {kOrderPlanes, N}, DType::kI32);
  rows_ = d.plan.declare(place.name + ".ordered", "scratch", {N, columns}, d.act,
                         {time.attention(place.layer), time.mlp(place.layer)},
                         Lifetime{time.mlp_backward(place.layer), back});
  d_rows_ = d.plan.declare(place.name + ".d_ordered", "scratch", {N, columns}, d.act, {back, back});
  seen_ = d.states.declare({most, sizes_.key_columns() + sizes_.value_columns()}, d.act);
  list_ = d.states.declare({most, 1}, DType::kI32);
}

void PermutedRows::find_order(const Pass& pass) const {
  pass.backend.run(WindowOrder{
      .permutation = permutation_, .T = pass.T, .reach = reach_, .first_key = pass.first_key, .order = order(pass)});
}

Heads PermutedRows::columns(const Tensor& rows) const {
  const int64_t queries = sizes_.query_columns(), keys = sizes_.key_columns(), values = sizes_.value_columns();
  return {.q = rows.columns(0, queries),
          .k = rows.columns(queries, keys),
          .v = rows.columns(queries + keys, values),
          .out = rows.columns(queries + keys + values, sizes_.result_columns())};
}

void PermutedRows::gather(const Pass& pass, const Tensor& out, const Tensor& x) const {
  pass.backend.run(GatherRows{.sequences = pass.B, .x = x, .index = index(pass, OrderPlane::kPlace), .out = out});
}

Heads PermutedRows::ordered(const Pass& pass, const Heads& heads, bool results) const {
  const Heads out = columns(pass.view(rows_, {pass.N(), sizes_.projected_columns() + sizes_.result_columns()}));
  gather(pass, out.q, heads.q);
  gather(pass, out.k, heads.k);
  gather(pass, out.v, heads.v);
  if (results) gather(pass, out.out, heads.out);
  return out;
}

Heads PermutedRows::ordered_gradients(const Pass& pass, const Tensor& d_out) const {
  const Heads out = columns(pass.view(d_rows_, {pass.N(), sizes_.projected_columns() + sizes_.result_columns()}));
  gather(pass, out.out, d_out);
  return out;
}

void PermutedRows::put_back(const Pass& pass, const Tensor& to, const Tensor& ordered) const {
  pass.backend.run(GatherRows{.sequences = pass.B, .x = ordered, .index = index(pass, OrderPlane::kRow), .out = to});
}

void PermutedRows::put_numbers_back(const Pass& pass, const Tensor& numbers) const {
  const std::vector<double> ordered = host_numbers(pass.backend, numbers);
  std::vector<double> out;
  for (size_t first = 0; first < ordered.size(); first += size_t(pass.T)) {
    out.resize(first + size_t(pass.T));
    for (size_t row = first; const int32_t place : places_)
      if (place < pass.T) out[first + size_t(place)] = ordered[row++];
  }
  upload_numbers(pass.backend, numbers, out);
}

PermutedRows::Kept PermutedRows::seen(const Pass& pass, const Kept& all) const {
  const int64_t own = pass.first_position, slot = slots_[size_t(own)];
  const int64_t end = std::min(slot + reach_, int64_t(places_.size()));
  std::vector<int32_t> list;
  for (int64_t s = std::max<int64_t>(slot - reach_ + 1, 0); s < end; ++s)
    if (places_[size_t(s)] <= own) list.push_back(places_[size_t(s)]);
  const int64_t count = int64_t(list.size());
  list.resize(size_t(pass.B * count));
  for (int64_t b = 1; b < pass.B; ++b) std::copy_n(list.begin(), count, list.begin() + b * count);
  const Tensor index = pass.state->view(list_).row_range(0, pass.B * count);
  pass.backend.upload(index, list.data());
  const Tensor rows = pass.state->view(seen_).row_range(0, pass.B * count);
  const Kept out = {rows.columns(0, sizes_.key_columns()), rows.columns(sizes_.key_columns(), sizes_.value_columns()),
                    count};
  pass.backend.run(GatherRows{.sequences = pass.B, .x = all.k, .index = index, .out = out.k});
  pass.backend.run(GatherRows{.sequences = pass.B, .x = all.v, .index = index, .out = out.v});
  return out;
}

}  // namespace sluice

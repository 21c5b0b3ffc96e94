#include "model/module/params.h"

#include <algorithm>

#include "base/name_hash.h"
#include "base/philox.h"

namespace sluice {

Tensor slice(const Tensor& flat, int64_t first, int64_t count) {
  return flat ? flat.reshaped({flat.elements(), 1}).row_range(first, count).reshaped({count}) : Tensor{};
}

ParamId Params::declare(std::string name, Shape shape, Init init, DecayGroup group, std::vector<int64_t> matrices) {
  check(!find(name), "a parameter is declared twice");
  specs_.push_back({.name = std::move(name),
                    .shape = shape,
                    .init = init,
                    .group = group,
                    .matrices = std::move(matrices),
                    .section = last_section_});
  return {int(specs_.size()) - 1};
}

namespace {

int64_t rounded_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

}  // namespace

// The last bucket is full with `least` parameters; the first has one section alone.
void Params::cut_buckets(int64_t least) {
  std::vector<int64_t> counts(size_t(sections()), 0);
  for (const ParamSpec& spec : specs_) counts[size_t(spec.section)] += spec.shape.elements();
  int64_t in_last = least;
  bucket_of_.assign(counts.size(), 0);
  for (size_t section = 1; section < counts.size() && least > 0; ++section) {
    const bool full = in_last >= least;
    bucket_of_[section] = bucket_of_[section - 1] + full;
    in_last = (full ? 0 : in_last) + counts[section];
  }
}

void Params::lay_out(const std::vector<DecayGroup>& decayed, const GradientLayout& layout) {
  cut_buckets(layout.bucket_parameters);
  for (int index = 0; index <= bucket_of_.back(); ++index) {
    ParamBucket bucket{total_, 0, 0};
    for (const bool wanted : {true, false}) {
      for (ParamSpec& spec : specs_) {
        if (bucket_of(spec.section) != index) continue;
        spec.decays = std::find(decayed.begin(), decayed.end(), spec.group) != decayed.end();
        if (spec.decays != wanted) continue;
        spec.offset = total_;
        total_ += rounded_up(spec.shape.elements(), 16);
      }
      if (wanted) bucket.decayed_end = total_;
    }
    bucket.end = total_ = bucket.begin + rounded_up(total_ - bucket.begin, layout.multiple);
    buckets_.push_back(bucket);
  }
}

void Params::allocate(Backend& backend, DType act, Grads grads) {
  act_ = act;
  const size_t bytes = size_t(total_) * size_of(accumulator_of(act));
  values_ = Arena(backend, bytes);
  bucket_grads_.resize(buckets_.size());
  if (grads == Grads::kOwn) {
    grads_ = Arena(backend, bytes);
    for (size_t i = 0; i < buckets_.size(); ++i)
      bucket_grads_[i] = slice(all_grads(), buckets_[i].begin, buckets_[i].size());
  }
  if (act != accumulator_of(act)) copies_ = Arena(backend, size_t(total_) * size_of(act));
}

void Params::place_grads(int bucket, const Tensor& buffer) {
  check_eq(buffer.elements(), buckets_[size_t(bucket)].size(), "place_grads: elements of the bucket");
  bucket_grads_[size_t(bucket)] = buffer;
}

Tensor Params::grad(ParamId id) const {
  if (!id) return {};
  const ParamSpec& spec = specs_[size_t(id.index)];
  const size_t bucket = size_t(bucket_of(spec.section));
  const int64_t first = spec.offset - buckets_[bucket].begin;
  return slice(bucket_grads_[bucket], first, spec.shape.elements()).reshaped(spec.shape);
}

namespace {

// A parameter's own random stream.
uint64_t stream_of(const std::string& name) { return uint64_t(Stream::kInit) | name_hash(name); }

}  // namespace

void Params::initialise(Backend& backend, uint64_t seed) {
  for (size_t i = 0; i < specs_.size(); ++i) {
    const ParamSpec& spec = specs_[i];
    const Tensor out = value({int(i)});
    switch (spec.init.kind) {
      case Init::Kind::kConstant: backend.run(Fill{out, spec.init.value}); break;
      case Init::Kind::kUniform:
        backend.run(RandomUniform{out, seed, stream_of(spec.name), -spec.init.value, spec.init.value});
        break;
      case Init::Kind::kNormal: backend.run(RandomNormal{out, seed, stream_of(spec.name), 0, spec.init.value}); break;
    }
  }
  refresh_compute_copy(backend);
}

void Params::refresh_compute_copy(Backend& backend) {
  if (copies_.bytes()) backend.run(Copy{all_copies(), all_values()});
}

ParamId Params::find(const std::string& name) const {
  const auto found = std::find_if(specs_.begin(), specs_.end(), [&](const ParamSpec& s) { return s.name == name; });
  return found == specs_.end() ? ParamId{} : ParamId{int(found - specs_.begin())};
}

int64_t Params::count() const {
  int64_t n = 0;
  for (const ParamSpec& spec : specs_) n += spec.shape.elements();
  return n;
}

Tensor Params::at(const Arena& arena, DType dtype, ParamId id) const {
  const ParamSpec& spec = specs_[size_t(id.index)];
  return arena.at(size_t(spec.offset) * size_of(dtype), dtype, spec.shape);
}

}  // namespace sluice

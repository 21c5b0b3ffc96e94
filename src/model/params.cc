#include "model/params.h"

#include <algorithm>

#include "base/philox.h"

namespace sluice {

ParamId Params::declare(std::string name, Shape shape, Init init, DecayGroup group) {
  check(!find(name), "a parameter is declared twice");
  specs_.push_back({std::move(name), shape, init, group});
  return {int(specs_.size()) - 1};
}

void Params::allocate(Backend& backend, DType act, const std::vector<DecayGroup>& decayed, bool training) {
  act_ = act;
  for (const bool wanted : {true, false}) {
    for (ParamSpec& spec : specs_) {
      spec.decays = std::find(decayed.begin(), decayed.end(), spec.group) != decayed.end();
      if (spec.decays != wanted) continue;
      spec.offset = total_;
      total_ += (spec.shape.elements() + 15) / 16 * 16;
    }
    if (wanted) decayed_ = total_;
  }
  const size_t bytes = size_t(total_) * size_of(accumulator_of(act));
  values_ = Arena(backend, bytes);
  if (training) grads_ = Arena(backend, bytes);
  if (act != accumulator_of(act)) copies_ = Arena(backend, size_t(total_) * size_of(act));
}

namespace {

// FNV-1a of the name: a parameter's own random stream.
uint64_t stream_of(const std::string& name) {
  uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ uint8_t(c)) * 16777619u;
  return uint64_t(Stream::kInit) | hash;
}

}  // namespace

void Params::initialise(Backend& backend, uint64_t seed) {
  for (size_t i = 0; i < specs_.size(); ++i) {
    const ParamSpec& spec = specs_[i];
    const Tensor out = value({int(i)});
    switch (spec.init.kind) {
      case Init::Kind::kConstant: backend.fill(out, spec.init.value); break;
      case Init::Kind::kUniform:
        backend.random_uniform(out, seed, stream_of(spec.name), -spec.init.value, spec.init.value);
        break;
      case Init::Kind::kNormal: backend.random_normal(out, seed, stream_of(spec.name), 0, spec.init.value); break;
    }
  }
  refresh_compute_copy(backend);
}

void Params::refresh_compute_copy(Backend& backend) {
  if (copies_.bytes()) backend.copy(all_copies(), all_values());
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

// The random numbers that golden values were computed from, as tests/golden/make_golden.py draws them.
#pragma once

#include <string>

#include "base/philox.h"
#include "model/parity.h"

namespace sluice {

inline constexpr uint64_t kGoldenStream = uint64_t{0x601D} << 32;
inline constexpr uint32_t kTokens = 1, kSigns = 2;

inline uint32_t name_hash(const std::string& name) {
  uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ uint8_t(c)) * 16777619u;
  return hash;
}

inline uint32_t golden_word(uint64_t seed, uint32_t what, size_t i) {
  return philox(seed, kGoldenStream | what, i / 4).word[i % 4];
}

// Moves every value, so that what starts at 0 or 1 is tested away from there.
inline void scatter_values(Transformer& model, uint64_t seed, double scatter) {
  for (const ParamSpec& spec : model.params().specs()) {
    parity::Values values = parity::parameter(model, spec.name);
    for (size_t i = 0; i < values.size(); ++i)
      values[i] += scatter * (2 * double(uniform24(golden_word(seed, name_hash(spec.name), i))) - 1);
    parity::assign(model.params().value(parity::named(model, spec.name)), values);
  }
}

}  // namespace sluice

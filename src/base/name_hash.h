// A number for a name: what is drawn for a parameter or a place of the model depends on its name, not on its order.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

// FNV-1a, 32 bits.
inline uint32_t name_hash(const std::string& name) {
  uint32_t hash = 2166136261u;
  for (const char c : name) hash = (hash ^ uint8_t(c)) * 16777619u;
  return hash;
}

}  // namespace sluice

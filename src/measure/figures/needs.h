// What a figure takes to exist, of a layer; several where it takes all of them.
#pragma once

namespace sluice {

enum class Needs : unsigned {
  kNothing = 0,
  kWeights = 1,
  kGate = 2,
  kBiasKey = 4,
  kGradient = 8,
  kGatePath = 16,
  kRegisters = 32,
  kHeads = 64,
  kMass = 128  // weights, none of them negative
};
constexpr Needs operator|(Needs a, Needs b) { return Needs(unsigned(a) | unsigned(b)); }
constexpr bool holds(Needs all, Needs some) { return (unsigned(all) & unsigned(some)) == unsigned(some); }

}  // namespace sluice

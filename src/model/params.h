// Parameters: declared by modules, laid out in one flat arena per kind (values, gradients, optimizer moments, and for
// bf16 a copy that the matmuls read).
//
// The order in the arenas is: parameters with weight decay, then those without, so that each group is one range. A
// parameter's initial values depend on the seed and its name alone: two variants share the start of what they share.
#pragma once

#include <string>
#include <vector>

#include "kernels/arena.h"
#include "kernels/backend.h"

namespace sluice {

struct ParamId {
  int index = -1;
  explicit operator bool() const { return index >= 0; }
};

struct Init {
  enum class Kind { kConstant, kUniform, kNormal } kind = Kind::kConstant;
  double value = 0;  // the constant, the bound of [-value, value), or the standard deviation

  static Init constant(double value) { return {Kind::kConstant, value}; }
  static Init uniform(double bound) { return {Kind::kUniform, bound}; }
  static Init normal(double deviation) { return {Kind::kNormal, deviation}; }
};

// What weight decay is decided by.
enum class DecayGroup { kMatrix, kEmbedding, kNorm, kVector };

struct ParamSpec {
  std::string name;
  Shape shape;
  Init init;
  DecayGroup group;
  bool decays = true;
  int64_t offset = 0;  // in elements, into every arena
};

class Params {
 public:
  ParamId declare(std::string name, Shape shape, Init init, DecayGroup group);

  // Fixes offsets (each a multiple of 16 elements) and allocates on the backend. `decayed` says which groups decay;
  // `training` adds gradients.
  void allocate(Backend& backend, DType act, const std::vector<DecayGroup>& decayed, bool training);
  void initialise(Backend& backend, uint64_t seed);
  // After values were changed from outside (a checkpoint): refreshes the bf16 copy.
  void refresh_compute_copy(Backend& backend);

  const std::vector<ParamSpec>& specs() const { return specs_; }
  ParamId find(const std::string& name) const;   // an empty id if there is none
  int64_t count() const;                         // parameters, without padding
  int64_t padded_count() const { return total_; }
  int64_t decayed_count() const { return decayed_; }  // elements of the range with weight decay
  size_t bytes() const { return values_.bytes() + grads_.bytes() + copies_.bytes(); }

  Tensor value(ParamId id) const { return id ? at(values_, accumulator_of(act_), id) : Tensor{}; }
  Tensor grad(ParamId id) const { return id ? at(grads_, accumulator_of(act_), id) : Tensor{}; }
  Tensor weight(ParamId id) const { return copies_.bytes() ? at(copies_, act_, id) : value(id); }  // what matmuls read

  Tensor all_values() const { return values_.at(0, accumulator_of(act_), {total_}); }
  Tensor all_grads() const { return grads_.at(0, accumulator_of(act_), {total_}); }
  Tensor all_copies() const { return copies_.bytes() ? copies_.at(0, act_, {total_}) : Tensor{}; }

 private:
  Tensor at(const Arena& arena, DType dtype, ParamId id) const;

  std::vector<ParamSpec> specs_;
  Arena values_, grads_, copies_;
  DType act_ = DType::kF32;
  int64_t total_ = 0, decayed_ = 0;
};

}  // namespace sluice

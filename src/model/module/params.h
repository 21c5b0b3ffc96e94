// Parameters: declared by modules, laid out in one flat arena per kind (values, gradients, optimizer moments, and for
// bf16 a copy that the matmuls read).
//
// A model declares its parameters in sections, each of what is final at the same time of the backward pass. The arenas
// are one bucket or, where several ranks exchange gradients, a row of buckets of whole sections: the owner of the model
// asks for them by a GradientLayout, the model knows sections alone. In a bucket the parameters with weight decay come
// first, so that each kind is one range. A parameter's initial values depend on the seed and its name alone: two
// variants share the start of what they share.
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
  std::vector<int64_t> matrices;  // rows of each hidden matrix that is stacked in it; empty: it is none
  bool decays = true;
  int section = 0;
  int64_t offset = 0;  // in elements, into every arena
};

// How gradients are cut and where they lie.
struct GradientLayout {
  // Buckets: the first section, and then as many sections as have so many parameters together; 0: all are one bucket.
  int64_t bucket_parameters = 0;
  int64_t multiple = 16;  // of a bucket's length, itself a multiple of 16, so that ranks can share it evenly
  bool passing = false;   // among the step's buffers, each bucket's from its first use until the next one closes
};

// A range of the arenas, in elements.
struct ParamBucket {
  int64_t begin = 0, decayed_end = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// Elements [first, first + count) of a flat tensor, which may be absent.
Tensor slice(const Tensor& flat, int64_t first, int64_t count);

class Params {
 public:
  ParamId declare(std::string name, Shape shape, Init init, DecayGroup group, std::vector<int64_t> matrices = {});

  // What is declared from now on belongs to the next section. Returns its number; that of the first is 0.
  int begin_section() { return ++last_section_; }

  // Fixes offsets, each a multiple of 16 elements. `decayed` says which groups decay.
  void lay_out(const std::vector<DecayGroup>& decayed, const GradientLayout& layout = {});
  // After lay_out(). kAside: the gradients lie in buffers of the caller's, see place_grads().
  enum class Grads { kNone, kOwn, kAside };
  void allocate(Backend& backend, DType act, Grads grads);
  void place_grads(int bucket, const Tensor& buffer);
  void initialise(Backend& backend, uint64_t seed);
  // After values were changed from outside (a checkpoint): refreshes the bf16 copy.
  void refresh_compute_copy(Backend& backend);

  const std::vector<ParamSpec>& specs() const { return specs_; }
  ParamId find(const std::string& name) const;  // an empty id if there is none
  int64_t count() const;                        // parameters, without padding
  int64_t padded_count() const { return total_; }
  const std::vector<ParamBucket>& buckets() const { return buckets_; }
  int bucket_of(int section) const { return bucket_of_[size_t(section)]; }
  int sections() const { return last_section_ + 1; }
  size_t bytes() const { return values_.bytes() + grads_.bytes() + copies_.bytes(); }

  Tensor value(ParamId id) const { return id ? at(values_, accumulator_of(act_), id) : Tensor{}; }
  Tensor grad(ParamId id) const;
  Tensor weight(ParamId id) const { return copies_.bytes() ? at(copies_, act_, id) : value(id); }  // what matmuls read

  Tensor all_values() const { return values_.at(0, accumulator_of(act_), {total_}); }
  Tensor all_grads() const { return grads_.at(0, accumulator_of(act_), {total_}); }  // Grads::kOwn
  Tensor bucket_grads(int bucket) const { return bucket_grads_[size_t(bucket)]; }
  Tensor all_copies() const { return copies_.bytes() ? copies_.at(0, act_, {total_}) : Tensor{}; }

 private:
  void cut_buckets(int64_t least);
  Tensor at(const Arena& arena, DType dtype, ParamId id) const;

  std::vector<ParamSpec> specs_;
  Arena values_, grads_, copies_;
  std::vector<ParamBucket> buckets_;
  std::vector<int> bucket_of_;  // of each section
  std::vector<Tensor> bucket_grads_;
  DType act_ = DType::kF32;
  int last_section_ = 0;
  int64_t total_ = 0;
};

}  // namespace sluice

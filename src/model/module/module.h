// What modules are given: Declarations while the model is put together, a Pass while it runs.
//
// A module declares its parameters and buffers in its constructor, with each buffer's first and last use on the step's
// timeline; nothing is allocated by a module. `forward` and `backward` are written by hand and only call Backend ops.
#pragma once

#include <string>

#include "base/batch.h"
#include "kernels/arena.h"
#include "kernels/backend.h"
#include "model/config/config.h"
#include "model/module/activation_hook.h"
#include "model/module/decoder_state.h"
#include "model/module/moving_averages.h"
#include "model/module/params.h"
#include "model/module/part_losses.h"

namespace sluice {

// Ticks of one training step: embedding, then per layer attention and MLP, the head, and the same backwards.
struct Timeline {
  int layers;
  int embedding() const { return 0; }
  int attention(int layer) const { return 1 + 2 * layer; }
  int mlp(int layer) const { return 2 + 2 * layer; }
  int head() const { return 1 + 2 * layers; }
  int mlp_backward(int layer) const { return 2 * head() - mlp(layer); }
  int attention_backward(int layer) const { return 2 * head() - attention(layer); }
  int embedding_backward() const { return 2 * head(); }
  int end() const { return embedding_backward(); }

  // Sublayers are counted in the same order: attention and MLP of every layer, then the head.
  int attention_sublayer(int layer) const { return 2 * layer; }
  int mlp_sublayer(int layer) const { return 2 * layer + 1; }
  int head_sublayer() const { return 2 * layers; }
  int forward(int sublayer) const { return 1 + sublayer; }
  int backward(int sublayer) const { return 2 * head() - forward(sublayer); }
};

// What the backward pass computes again instead of keeping it from the forward pass (arXiv 1604.06174), besides norms
// and activation functions, which are always cheaper to recompute than to keep.
enum class Recompute : uint8_t {
  kNone,
  kMlp,    // the MLP's first product
  kBlock,  // everything inside a block: only its input is kept
};

struct Declarations {
  const ModelConfig& config;
  Backend& backend;
  DType act;
  int64_t max_batch;  // sequences of one micro-batch
  Timeline timeline;
  Params& params;
  MemoryPlan& plan;
  StatePlan& states;  // what a decoder keeps of the tokens so far
  MovingAverages& averages;
  PartLosses& losses;
  Recompute recompute = Recompute::kNone;
  BufferId rope_table = {};  // [context, D], see Rope; absent without rotary positions

  int64_t max_tokens() const { return max_batch * config.rows(); }  // registers included
  DType acc() const { return accumulator_of(act); }

  // A buffer that is written in `forward` and read in `backward`: kept in between, or recomputed.
  BufferId activation(std::string name, std::string kind, Shape shape, DType dtype, Lifetime forward, Lifetime backward,
                      bool recomputed) const;
  // One of a layer's attention. It lasts until the block has run, to be looked at; a recomputed block writes it again
  // before the backward pass of its MLP.
  BufferId attention_activation(int layer, std::string name, std::string kind, Shape shape, DType dtype) const;

  // A linear layer's weight [out, in]; `residual` marks the projections back into the residual stream. `matrices`: the
  // rows of each of the hidden layers' matrices that are stacked in it, which optimizers may treat as such.
  ParamId linear(const std::string& name, int64_t out, int64_t in, bool residual = false,
                 std::vector<int64_t> matrices = {}) const;
  // Its bias [out], absent where the model has none there.
  ParamId linear_bias(const std::string& name, int64_t out, int64_t in, bool present) const;
};

// Is told how far the gradients are, section by section (Params::begin_section) from the last to the first. Only the
// section of a tied embedding is open beside others: its gradient begins at the head and ends with the embedding.
class GradientListener {
 public:
  virtual ~GradientListener() = default;
  virtual void open(int section) = 0;   // before the first gradient in it is computed
  virtual void close(int section) = 0;  // after the last: the micro-batch adds nothing more to it
};

struct Pass;

// What a linear layer multiplies.
struct LinearOperands {
  Tensor x;       // [N, in]; of a gate that reads each head's slice, all slices
  Tensor weight;  // [out, in]
};

// Stands before the products of the linear layers, where a model has been given one: it sees what they multiply, and
// may put something else in its place. The output matrix is no such layer.
class LinearHook {
 public:
  virtual ~LinearHook() = default;
  // Like `given` in shape and type, and valid until the next call.
  virtual LinearOperands operands(const Pass& pass, ParamId weight, const LinearOperands& given) = 0;
  // Who is shown what is between the products, at present; null: nobody.
  virtual ActivationHook* activations() { return nullptr; }
};

// Looks at a pass from between its ops; what it is shown holds until it returns. See Transformer::observe.
class PassObserver {
 public:
  virtual ~PassObserver() = default;
  // A block has run: its attention's tensors, and the residual stream before it. scratch().normed is free.
  virtual void after_block(const Pass& pass, int64_t layer) = 0;
  // A sublayer of the layer has run: what its norm made of the stream, and what it puts out, [N, C] both.
  virtual void after_attention(const Pass& pass, int64_t layer, const Tensor& normed, const Tensor& output) = 0;
  virtual void after_mlp(const Pass& pass, int64_t layer, const Tensor& normed, const Tensor& output) = 0;
  // The final residual is there; scratch().normed is the head's input.
  virtual void after_forward(const Pass& pass) = 0;
  // dL/dV [N, KV*D] of a layer's values as they are projected. Where a gate reads the values this is called twice:
  // before the gate's path has been added to the content's, and after.
  virtual void value_gradient(const Pass& pass, int64_t layer, const Tensor& d_values, bool whole) = 0;
  // dL/dx [N, C] of what the layer's attention reads: its norm's output. Whole.
  virtual void input_gradient(const Pass& pass, int64_t layer, const Tensor& d_input) = 0;
};

// One run over a micro-batch of B sequences of T rows: tokens, and before them registers where the model has some.
struct Pass {
  Backend& backend;
  const Params& params;
  const MemoryPlan& plan;
  const Arena& arena;
  const MovingAverages& averages;
  const PartLosses& losses;
  Batch batch;  // as it runs, on the host; registers' tokens are negative, and nothing is predicted there
  int64_t B, T;
  bool accumulate = false;  // add to the parameters' gradients instead of overwriting them
  LinearHook* hook = nullptr;
  PassObserver* observer = nullptr;
  Tensor first_key = {};                // [N] i32, absent without document masking: see AttentionForward
  Tensor last_key = {};                 // [N] i32, absent where the model is causal
  const DecoderState* state = nullptr;  // decoding: the tokens follow those that it holds
  int64_t first_position = 0;           // of the tokens in their sequences: how many these are
  // Of the tokens of a step of learning, what this micro-batch has. 0: nothing is learned.
  double share = 0;
  Tensor dropout_keys = {};  // [B, 2] i32 in a pass that drops values: DropoutMask
  bool again = false;        // what is run forward has run before: the backward pass needs what it makes once more

  int64_t N() const { return B * T; }
  ActivationHook* activations() const { return hook ? hook->activations() : nullptr; }
  void show(int sublayer, Shown what, const Tensor& x) const {
    if (ActivationHook* shown = activations()) shown->tensor(*this, {sublayer, what}, x);
  }
  // Whether a part adds to its losses and averages in this forward pass.
  bool counts() const { return share > 0 && !again; }
  Pass once_more() const {
    Pass pass = *this;
    pass.again = true;
    return pass;
  }
  // [1] acc: to it a part adds `share` times its loss, a mean over the micro-batch's tokens, where counts().
  Tensor loss(PartLossId id) const;
  // In the backward pass: what that mean's gradient is multiplied with.
  double loss_scale(PartLossId id) const { return share * losses.weight(id); }
  // A declared buffer as `shape`, which may be smaller than planned.
  Tensor view(BufferId id, Shape shape) const;

  // x and the weight, or what the hook puts in their place.
  LinearOperands operands(const Tensor& x, ParamId weight) const;
  // out = x W^T + b;  x [N, in], W [out, in]
  void linear(const Tensor& out, const Tensor& x, ParamId weight, ParamId bias) const;
  // d_x (+)= d_out W; the weight's and bias's gradients from x and d_out. d_x may be absent.
  void linear_backward(const Tensor& d_x, bool add_to_d_x, const Tensor& d_out, const Tensor& x, ParamId weight,
                       ParamId bias, const Tensor& workspace) const;
};

}  // namespace sluice

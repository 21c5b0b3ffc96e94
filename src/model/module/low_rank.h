// A linear layer that may have a low rank: x W^T, or f(x D^T + b) U^T with as many rows of D as the rank says, f silu,
// relu or nothing, b mostly nothing. Gates have their logits by it.
//
// It may go by heads: each head then has rows of its own in W, and a low rank of its own, which no other head's rows
// see. With `slices` a head also reads its own slice of x alone.
#pragma once

#include <optional>

#include "model/module/module.h"

namespace sluice {

// A buffer's ticks in the forward and the backward pass, and whether it is recomputed or kept in between.
struct BufferUses {
  Lifetime forward, backward;
  bool recomputed;
};

struct ByHeads {
  int64_t heads = 0;  // 0: it does not
  bool slices = false;
};

// Between the two products.
struct BetweenRanks {
  std::optional<Activation> activation = Activation::kSilu;
  bool bias = false;  // NAME.down.bias, before it
};

class LowRankLinear {
 public:
  LowRankLinear() = default;
  // Parameters NAME.weight [columns, inputs], or for a rank above 0 NAME.down.weight [rank, inputs] and NAME.up.weight
  // [columns, rank]; by heads [heads * rank, inputs] and [columns, rank]. Where heads read slices, `inputs` are the
  // features of one. `uses` of what lies between them.
  LowRankLinear(const Declarations& d, const std::string& name, int64_t columns, int64_t inputs, int64_t rank,
                const BufferUses& uses, ByHeads by = {}, const BetweenRanks& between = {});

  void forward(const Pass& pass, const Tensor& out, const Tensor& x, ParamId bias) const;
  // d_x += the gradient at x.
  void backward(const Pass& pass, const Tensor& d_x, const Tensor& d_out, const Tensor& x, ParamId bias,
                const Tensor& workspace) const;

 private:
  // One product: with a weight for all, or, heads above 0, each head's slice of x with its own rows.
  struct Product {
    ParamId weight;
    int64_t heads = 0;
    void forward(const Pass& pass, const Tensor& out, const Tensor& x, ParamId bias) const;
    void backward(const Pass& pass, const Tensor& d_x, bool add_to_d_x, const Tensor& d_out, const Tensor& x,
                  ParamId bias, const Tensor& workspace) const;
  };
  bool is_low() const { return between_ > 0; }
  Tensor of_rank(const Pass& pass, BufferId id) const { return pass.view(id, {pass.N(), between_}); }

  int64_t between_ = 0;   // columns between the two products; 0: there is one
  Product first_, last_;  // D and U; W is `last_`
  ParamId down_bias_;
  std::optional<Activation> activation_;
  BufferId hidden_, active_,
      d_hidden_;  // [N, between]: x D^T + b, f of it if there is one, the gradients of both in turn
};

}  // namespace sluice

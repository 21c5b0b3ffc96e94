// How tokens mix: a core makes a result for each query of the queries, keys and values of the tokens up to it.
//
// A core declares its own parameters (a sink's logit, a key of its own), buffers (statistics of rows) and what a
// decoder must keep for it (Declarations::states: rows of keys and values, or a matrix) in its constructor. It stands
// in the list of parts.h, and nothing else in the project knows its name.
#pragma once

#include "model/attention/weights_view.h"
#include "model/config/heads.h"
#include "model/module/module.h"

namespace sluice {

class Core {
 public:
  virtual ~Core() = default;

  // heads.out from q, k and v of whole sequences. Rows see what is before them, and with pass.first_key only their
  // document.
  virtual void forward(const Pass& pass, const Heads& heads) const = 0;
  // From d.out: d.q, d.k and d.v, overwritten, and the gradients of the core's parameters. `heads` as forward() left
  // them.
  virtual void backward(const Pass& pass, const Heads& heads, const Heads& d) const = 0;
  // The path through what it read of the layer's input: d_x += it. Called after backward().
  virtual void backward_input(const Pass& /*pass*/, const Tensor& /*d_x*/, const Tensor& /*x*/,
                              const Tensor& /*workspace*/) const {}
  // heads.out of tokens that follow those in pass.state, which then holds them too: one a sequence, or several where
  // they are the first. At pass.first_position 0 a core starts anew, whatever the state holds.
  virtual void extend(const Pass& pass, const Heads& heads) const = 0;

  // What instruments may see of it; null where results are no weighted sums of values.
  virtual const WeightsView* weights() const { return nullptr; }
};

}  // namespace sluice

// How sublayers are joined: what each of them reads of the embedding and of what those before it have put out.
//
// Sublayers are counted in the order of the forward pass (Timeline::attention_sublayer and its like): attention and MLP
// of every layer, then the head, which reads and puts out nothing. The stream at a sublayer is what its norm
// normalises, [N, C]. A residual declares its own parameters and buffers, and so it says how long what it needs stays.
// It stands in the list of parts.h, and nothing else in the project knows its name.
//
//   forward:   start | input, output, add of every sublayer in order | input of the head
//   backward:  d_input, backward of the head | d_output, d_input, backward of every sublayer from the last | d_start
//
// With parallel_residual an MLP reads the stream at its layer's attention. Of its own input the sum alone is made, and
// the backward pass asks for the d_output of both, then for d_input and backward of the attention: both norms add
// there.
#pragma once

#include "model/module/module.h"
#include "model/module/norm.h"

namespace sluice {

class Residual {
 public:
  virtual ~Residual() = default;

  // Called once for every sublayer in order, where that declares what it needs: parameters whose gradients its
  // backward() writes, and buffers.
  virtual void declare(const Declarations& d, int sublayer) = 0;
  // A buffer [N, C] that blocks share: a sublayer may put out to it what is taken up before the next one does. Told
  // once, when it has been declared.
  void set_scratch(BufferId delta) { scratch_ = delta; }

  // Where the embedding goes.
  virtual Tensor start(const Pass& pass) const = 0;
  // The stream at the sublayer, as its norm takes it: the norm adds what is not added yet. No x where nobody needs it
  // (an MLP's with parallel_residual). A recomputed block asks for its MLP's once more before its backward pass, after
  // what its attention puts out is there again and has been added again.
  virtual NormInput input(const Pass& pass, int sublayer) const = 0;
  // Where the norm leaves what it has made of that, from where the sublayer reads it: `scratch`, or where it is also
  // the stream. Until the sublayer has put out.
  virtual Tensor normed(const Pass& /*pass*/, int /*sublayer*/, const Tensor& scratch) const { return scratch; }
  // Where the sublayer leaves what it puts out.
  virtual Tensor output(const Pass& pass, int sublayer) const = 0;
  // The sublayer has put out. Nothing to do where the next input() takes it up.
  virtual void add(const Pass& /*pass*/, int /*sublayer*/) const {}

  // The stream at the sublayer, whole: kept, or made again. For its backward pass (of a recomputed block's MLP: after
  // the input() for it), and of attention and head for instruments, from when it has been read until the next pass. It
  // holds until another one is asked for.
  virtual Tensor stream_at(const Pass& pass, int sublayer) const = 0;

  // The gradient of what the sublayer put out; it holds until the sublayer's d_input.
  virtual Tensor d_output(const Pass& pass, int sublayer) const = 0;
  // Where the gradient at the stream goes: added to what is there, or over it. `d_normed` is that of what the sublayer
  // has read; where that is also the stream, it gets the rest of it.
  struct Slope {
    Tensor d_stream;
    bool add = true;
  };
  virtual Slope d_input(const Pass& pass, int sublayer, const Tensor& d_normed) const = 0;
  // d_input is whole: it goes on to what the stream was made of.
  virtual void backward(const Pass& /*pass*/, int /*sublayer*/, const Tensor& /*d_stream*/) const {}
  // The gradient at the embedding, when all have been.
  virtual Tensor d_start(const Pass& pass) const = 0;

  // The norm of the stream at a sublayer that has one, to `out` [N, C].
  void normalise(const Pass& pass, int sublayer, const NormLayer& norm, const Tensor& out) const;

 protected:
  BufferId scratch_;
};

}  // namespace sluice

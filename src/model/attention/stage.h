// What is done to queries, keys and values before the core, or to its results after it.
//
// A stage declares its own parameters, buffers and, for decoding, state in its constructor. It stands in the list of
// stages/stages.cc, and nothing else in the project knows its name. Several stages at one seat act in the order of that
// list.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/attention/weights_view.h"
#include "model/module/module.h"

namespace sluice {

// What stages may read beside what they work on.
struct StageReads {
  Tensor x;        // [N, C]: the layer's input
  Tensor v;        // [N, H_kv D_v]: values as they are projected
  Tensor summed;   // [N, H_kv D_v]: values as the core sums them; at the seat kResults
  Tensor queries;  // [N, H_q D_qk]: queries as the core takes them; at the seat kResults
};

class Stage {
 public:
  enum class Seat : uint8_t {
    kQueriesAndKeys,  // [N, H_q D_qk + H_kv D_qk], side by side
    kValues,          // [N, H_kv D_v]
    kResults,         // [N, H_q D_v]: what the core made, or the stage before made of it
  };

  virtual ~Stage() = default;
  virtual Seat seat() const = 0;

  // Where forward() leaves what it makes of `in`: `in` itself, or a buffer of the stage's.
  virtual Tensor result(const Pass& pass, const Tensor& in) const = 0;
  virtual void forward(const Pass& pass, const Tensor& in, const StageReads& reads) const = 0;
  // The gradient at `in` from that at the result: `d_result`, changed in place, or (at the seat kResults alone) a
  // buffer of the stage's. `in` and `reads` as they were; what was read gets its share by the two calls below.
  virtual Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& reads,
                          const Tensor& workspace) const = 0;

  // The other paths: d_v += through what it read of the values, d_x += through what it read of the input. Called when
  // the gradient that comes through the core is whole.
  virtual bool reads_values() const { return false; }
  virtual void backward_values(const Pass& /*pass*/, const Tensor& /*d_v*/, const Tensor& /*v*/,
                               const Tensor& /*workspace*/) const {}
  virtual void backward_input(const Pass& /*pass*/, const Tensor& /*d_x*/, const Tensor& /*x*/,
                              const Tensor& /*workspace*/) const {}

  // The path through what a stage at kResults read of the values that the core sums, d_summed += it: called when the
  // core's own is whole, before the stages on values turn it into that of the projected ones.
  virtual void backward_summed(const Pass& /*pass*/, const Tensor& /*d_summed*/) const {}

  // The same for the queries that the core takes, d_q += it: called when the core's own gradient is whole, before the
  // stages on queries turn it into that of the projected ones.
  virtual void backward_queries(const Pass& /*pass*/, const Tensor& /*d_q*/, const Tensor& /*q*/) const {}

  // Whether the backward pass still finds the result. Where not (queries and keys alone), the stage runs once more
  // before it, and so do those after it.
  virtual bool keeps_result() const { return true; }

  // Whether results are still sums of values by the weights that they were before the stage, whatever scales a row of
  // them. Where not, instruments see the weights that they are sums by now, made of `before`; null: they are none.
  virtual bool keeps_weights() const { return true; }
  virtual std::unique_ptr<WeightsView> weights(const WeightsView& /*before*/) const { return nullptr; }
  // For instruments: how far it lets through what it works on, from 0 to 1, [N, groups * columns of a group] after a
  // forward run, each group for as many heads; no groups: it has no such numbers.
  virtual int64_t opening_groups() const { return 0; }
  virtual std::vector<double> openings(const Pass& /*pass*/) const { return {}; }
};

}  // namespace sluice

#include "kernels/ops/residual/depth_route.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_sources(const OpCheck& op, const DepthRouteForward& args, int64_t C) {
  const DType act = op.activation_type("states", args.states), acc = accumulator_of(act);
  op.require(args.step > 0 && args.last >= 0, "the step must be above 0, and the last state none before the first");
  op.require(args.states.cols() >= (args.last + 1) * C, "the states end before the last one");
  op.require(args.sources() <= DepthRouteForward::kMostSources, "at most 512 sources");
  op.require(args.routed >= 0 && args.routed <= args.sources(), "there are not so many sources to route");
  op.flat("query", args.query, acc, C, Presence::kOptional);
  op.flat("gain", args.gain, acc, C, required_if(bool(args.query)));
  if (args.query) op.require(args.routed > 0, "a query needs what it is compared with");
}

}  // namespace

void DepthRouteForward::check() const {
  const OpCheck op(kName);
  op.require_present("states", states);
  op.require_present("out", out);
  check_sources(op, *this, out.cols());
  op.matrix("out", out, states.dtype, states.rows(), out.cols());
}

std::string DepthRouteForward::note() const {
  return fmt::format("{} sources, {} with a weight of their own", sources(), routed);
}

void DepthRouteBackward::check() const {
  const OpCheck op(kName);
  op.require_present("states", forward.states);
  op.require_present("d_out", d_out);
  const int64_t N = forward.states.rows(), C = d_out.cols();
  check_sources(op, forward, C);
  const DType act = forward.states.dtype, acc = accumulator_of(act);
  op.matrix("d_out", d_out, act, N, C);
  op.matrix("d_sources", d_sources, act, N, d_sources.cols());
  op.require(d_sources.cols() >= forward.sources() * C, "d_sources has too few columns for the sources");
  op.flat("d_query", d_query, acc, C, required_if(bool(forward.query)));
  op.flat("d_gain", d_gain, acc, C, required_if(bool(forward.query)));
  op.absent("out", forward.out, "the backward pass does not need it");
}

}  // namespace sluice

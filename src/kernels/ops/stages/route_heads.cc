#include "kernels/ops/stages/route_heads.h"

#include "kernels/ops/check.h"

namespace sluice {
namespace {

void check_routing(const OpCheck& op, const HeadRouting& routing) {
  op.require(routing.heads <= kMostRoutedHeads, "there are too many heads");
  op.require(routing.shared >= 0 && routing.active > 0 && routing.active <= routing.routed(),
             "one routed head at least must be active, and no more than there are");
}

void check_inputs(const OpCheck& op, const RouteHeadsForward& args) {
  const DType act = op.activation_type("x", args.x);
  check_routing(op, args.routing);
  op.require(args.x.cols() % args.routing.heads == 0, "heads must divide the width");
  op.matrix("logits", args.logits, act, args.x.rows(), args.routing.logits());
}

void check_queries(const OpCheck& op, const Tensor& q, int64_t heads, int64_t shared) {
  op.activation_type("q", q);
  op.require(heads <= kMostRoutedHeads, "there are too many heads");
  op.require(shared >= 0 && heads - shared >= 2, "a deviation is that of two routed heads at least");
  op.require(q.cols() % heads == 0, "heads must divide the width");
}

}  // namespace

void RouteHeadsForward::check() const {
  const OpCheck op(kName);
  check_inputs(op, *this);
  op.matrix("out", out, x.dtype, x.rows(), x.cols());
}

void RouteHeadsBackward::check() const {
  const OpCheck op(kName);
  check_inputs(op, forward);
  const Tensor& x = forward.x;
  op.matrix("d_out", d_out, x.dtype, x.rows(), x.cols());
  op.matrix("d_x", d_x, x.dtype, x.rows(), x.cols());
  op.matrix("d_logits", d_logits, x.dtype, x.rows(), forward.routing.logits());
  op.absent("out", forward.out, "the backward pass does not need it");
}

void RouteBalance::check() const {
  const OpCheck op(kName);
  const DType act = op.activation_type("logits", logits);
  check_routing(op, routing);
  op.require(T > 0 && logits.rows() % T == 0, "rows must be whole sequences");
  op.matrix("logits", logits, act, logits.rows(), routing.logits());
  op.matrix("d_logits", d_logits, act, logits.rows(), routing.logits());
  op.flat("loss", loss, accumulator_of(act), 1);
}

void QueryLengthsForward::check() const {
  const OpCheck op(kName);
  check_queries(op, q, heads, shared);
  op.matrix("logits", logits, q.dtype, q.rows(), heads - shared);
}

void QueryLengthsBackward::check() const {
  const OpCheck op(kName);
  check_queries(op, q, heads, shared);
  op.matrix("d_logits", d_logits, q.dtype, q.rows(), heads - shared);
  op.matrix("d_q", d_q, q.dtype, q.rows(), q.cols());
}

}  // namespace sluice

#include "model/attention/cores/flow.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/formulas/flow.h"
#include "kernels/host_copy.h"
#include "model/attention/cores/linear_weights.h"

namespace sluice {
namespace {

struct FlowOptions final : CoreOptions {
  std::unique_ptr<CoreOptions> clone() const override { return std::make_unique<FlowOptions>(*this); }
  bool causal_only() const override { return true; }
  void describe(Fields& /*attention*/) override {}
  void resolve(const ModelConfig& model, const std::string& path) const override {
    if (model.position == Position::kRope)
      throw UserError(
          "{}.core = flow takes queries and keys for flows, which a rotation would change; it needs model.position = "
          "learned or none, not rope",
          path);
  }
  std::string text() const override { return "flow attention"; }
};

}  // namespace

Flow::Flow(const LayerPlace& place) : sizes_(place.projected) {
  const Declarations& d = place.d;
  if (std::max(sizes_.D_qk, sizes_.D_v) > kMaxHeadSize)
    throw UserError(
        "model.attention.core = flow takes heads of at most {} features, but here a query has {} and a value {}",
        kMaxHeadSize, sizes_.D_qk, sizes_.D_v);
  const auto kept = [&](const char* name, int64_t columns) {
    return d.attention_activation(place.layer, place.name + name, "activations", {d.max_tokens(), columns}, d.act);
  };
  queries_ = kept(".flow.queries", query_columns());
  keys_ = kept(".flow.keys", query_columns());
  values_ = kept(".flow.values", result_columns());
  logits_ = kept(".flow.logits", sizes_.H_q);
  mixed_ = kept(".flow.mixed", result_columns());
  stats_ = d.attention_activation(place.layer, place.name + ".flow.stats", "statistics",
                                  {4, d.max_batch, sizes_.H_q, d.config.rows()}, d.acc());
  const int back = d.timeline.attention_backward(place.layer);
  const auto scratch = [&](const char* name, const Shape& shape, DType type) {
    return d.plan.declare(place.name + name, "scratch", shape, type, {back, back});
  };
  d_queries_ = scratch(".flow.d_queries", {d.max_tokens(), query_columns()}, d.act);
  d_keys_ = scratch(".flow.d_keys", {d.max_tokens(), query_columns()}, d.act);
  d_values_ = scratch(".flow.d_values", {d.max_tokens(), result_columns()}, d.act);
  d_logits_ = scratch(".flow.d_logits", {d.max_tokens(), sizes_.H_q}, d.act);
  d_mixed_ = scratch(".flow.d_mixed", {d.max_tokens(), result_columns()}, d.act);
  const int64_t B = d.max_batch, T = d.config.rows();
  flow_workspace_ = scratch(".flow.workspace", {d.backend.workspace<FlowBackward>({shape(B, T), d.act})}, DType::kF32);
  sum_workspace_ = scratch(".flow.sum_workspace",
                           {d.backend.workspace<LinearAttentionBackward>({linear_shape(B, T), d.act})}, DType::kF32);
  flow_state_ = d.states.declare({sizes_.H_q, 4 * sizes_.D_qk + 2}, d.acc());
  sum_state_ = d.states.declare({sizes_.H_q * sizes_.D_qk, sizes_.D_v}, d.acc());
}

FlowForward Flow::flows(const Pass& pass, const Heads& heads) const {
  return {.shape = shape(pass.B, pass.T),
          .q = heads.q,
          .k = heads.k,
          .v = heads.v,
          .first_key = pass.first_key,
          .queries = rows(pass, queries_, query_columns()),
          .keys = rows(pass, keys_, query_columns()),
          .values = rows(pass, values_, result_columns()),
          .logits = rows(pass, logits_, sizes_.H_q),
          .stats = pass.view(stats_, {4, pass.B, sizes_.H_q, pass.T})};
}

LinearAttentionForward Flow::sums(const Pass& pass) const {
  return {.shape = linear_shape(pass.B, pass.T),
          .q = rows(pass, queries_, query_columns()),
          .k = rows(pass, keys_, query_columns()),
          .v = rows(pass, values_, result_columns()),
          .first_key = pass.first_key,
          .out = rows(pass, mixed_, result_columns())};
}

GateForward Flow::gates(const Pass& pass) const {
  GateForward args;
  args.heads = sizes_.H_q;
  args.x = rows(pass, mixed_, result_columns());
  args.logits = rows(pass, logits_, sizes_.H_q);
  return args;
}

void Flow::run(const Pass& pass, const Heads& heads, const Tensor& flow_state, const Tensor& sum_state) const {
  const bool resume = bool(flow_state) && pass.first_position > 0;
  FlowForward flow = flows(pass, heads);
  flow.state = flow_state, flow.resume = resume;
  pass.backend.run(flow);
  LinearAttentionForward sum = sums(pass);
  sum.state = sum_state, sum.resume = resume;
  pass.backend.run(sum);
  GateForward gate = gates(pass);
  gate.out = heads.out;
  pass.backend.run(gate);
}

void Flow::extend(const Pass& pass, const Heads& heads) const {
  run(pass, heads, pass.state->view(flow_state_), pass.state->view(sum_state_));
}

void Flow::backward(const Pass& pass, const Heads& heads, const Heads& d) const {
  const auto whole = [&](BufferId id) { return pass.view(id, pass.plan.buffer(id).shape); };
  const Tensor d_mixed = rows(pass, d_mixed_, result_columns()), d_logits = rows(pass, d_logits_, sizes_.H_q);
  const Tensor d_queries = rows(pass, d_queries_, query_columns()), d_keys = rows(pass, d_keys_, query_columns()),
               d_values = rows(pass, d_values_, result_columns());
  pass.backend.run(GateBackward{.forward = gates(pass), .d_out = d.out, .d_x = d_mixed, .d_logits = d_logits});
  pass.backend.run(LinearAttentionBackward{.forward = sums(pass),
                                           .d_out = d_mixed,
                                           .d_q = d_queries,
                                           .d_k = d_keys,
                                           .d_v = d_values,
                                           .workspace = whole(sum_workspace_)});
  pass.backend.run(FlowBackward{.forward = flows(pass, heads),
                                .d_queries = d_queries,
                                .d_keys = d_keys,
                                .d_values = d_values,
                                .d_logits = d_logits,
                                .d_q = d.q,
                                .d_k = d.k,
                                .d_v = d.v,
                                .workspace = whole(flow_workspace_)});
}

// ---- for instruments ------------------------------------------------------------------------------------------------

namespace {

// Products of what linear attention was given, times what gates a row and what a value has won.
LinearWeights weights_of(Backend& backend, const LinearAttentionForward& sums, const FlowForward& flows) {
  const AttentionShape& s = flows.shape;
  const std::vector<double> logits = host_numbers(backend, flows.logits), stats = host_numbers(backend, flows.stats);
  std::vector<int32_t> first(size_t(flows.first_key ? s.B * s.T : 0));
  if (flows.first_key) backend.download(first.data(), flows.first_key);
  const int64_t all = s.B * s.H * s.T;
  std::vector<double> openings, shares;
  for (int64_t i = 0; i < all; ++i) {
    const int64_t t = i % s.T, h = i / s.T % s.H, row = i / (s.T * s.H) * s.T + t;
    const int64_t n = t - (first.empty() ? 0 : first[size_t(row)]) + 1;
    openings.push_back(sigmoid_of(logits[size_t(row * s.H + h)]));
    shares.push_back(double(n) * flow_competitor(stats[size_t(2 * all + i)]) / stats[size_t(3 * all + i)]);
  }
  return LinearWeights(backend, sums, std::move(openings), std::move(shares));
}

}  // namespace

void Flow::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight, const Tensor& first_gap) const {
  weights_of(pass.backend, sums(pass), flows(pass, heads)).probe(pass.backend, first_weight, first_gap);
}

std::unique_ptr<HostWeights> Flow::read(const Pass& pass, const Heads& heads) const {
  return std::make_unique<LinearWeights>(weights_of(pass.backend, sums(pass), flows(pass, heads)));
}

// ---- in the list ----------------------------------------------------------------------------------------------------

CorePart flow_core() {
  return {.name = "flow",
          .summary =
              "linear attention in which values compete for what flows out of them (Flow-Attention, arXiv "
              "2202.06258)",
          .options = []() -> std::unique_ptr<CoreOptions> { return std::make_unique<FlowOptions>(); },
          .make = [](const LayerPlace& place, const CoreOptions& /*options*/) -> std::unique_ptr<Core> {
            return std::make_unique<Flow>(place);
          },
          .in_python = false,
          .example = R"({"attention": {"type": "custom", "core": "flow"}})"};
}

}  // namespace sluice

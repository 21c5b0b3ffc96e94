#include "model/attention/gate_logits.h"

#include <fmt/format.h>

#include <cmath>

#include "kernels/host_copy.h"

namespace sluice {

// ---- options --------------------------------------------------------------------------------------------------------

bool GateFactorConfig::reads_hidden() const {
  return reads == GateReads::kHidden || reads == GateReads::kHiddenAndOutput ||
         reads == GateReads::kHiddenAndOutputHead;
}

bool GateFactorConfig::reads_slices() const { return reads == GateReads::kHiddenHead; }

bool GateFactorConfig::reads_output() const {
  return reads == GateReads::kOutput || reads == GateReads::kHiddenAndOutput || reads_own_output();
}

bool GateFactorConfig::reads_own_output() const {
  return reads == GateReads::kOutputHead || reads == GateReads::kHiddenAndOutputHead;
}

std::string GateFactorConfig::text() const {
  std::string text = grain == GateGrain::kHead ? "one a head" : "one an element";
  if (rank != 0) text += ", of rank " + (rank == kRankOfHead ? "of a head" : std::to_string(rank));
  if (rank != 0 && reads_own_output()) text += " a head";
  if (rank_activation == RankActivation::kNone) text += " without silu";
  if (rank_activation == RankActivation::kRelu) text += " with relu";
  if (rank_bias) text += " and a bias between";
  if (activation == GateActivation::kNone) text += ", without sigmoid";
  return text;
}

std::vector<std::string> gates_that_read() {
  std::vector<std::string> names;
  for (const auto& choice : ChoiceNames<GateReads>::kAll)
    if (choice.value != GateReads::kNone) names.push_back(choice.name);
  return names;
}

void describe_gate_reads(Fields& f, GateFactorConfig& gate) {
  f.add("reads", gate.reads,
        "what the gate reads: none (no gate), hidden (the layer's input, all features), hidden_head (the head's own "
        "slice of it), value (the value states of all heads), output (what it scales, all heads' results), output_head "
        "(the head's own result), hidden_and_output, hidden_and_output_head (both; their logits are added)");
}

void describe_gate_rest(Fields& f, GateFactorConfig& gate) {
  f.add("grain", gate.grain, "one gate per head or one per element").when("reads", gates_that_read());
  f.add("bias", gate.bias, "a learned bias").when("reads", gates_that_read());
  f.add("opening", gate.opening, "with a bias: the gate's initial value for an input of zero")
      .above(0)
      .below(1)
      .when("reads", gates_that_read());
  f.add("rank", gate.rank,
        "above 0: the gate's matrix is two of so many rows and columns, for each head where it reads the head's own "
        "slice or result; -1: as many as a head's value has features; 0: it is a whole one; at most model.width")
      .range(GateFactorConfig::kRankOfHead, 1 << 16)
      .when("reads", gates_that_read())
      .not_written_as(0);
  f.add("rank_activation", gate.rank_activation, "what is between the two matrices of a rank: silu, relu, or nothing")
      .when("reads", gates_that_read())
      .not_written_as("silu");
  f.add("rank_bias", gate.rank_bias, "a bias behind the first matrix of a rank: the gate is then a small MLP")
      .when("reads", gates_that_read())
      .not_written_as(false);
  f.add("activation", gate.activation, "what makes the gate of the product: sigmoid; none: the gate is the product")
      .when("reads", gates_that_read())
      .not_written_as("sigmoid");
}

// ---- the logits -----------------------------------------------------------------------------------------------------

namespace {

std::optional<Activation> between_ranks(RankActivation kind) {
  if (kind == RankActivation::kNone) return {};
  return kind == RankActivation::kRelu ? Activation::kRelu : Activation::kSilu;
}

double initial_bias(const GateFactorConfig& gate) {
  return gate.activation == GateActivation::kNone ? gate.opening : std::log(gate.opening / (1 - gate.opening));
}

}  // namespace

GateLogits::GateLogits(const LayerPlace& place, const std::string& name, const GateFactorConfig& gate, int64_t groups)
    : gate_(gate), groups_(groups), columns_(groups * (gate.grain == GateGrain::kHead ? 1 : place.sizes.D_v)) {
  const Declarations& d = place.d;
  const HeadSizes& sizes = place.sizes;
  const Timeline& time = d.timeline;
  const BufferUses uses = {{time.attention(place.layer), time.mlp(place.layer)},
                           {time.mlp_backward(place.layer), time.attention_backward(place.layer)},
                           d.recompute == Recompute::kBlock};
  const int64_t rank = gate.rank == GateFactorConfig::kRankOfHead ? sizes.D_v : gate.rank;
  const BetweenRanks between = {between_ranks(gate.rank_activation), gate.rank_bias};
  const auto make = [&](const std::string& its_name, int64_t inputs, ByHeads by) {
    return LowRankLinear(d, its_name, columns_, inputs, rank, uses, by, between);
  };
  const ByHeads own_ranks = {.heads = gate.reads_own_output() ? groups : 0}, slices = {.heads = groups, .slices = true};
  if (reads_values()) first_ = make(name, place.projected.value_columns(), {});
  if (gate.reads_slices()) first_ = make(name, sizes.D_v, slices);
  if (gate.reads_hidden()) first_ = make(name, d.config.width, own_ranks);
  if (gate.reads_output()) {
    const std::string of_results = gate.reads_hidden() ? name + ".output" : name;
    second_ =
        gate.reads_own_output() ? make(of_results, sizes.D_v, slices) : make(of_results, sizes.result_columns(), {});
  }
  if (gate.bias)
    bias_ = d.params.declare(name + ".bias", {columns_}, Init::constant(initial_bias(gate)), DecayGroup::kVector);
  const int back = time.attention_backward(place.layer);
  const Shape shape = {d.max_tokens(), columns_};
  logits_ = d.attention_activation(place.layer, name + ".logits", "activations", shape, d.act);
  d_logits_ = d.plan.declare(name + ".d_logits", "scratch", shape, d.act, {back, back});
  if (gate.reads_input_and_output()) {
    const int now = time.attention(place.layer), again = time.mlp_backward(place.layer);
    second_logits_ =
        d.plan.declare(name + ".output.logits", "scratch", shape, d.act, {now, now}, Lifetime{again, again});
  }
}

GateForward GateLogits::scales(const Pass& pass, const Tensor& x) const {
  GateForward args;
  args.grain = gate_.grain;
  args.heads = groups_;
  args.x = x;
  args.logits = logits(pass);
  args.activation = gate_.activation;
  return args;
}

void GateLogits::forward(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  const Tensor out = logits(pass);
  if (has_first()) first_.forward(pass, out, reads_values() ? reads.v : reads.x, bias_);
  if (!gate_.reads_output()) return;
  if (!has_first()) return second_.forward(pass, out, in, bias_);
  const Tensor more = pass.view(second_logits_, {pass.N(), columns_});
  second_.forward(pass, more, in, {});
  pass.backend.run(Accumulate{.out = out, .x = more});
}

void GateLogits::backward_results(const Pass& pass, const Tensor& d_in, const Tensor& in,
                                  const Tensor& workspace) const {
  const ParamId bias = has_first() ? ParamId{} : bias_;  // the other read's share has its gradient
  if (gate_.reads_output()) second_.backward(pass, d_in, d_logits(pass), in, bias, workspace);
}

void GateLogits::backward_values(const Pass& pass, const Tensor& d_v, const Tensor& v, const Tensor& workspace) const {
  if (reads_values()) first_.backward(pass, d_v, d_logits(pass), v, bias_, workspace);
}

void GateLogits::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  if (has_first() && !reads_values()) first_.backward(pass, d_x, d_logits(pass), x, bias_, workspace);
}

std::vector<double> GateLogits::openings(const Pass& pass) const {
  std::vector<double> out;
  for (const float logit : host_copy(pass.backend, logits(pass))) out.push_back(1.0 / (1.0 + std::exp(-double(logit))));
  return out;
}

}  // namespace sluice

#include "model/attention/stages/gate.h"

#include <cmath>

#include "base/error.h"
#include "kernels/host_copy.h"

namespace sluice {

// ---- options --------------------------------------------------------------------------------------------------------

void GateConfig::describe(Fields& f) {
  f.add("reads", reads,
        "what the gate reads: none (no gate), hidden (the layer's input, all features), hidden_head (the head's own "
        "slice of it), value (the value states of all heads), output (what it scales, all heads' results), "
        "hidden_and_output (both; their logits are added)");
  const std::vector<std::string> gated = {"hidden", "hidden_head", "value", "output", "hidden_and_output"};
  f.add("site", site,
        "what it scales: every value before the sum (source), or the head's result at its own row (output)")
      .when("reads", gated);
  f.add("grain", grain, "one gate per head or one per element").when("reads", gated);
  f.add("bias", bias, "a learned bias").when("reads", gated);
  f.add("opening", opening, "with a bias: the gate's initial value for an input of zero")
      .above(0)
      .below(1)
      .when("reads", gated);
  const std::vector<std::string> whole = {"hidden", "value", "output", "hidden_and_output"};
  f.add("rank", rank,
        "above 0: the gate's matrix is two of so many rows and columns; -1: as many as a head's value has features; "
        "0: it is a whole one")
      .range(kRankOfHead, 1 << 16)
      .when("reads", whole)
      .not_written_as(0);
  f.add("rank_activation", rank_activation, "what is between the two matrices of a rank: silu, or nothing")
      .when("reads", whole)
      .not_written_as("silu");
  f.add("activation", activation, "what makes the gate of the product: sigmoid; none: the gate is the product")
      .when("reads", gated)
      .not_written_as("sigmoid");
}

void GateOptions::describe(Fields& f) {
  GateConfig defaults;
  Fields fields;
  defaults.describe(fields);
  const Json schema = fields.schema();
  f.add_group("gate", gate, "the gate");
  for (const std::string& name : shortcuts())
    f.add_shortcut(name, schema["properties"][name], fmt::format("short for gate.{}", name));
}

void GateOptions::resolve(const ModelConfig& model, const std::string& path) const {
  const bool reads_output = gate.reads == GateReads::kOutput || gate.reads == GateReads::kHiddenAndOutput;
  if (reads_output && gate.site == GateSite::kSource)
    throw UserError("{}.gate.reads = {} needs gate.site = output: where values are gated there are no results yet",
                    path, choice_name(gate.reads));
  if (gate.rank == 0 && gate.rank_activation != RankActivation::kSilu)
    throw UserError("{}.gate.rank_activation = {} is between the matrices of a rank, but gate.rank is 0", path,
                    choice_name(gate.rank_activation));
  if (gate.reads != GateReads::kHiddenHead) return;
  if (model.heads * model.value_head_size() != model.width)
    throw UserError(
        "{}.gate.reads = hidden_head cuts the width into one slice for each head, but model.heads * "
        "the features of a head's value = {} * {} is not model.width = {} (model.head_size, model.value_head_size)",
        path, model.heads, model.value_head_size(), model.width);
  if (gate.site == GateSite::kSource && model.kv_heads != model.heads)
    throw UserError("{}.gate.reads = hidden_head with site = source needs model.kv_heads = model.heads ({}), not {}",
                    path, model.heads, model.kv_heads);
}

std::string GateOptions::text() const {
  const bool of_head = gate.rank == GateConfig::kRankOfHead;
  std::string text = fmt::format("gate: reads {}, acts at the {}, one a{}", choice_name(gate.reads),
                                 choice_name(gate.site), gate.grain == GateGrain::kHead ? " head" : "n element");
  if (gate.rank != 0) text += ", of rank " + (of_head ? "of a head" : std::to_string(gate.rank));
  if (gate.rank_activation == RankActivation::kNone) text += " without silu";
  if (gate.activation == GateActivation::kNone) text += ", without sigmoid";
  return text;
}

// ---- the stage ------------------------------------------------------------------------------------------------------

namespace {

double initial_bias(const GateConfig& gate) {
  return gate.activation == GateActivation::kNone ? gate.opening : std::log(gate.opening / (1 - gate.opening));
}

}  // namespace

Gate::Gate(const LayerPlace& place, const GateConfig& gate) {
  const Declarations& d = place.d;
  const HeadSizes& sizes = place.sizes;
  const std::string name = place.name + ".gate";
  reads_ = gate.reads;
  at_source_ = gate.site == GateSite::kSource;
  grain_ = gate.grain;
  activation_ = gate.activation;
  groups_ = at_source_ ? sizes.H_kv : sizes.H_q;
  columns_ = groups_ * (grain_ == GateGrain::kHead ? 1 : sizes.D_v);
  if (reads_ == GateReads::kHiddenHead) weight_ = d.linear(name, columns_, sizes.D_v);
  const Timeline& time = d.timeline;
  const BufferUses uses = {{time.attention(place.layer), time.mlp(place.layer)},
                           {time.mlp_backward(place.layer), time.attention_backward(place.layer)},
                           d.recompute == Recompute::kBlock};
  const int64_t rank = gate.rank == GateConfig::kRankOfHead ? sizes.D_v : gate.rank;
  const auto make_logits = [&](const std::string& its_name, int64_t inputs) {
    return LowRankLinear(d, its_name, columns_, inputs, rank, uses, gate.rank_activation == RankActivation::kSilu);
  };
  if (reads_values()) first_ = make_logits(name, place.projected.value_columns());
  if (reads_hidden()) first_ = make_logits(name, d.config.width);
  if (reads_output()) second_ = make_logits(reads_hidden() ? name + ".output" : name, sizes.result_columns());
  if (gate.bias)
    bias_ = d.params.declare(name + ".bias", {columns_}, Init::constant(initial_bias(gate)), DecayGroup::kVector);
  const int back = d.timeline.attention_backward(place.layer);
  const Shape shape = {d.max_tokens(), columns_};
  logits_ = d.attention_activation(place.layer, name + ".logits", "activations", shape, d.act);
  d_logits_ = d.plan.declare(name + ".d_logits", "scratch", shape, d.act, {back, back});
  if (reads_ == GateReads::kHiddenAndOutput) {
    const int now = d.timeline.attention(place.layer), again = d.timeline.mlp_backward(place.layer);
    second_logits_ =
        d.plan.declare(name + ".output.logits", "scratch", shape, d.act, {now, now}, Lifetime{again, again});
  }
  result_ = d.attention_activation(place.layer, place.name + (at_source_ ? ".gated_values" : ".gated"), "activations",
                                   {d.max_tokens(), groups_ * sizes.D_v}, d.act);
}

GateForward Gate::arguments(const Pass& pass, const Tensor& in) const {
  GateForward args;
  args.grain = grain_;
  args.heads = groups_;
  args.x = in;
  args.logits = logits(pass);
  args.activation = activation_;
  return args;
}

void Gate::compute_logits(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  const Tensor out = logits(pass);
  if (reads_ == GateReads::kHiddenHead) {
    const LinearOperands operands = pass.operands(reads.x, weight_);
    pass.backend.run(HeadMatmul{
        {.out = out, .a = operands.x, .b = operands.weight, .transpose_b = true, .bias = pass.params.value(bias_)},
        groups_});
  }
  if (reads_values()) first_.forward(pass, out, reads.v, bias_);
  if (reads_hidden()) first_.forward(pass, out, reads.x, bias_);
  if (reads_ == GateReads::kOutput) second_.forward(pass, out, in, bias_);
  if (reads_ == GateReads::kHiddenAndOutput) {
    const Tensor more = pass.view(second_logits_, {pass.N(), columns_});
    second_.forward(pass, more, in, {});
    pass.backend.run(Accumulate{.out = out, .x = more});
  }
}

void Gate::forward(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  compute_logits(pass, in, reads);
  GateForward args = arguments(pass, in);
  args.out = result(pass, in);
  pass.backend.run(args);
}

Tensor Gate::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                      const Tensor& workspace) const {
  GateBackward args;
  args.forward = arguments(pass, in);
  args.d_out = d_result;
  args.d_x = d_result;
  args.d_logits = d_logits(pass);
  pass.backend.run(args);
  const ParamId bias = reads_hidden() ? ParamId{} : bias_;  // the other read's share has its gradient
  if (reads_output()) second_.backward(pass, d_result, args.d_logits, in, bias, workspace);
  return d_result;
}

void Gate::backward_values(const Pass& pass, const Tensor& d_v, const Tensor& v, const Tensor& workspace) const {
  if (reads_values()) backward_read(pass, d_v, v, workspace);
}

void Gate::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  if (reads_hidden() || reads_ == GateReads::kHiddenHead) backward_read(pass, d_x, x, workspace);
}

void Gate::backward_read(const Pass& pass, const Tensor& d_read, const Tensor& read, const Tensor& workspace) const {
  const Tensor d_out = d_logits(pass);
  if (reads_ != GateReads::kHiddenHead) return first_.backward(pass, d_read, d_out, read, bias_, workspace);
  pass.backend.run(HeadMatmul{
      {.out = d_read, .a = d_out, .b = pass.params.weight(weight_), .accumulate = true, .bias = {}}, groups_});
  pass.backend.run(HeadMatmul{{.out = pass.params.grad(weight_),
                               .a = d_out,
                               .b = read,
                               .transpose_a = true,
                               .accumulate = pass.accumulate,
                               .bias = {}},
                              groups_});
  if (bias_) pass.backend.run(BiasGradient{pass.params.grad(bias_), d_out, pass.accumulate, workspace});
}

std::vector<double> Gate::openings(const Pass& pass) const {
  std::vector<double> out;
  for (const float logit : host_copy(pass.backend, logits(pass))) out.push_back(1.0 / (1.0 + std::exp(-double(logit))));
  return out;
}

// ---- in the list ----------------------------------------------------------------------------------------------------

StagePart gate_stage() {
  return {.name = "gate",
          .summary = "scales values or results by a sigmoid of what it reads",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<GateOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            if (!options->present()) return nullptr;
            return std::make_unique<Gate>(place, static_cast<const GateOptions*>(options)->gate);
          },
          .in_python = true,
          .example = R"({"attention": {"reads": "value"}})",
          .always_written = true};
}

}  // namespace sluice

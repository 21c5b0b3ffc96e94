#include "model/attention/stages/gate.h"

#include <algorithm>

#include "base/error.h"

namespace sluice {

// ---- options --------------------------------------------------------------------------------------------------------

void SecondGateConfig::describe(Fields& f) {
  describe_gate_reads(f, *this);
  describe_gate_rest(f, *this);
}

void GateConfig::describe(Fields& f) {
  describe_gate_reads(f, *this);
  f.add("site", site,
        "what it scales: every value before the sum (source), or the head's result at its own row (output)")
      .when("reads", gates_that_read());
  describe_gate_rest(f, *this);
  f.add_group("second", second,
              "a second gate at the same site, whose openings are multiplied with the first's; it reads what the first "
              "one reads of, ungated")
      .when("reads", gates_that_read())
      .not_written_as({{"reads", "none"}});
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

namespace {

// `key`: "model.attention.gate", or with ".second".
void check_gate(const GateFactorConfig& gate, GateSite site, const ModelConfig& model, const std::string& key) {
  if (gate.reads_output() && site == GateSite::kSource)
    throw UserError("{}.reads = {} needs gate.site = output: where values are gated there are no results yet", key,
                    choice_name(gate.reads));
  if (gate.rank > model.width)
    throw UserError("{}.rank = {} is more than model.width = {}: a low rank has at most as many rows as that", key,
                    gate.rank, model.width);
  if (gate.rank == 0 && gate.rank_activation != RankActivation::kSilu)
    throw UserError("{}.rank_activation = {} is between the matrices of a rank, but {}.rank is 0", key,
                    choice_name(gate.rank_activation), key);
  if (gate.rank == 0 && gate.rank_bias)
    throw UserError("{}.rank_bias is between the matrices of a rank, but {}.rank is 0", key, key);
  if (!gate.reads_slices()) return;
  if (model.heads * model.value_head_size() != model.width)
    throw UserError(
        "{}.reads = hidden_head cuts the width into one slice for each head, but model.heads * "
        "the features of a head's value = {} * {} is not model.width = {} (model.head_size, model.value_head_size)",
        key, model.heads, model.value_head_size(), model.width);
  if (site == GateSite::kSource && model.kv_heads != model.heads)
    throw UserError("{}.reads = hidden_head with site = source needs model.kv_heads = model.heads ({}), not {}", key,
                    model.heads, model.kv_heads);
}

}  // namespace

void GateOptions::resolve(const ModelConfig& model, const std::string& path) const {
  check_gate(gate, gate.site, model, path + ".gate");
  check_gate(gate.second, gate.site, model, path + ".gate.second");
}

std::string GateOptions::text() const {
  std::string text = fmt::format("gate: reads {}, acts at the {}, {}", choice_name(gate.reads), choice_name(gate.site),
                                 gate.GateFactorConfig::text());
  if (gate.second.present())
    text += fmt::format("; times one that reads {}, {}", choice_name(gate.second.reads), gate.second.text());
  return text;
}

// ---- the stage ------------------------------------------------------------------------------------------------------

Gate::Gate(const LayerPlace& place, const GateConfig& gate)
    : at_source_(gate.site == GateSite::kSource), groups_(at_source_ ? place.sizes.H_kv : place.sizes.H_q) {
  const Declarations& d = place.d;
  const Shape shape = {d.max_tokens(), groups_ * place.sizes.D_v};
  const std::string name = place.name + ".gate";
  gates_.emplace_back(place, name, gate, groups_);
  if (gate.second.present()) {
    gates_.emplace_back(place, name + ".second", gate.second, groups_);
    const int back = d.timeline.attention_backward(place.layer);
    once_gated_ = d.plan.declare(name + ".once_gated", "scratch", shape, d.act, {back, back});
  }
  result_ = d.attention_activation(place.layer, place.name + (at_source_ ? ".gated_values" : ".gated"), "activations",
                                   shape, d.act);
}

void Gate::forward(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  Tensor x = in;
  for (const GateLogits& gate : gates_) {
    gate.forward(pass, in, reads);
    GateForward args = gate.scales(pass, x);
    args.out = x = result(pass, in);
    pass.backend.run(args);
  }
}

Tensor Gate::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                      const Tensor& workspace) const {
  Tensor x = in;  // what the last gate scaled
  if (gates_.size() > 1) {
    GateForward args = gates_.front().scales(pass, in);
    args.out = x = pass.view(once_gated_, in.shape);
    pass.backend.run(args);
  }
  for (size_t i = gates_.size(); i-- > 0;)
    pass.backend.run(GateBackward{.forward = gates_[i].scales(pass, i > 0 ? x : in),
                                  .d_out = d_result,
                                  .d_x = d_result,
                                  .d_logits = gates_[i].d_logits(pass)});
  for (const GateLogits& gate : gates_) gate.backward_results(pass, d_result, in, workspace);
  return d_result;
}

bool Gate::reads_values() const {
  return std::any_of(gates_.begin(), gates_.end(), [](const GateLogits& gate) { return gate.reads_values(); });
}

void Gate::backward_values(const Pass& pass, const Tensor& d_v, const Tensor& v, const Tensor& workspace) const {
  for (const GateLogits& gate : gates_) gate.backward_values(pass, d_v, v, workspace);
}

void Gate::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  for (const GateLogits& gate : gates_) gate.backward_input(pass, d_x, x, workspace);
}

bool Gate::all_are_shares() const {
  return std::all_of(gates_.begin(), gates_.end(), [](const GateLogits& gate) { return gate.is_share(); });
}

// Of two gates the products, with as many columns as the finer one has.
std::vector<double> Gate::openings(const Pass& pass) const {
  std::vector<double> out = gates_.front().openings(pass);
  if (gates_.size() == 1) return out;
  std::vector<double> more = gates_.back().openings(pass);
  if (more.size() > out.size()) std::swap(out, more);
  const size_t columns = out.size() / more.size();  // for one of the other's
  for (size_t i = 0; i < out.size(); ++i) out[i] *= more[i / columns];
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

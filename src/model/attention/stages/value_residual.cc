#include "model/attention/stages/value_residual.h"

#include "base/error.h"
#include "kernels/ops/accumulate.h"

namespace sluice {
namespace {

constexpr const char* kValues = "value_residual.values";
constexpr const char* kGradient = "value_residual.d_values";

// The last layer beyond the first that mixes; 0 if none does.
int last_that_mixes(const ModelConfig& model) {
  for (int layer = int(model.layers); layer-- > 1;)
    for (const StageOptions* stage : model.attention.of(layer).stages())
      if (dynamic_cast<const ValueResidualOptions*>(stage)) return layer;
  return 0;
}

}  // namespace

// ---- options --------------------------------------------------------------------------------------------------------

void ValueResidualConfig::describe(Fields& f) {
  f.add("type", type,
        "the numbers own and first of own v + first v_0, v_0 the values of layer 0: none (values as they are), fixed, "
        "learned in each layer");
  const std::vector<std::string> present = {"fixed", "learned"};
  f.add("own", own, "the first number; of learned ones at the start").range(-10, 10).when("type", present);
  f.add("first", first, "the second number, that of layer 0's values").range(-10, 10).when("type", present);
}

void ValueResidualOptions::describe(Fields& attention) {
  attention.add_group("value_residual", value_residual,
                      "values of layers beyond the first mixed with layer 0's (arXiv 2410.17897)");
}

void ValueResidualOptions::resolve(const ModelConfig& model, const std::string& path) const {
  if (const AttentionConfig& first = model.attention.of(0); !first.core_part().has_heads())
    throw UserError("{}.value_residual mixes with the values of layer 0, whose core {} has none", path, first.core);
}

std::string ValueResidualOptions::text() const {
  return fmt::format("values {} own + {} layer 0's{}", value_residual.own, value_residual.first,
                     value_residual.type == ValueResidualType::kLearned ? ", learned" : "");
}

std::string ValueResidualOptions::idle(const ModelConfig& model, const std::string& path) const {
  if (last_that_mixes(model) > 0) return "";
  return fmt::format(
      "{}.value_residual mixes nothing: it works in layers behind the first, and none of these has it (model.layers = "
      "{})",
      path, model.layers);
}

// ---- the first layer ------------------------------------------------------------------------------------------------

FirstValues::FirstValues(const LayerPlace& place, int last) {
  const Declarations& d = place.d;
  const Shape shape = {d.max_tokens(), place.projected.H_kv, place.projected.D_v};
  const Timeline& time = d.timeline;
  values_ = d.plan.declare(kValues, "activations", shape, d.act, {time.attention(0), time.attention_backward(0)});
  d_values_ =
      d.plan.declare(kGradient, "gradients", shape, d.act, {time.attention_backward(last), time.attention_backward(0)});
}

void FirstValues::forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const {
  pass.backend.run(Copy{pass.view(values_, in.shape), in});
}

Tensor FirstValues::backward(const Pass& pass, const Tensor& d_result, const Tensor& /*in*/,
                             const StageReads& /*reads*/, const Tensor& /*workspace*/) const {
  pass.backend.run(Accumulate{.out = d_result, .x = pass.view(d_values_, d_result.shape)});
  return d_result;
}

// ---- the others -----------------------------------------------------------------------------------------------------

ValueResidual::ValueResidual(const LayerPlace& place, const ValueResidualConfig& config, bool is_last)
    : config_(config), is_last_(is_last) {
  const Declarations& d = place.d;
  values_ = d.plan.find(kValues);
  d_values_ = d.plan.find(kGradient);
  check(values_ && d_values_, "value_residual: the first layer has kept no values");
  const Shape& there = d.plan.buffer(values_).shape;
  const int64_t H = place.projected.H_kv, D = place.projected.D_v;
  if (there[1] != H || there[2] != D)
    throw UserError(
        "model.attention.value_residual mixes the values of layer {} with those of layer 0, but these are {} heads of "
        "{} "
        "features and those {} of {}",
        place.layer, H, D, there[1], there[2]);
  if (config.type == ValueResidualType::kLearned) {
    const std::string name = place.name + ".value_residual";
    own_ = d.params.declare(name + ".own", {1}, Init::constant(config.own), DecayGroup::kVector);
    first_ = d.params.declare(name + ".first", {1}, Init::constant(config.first), DecayGroup::kVector);
  }
  result_ = d.attention_activation(place.layer, place.name + ".mixed_values", "activations",
                                   {d.max_tokens(), place.projected.value_columns()}, d.act);
}

MixForward ValueResidual::arguments(const Pass& pass, const Tensor& in) const {
  return {.shares = {.x = pass.params.value(own_),
                     .y = pass.params.value(first_),
                     .x_fixed = config_.own,
                     .y_fixed = config_.first},
          .x = in,
          .y = pass.view(values_, in.shape),
          .out = {}};
}

void ValueResidual::forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const {
  MixForward args = arguments(pass, in);
  args.out = result(pass, in);
  pass.backend.run(args);
}

Tensor ValueResidual::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                               const Tensor& workspace) const {
  pass.backend.run(MixBackward{.forward = arguments(pass, in),
                               .d_out = d_result,
                               .d_x = d_result,
                               .d_y = pass.view(d_values_, d_result.shape),
                               .add_to_d_y = !is_last_,
                               .d_x_share = pass.params.grad(own_),
                               .d_y_share = pass.params.grad(first_),
                               .accumulate = pass.accumulate,
                               .workspace = workspace});
  return d_result;
}

// ---- in the list ----------------------------------------------------------------------------------------------------

StagePart value_residual_stage() {
  return {.name = "value_residual",
          .summary = "values mixed with those of the first layer (ResFormer)",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<ValueResidualOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            const int last = last_that_mixes(place.d.config);
            if (place.layer == 0 && last > 0) return std::make_unique<FirstValues>(place, last);
            if (place.layer == 0 || !options->present()) return nullptr;
            return std::make_unique<ValueResidual>(
                place, static_cast<const ValueResidualOptions*>(options)->value_residual, place.layer == last);
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "value_residual": "learned"}})"};
}

}  // namespace sluice

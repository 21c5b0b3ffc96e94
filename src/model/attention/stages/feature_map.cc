#include "model/attention/stages/feature_map.h"

namespace sluice {

void FeatureMapOptions::describe(Fields& attention) {
  if (seat_ == Stage::Seat::kValues)
    attention.add("value_map", map, "an activation function on the values as they are projected");
  else
    attention.add("feature_map", map,
                  "an activation function on queries and keys, before rope: the feature map of linear attention");
}

std::string FeatureMapOptions::text() const {
  return fmt::format("{} of {}", choice_name(map), seat_ == Stage::Seat::kValues ? "values" : "queries and keys");
}

MappedFeatures::MappedFeatures(const LayerPlace& place, Seat seat, FeatureMap map)
    : seat_(seat), activation_(map == FeatureMap::kSilu ? Activation::kSilu : Activation::kRelu) {
  const Declarations& d = place.d;
  const HeadSizes& sizes = place.projected;
  if (seat == Seat::kValues) {
    mapped_ = d.attention_activation(place.layer, place.name + ".mapped_values", "activations",
                                     {d.max_tokens(), sizes.value_columns()}, d.act);
    return;
  }
  const int back = d.timeline.attention_backward(place.layer);
  const int again = d.recompute == Recompute::kBlock ? d.timeline.mlp_backward(place.layer) : back;
  mapped_ = d.plan.declare(place.name + ".mapped", "activations",
                           {d.max_tokens(), sizes.query_columns() + sizes.key_columns()}, d.act,
                           {d.timeline.attention(place.layer), d.timeline.mlp(place.layer)}, Lifetime{again, back});
}

void MappedFeatures::forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const {
  pass.backend.run(ActivationForward{activation_, result(pass, in), in});
}

Tensor MappedFeatures::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                                const Tensor& /*workspace*/) const {
  pass.backend.run(ActivationBackward{.kind = activation_, .d_x = d_result, .d_out = d_result, .x = in});
  return d_result;
}

namespace {

template <Stage::Seat kSeat>
std::unique_ptr<StageOptions> options_of() {
  return std::make_unique<FeatureMapOptions>(kSeat);
}

template <Stage::Seat kSeat>
std::unique_ptr<Stage> stage_of(const LayerPlace& place, const StageOptions* options) {
  if (!options->present()) return nullptr;
  return std::make_unique<MappedFeatures>(place, kSeat, static_cast<const FeatureMapOptions*>(options)->map);
}

}  // namespace

StagePart feature_map_stage() {
  return {.name = "feature_map",
          .summary = "an activation function on queries and keys",
          .options = options_of<Stage::Seat::kQueriesAndKeys>,
          .make = stage_of<Stage::Seat::kQueriesAndKeys>,
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "feature_map": "silu"}})",
          .on_queries_and_keys = true};
}

StagePart value_map_stage() {
  return {.name = "value_map",
          .summary = "an activation function on values",
          .options = options_of<Stage::Seat::kValues>,
          .make = stage_of<Stage::Seat::kValues>,
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "value_map": "silu"}})"};
}

}  // namespace sluice

#include "model/attention/cores/mlp.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice {
namespace {

// Whole groups of 16 bytes of bf16.
constexpr int64_t kMultiple = 8;

MlpSetup setup_of(const LayerPlace& place, const MlpCoreOptions& options) {
  const Declarations& d = place.d;
  const Timeline& time = d.timeline;
  const bool again = d.recompute == Recompute::kBlock;
  const int back = time.attention_backward(place.layer);
  return {.name = place.name,
          .kind = MlpKind::kSwiglu,
          .hidden = options.hidden(d.config.head_sizes()),
          .up_bias = d.config.qkv_bias(),
          .down_bias = d.config.attention_output_bias(),
          .sublayer = time.attention_sublayer(place.layer),
          .now = time.attention(place.layer),
          .backward = {again ? time.mlp_backward(place.layer) : back, back},
          .recomputed = again,
          .whole = again};
}

}  // namespace

void MlpCoreOptions::describe(Fields& attention) {
  attention
      .add("mlp_width", width,
           "hidden size of the MLP in attention's place; 0: as many as make it as large as attention with the model's "
           "heads, 4/3 of the width as a rule, to the nearest multiple of 8")
      .range(0, 1 << 18);
}

std::string MlpCoreOptions::text() const {
  return width > 0 ? fmt::format("an MLP of {} in attention's place", width) : "an MLP in attention's place";
}

// Attention has C times these columns, a gated MLP 3 C times its hidden features.
int64_t MlpCoreOptions::hidden(const HeadSizes& heads) const {
  if (width > 0) return width;
  const int64_t columns = heads.projected_columns() + heads.result_columns();
  return std::max<int64_t>(kMultiple, (columns + 3 * kMultiple / 2) / (3 * kMultiple) * kMultiple);
}

MlpMixer::MlpMixer(const LayerPlace& place, const MlpCoreOptions& options)
    : layer_(place.layer), mlp_(place.d, setup_of(place, options)) {}

void MlpMixer::forward(const Pass& pass, const MixerInput& in, const Tensor& out) const {
  mlp_.forward(pass, in.x, out);
}

void MlpMixer::backward(const Pass& pass, const MixerInput& d_in, const Tensor& d_out, const MixerInput& in,
                        const Tensor& workspace) const {
  mlp_.backward(pass, d_in.x, d_out, in.x, workspace);
  if (pass.observer) pass.observer->input_gradient(pass, layer_, d_in.x);
}

CorePart mlp_core() {
  return {.name = "mlp",
          .summary = "they do not: a gated MLP stands in attention's place (arXiv 2510.11602)",
          .options = []() -> std::unique_ptr<CoreOptions> { return std::make_unique<MlpCoreOptions>(); },
          .make = nullptr,
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "core": "mlp"}})",
          .make_mixer = [](const LayerPlace& place, const CoreOptions& options) -> std::unique_ptr<Mixer> {
            return std::make_unique<MlpMixer>(place, static_cast<const MlpCoreOptions&>(options));
          }};
}

}  // namespace sluice

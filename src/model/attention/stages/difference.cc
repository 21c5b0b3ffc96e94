#include "model/attention/stages/difference.h"

#include "base/error.h"
#include "kernels/formulas/gate.h"
#include "kernels/host_copy.h"
#include "model/attention/stages/difference_weights.h"
#include "model/attention/stages/output_norm.h"

namespace sluice {

// ---- options --------------------------------------------------------------------------------------------------------

void DifferenceConfig::describe(Fields& f) {
  f.add("lambda", lambda,
        "how much of the noise head's result is taken from a head's: none (nothing: there are no noise heads), "
        "projected (Diff V2: the sigmoid of a product with the layer's input, for each head), scalar (Diff V1, arXiv "
        "2410.05258: one number that the layer learns), clamped (TDA, arXiv 2601.12145: a number of each head, clamped "
        "to [0, 1])");
  f.add("signal", signal,
        "heads that share one noise head (arXiv 2510.06949); 0: all that share a key/value head, heads / kv_heads")
      .range(0, DifferenceForward::kMostSignals)
      .when("lambda", {"projected", "scalar", "clamped"});
  f.add("keys", keys,
        "keys that noise heads see: shared (those of the heads that they are taken from) or own (as many more; values "
        "are shared)")
      .when("lambda", {"projected", "scalar", "clamped"});
}

void DifferenceOptions::describe(Fields& f) {
  f.add_group("difference", difference,
              "differential attention: results less what noise heads make of the same values");
}

void DifferenceOptions::resolve(const ModelConfig& model, const std::string& path) const {
  const int64_t signals = difference.signals(model.heads, model.kv_heads), shared = model.heads / model.kv_heads;
  if (shared % signals != 0)
    throw UserError(
        "{}.difference.signal = {}: heads that share a noise head share a key/value head too, so it must divide "
        "model.heads / model.kv_heads = {} / {} = {}",
        path, signals, model.heads, model.kv_heads, shared);
}

std::string DifferenceOptions::text() const {
  return fmt::format("less {} share of a noise head for {}{}",
                     difference.lambda == DifferenceLambda::kScalar    ? "one"
                     : difference.lambda == DifferenceLambda::kClamped ? "each head's own"
                                                                       : "a projected",
                     difference.signal == 1   ? "each"
                     : difference.signal == 0 ? "each key/value head"
                                              : fmt::format("every {}", difference.signal),
                     difference.keys == NoiseKeys::kOwn ? ", with keys of its own" : "");
}

HeadSizes DifferenceOptions::asks(const HeadSizes& handed_on) const {
  HeadSizes asked = handed_on;
  const int64_t noise = handed_on.H_q / difference.signals(handed_on.H_q, handed_on.H_kv);
  (difference.keys == NoiseKeys::kOwn ? asked.H_q2 : asked.H_q) += noise;
  return asked;
}

// ---- the stage ------------------------------------------------------------------------------------------------------

Difference::Difference(const LayerPlace& place, const DifferenceConfig& config)
    : D_(place.sizes.D_v), kind_(config.lambda), initial_(lambda_init(place.layer)) {
  const Declarations& d = place.d;
  const HeadSizes& sizes = place.sizes;
  const int64_t signals = config.signals(sizes.H_q, sizes.H_kv), noise = sizes.H_q / signals;
  layout_ = {.heads = sizes.H_q, .signal = signals, .noise = config.keys == NoiseKeys::kOwn ? noise : 1};
  const std::string name = place.name + ".difference";
  const int64_t N = d.max_tokens(), H = heads();
  const int back = d.timeline.attention_backward(place.layer);
  const auto made = [&](const Shape& shape, DType type) {
    return d.attention_activation(place.layer, name + ".lambda", "activations", shape, type);
  };
  switch (kind_) {
    case DifferenceLambda::kProjected:
      weight_ = d.linear(name, H, d.config.width);
      lambda_ = made({N, H}, d.act);
      break;
    case DifferenceLambda::kClamped:
      of_heads_ = d.params.declare(name + ".lambda", {H}, Init::constant(0.5), DecayGroup::kVector);
      break;
    default:
      vectors_ = d.params.declare(name + ".lambda", {4, sizes.D_qk}, Init::normal(0.1), DecayGroup::kVector);
      d_sums_ = d.plan.declare(name + ".d_sums", "scratch", {H}, d.acc(), {back, back});
      lambda_ = made({1}, d.acc());
  }
  d_lambda_ = d.plan.declare(name + ".d_lambda", "scratch", {N, H}, d.act, {back, back});
  result_ = d.attention_activation(place.layer, place.name + ".differences", "activations", {N, H * D_}, d.act);
  d_in_ = d.plan.declare(name + ".d_heads", "scratch", {N, layout_.all_heads() * D_}, d.act, {back, back});
  probed_ = d.plan.declare(name + ".probed", "scratch", {2, d.max_batch, layout_.all_heads(), d.config.rows()}, d.acc(),
                           {d.timeline.attention(place.layer), d.timeline.mlp(place.layer)});
}

Tensor Difference::result(const Pass& pass, const Tensor& /*in*/) const {
  return pass.view(result_, {pass.N(), heads() * D_});
}

Tensor Difference::lambda(const Pass& pass) const {
  if (kind_ == DifferenceLambda::kClamped) return pass.params.value(of_heads_);
  return pass.view(lambda_, kind_ == DifferenceLambda::kProjected ? Shape{pass.N(), heads()} : Shape{1});
}

DifferenceForward Difference::arguments(const Pass& pass, const Tensor& in) const {
  return {
      .layout = layout_, .x = in, .lambda = lambda(pass), .out = {}, .clamped = kind_ == DifferenceLambda::kClamped};
}

void Difference::forward(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  if (kind_ == DifferenceLambda::kProjected) pass.linear(lambda(pass), reads.x, weight_, {});
  if (kind_ == DifferenceLambda::kScalar)
    pass.backend.run(
        DifferenceFactorForward{.initial = initial_, .vectors = pass.params.value(vectors_), .out = lambda(pass)});
  DifferenceForward args = arguments(pass, in);
  args.out = result(pass, in);
  pass.backend.run(args);
}

Tensor Difference::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                            const Tensor& workspace) const {
  const Tensor d_in = pass.view(d_in_, {pass.N(), layout_.all_heads() * D_});
  pass.backend.run(
      DifferenceBackward{.forward = arguments(pass, in), .d_out = d_result, .d_x = d_in, .d_lambda = d_lambda(pass)});
  if (kind_ == DifferenceLambda::kClamped)
    pass.backend.run(BiasGradient{.d_bias = pass.params.grad(of_heads_),
                                  .d_out = d_lambda(pass),
                                  .accumulate = pass.accumulate,
                                  .workspace = workspace});
  if (kind_ == DifferenceLambda::kScalar) {
    const Tensor sums = pass.view(d_sums_, {heads()});
    pass.backend.run(
        BiasGradient{.d_bias = sums, .d_out = d_lambda(pass), .accumulate = false, .workspace = workspace});
    pass.backend.run(DifferenceFactorBackward{.vectors = pass.params.value(vectors_),
                                              .d_out = sums,
                                              .d_vectors = pass.params.grad(vectors_),
                                              .accumulate = pass.accumulate});
  }
  return d_in;
}

void Difference::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  if (kind_ == DifferenceLambda::kProjected) pass.linear_backward(d_x, true, d_lambda(pass), x, weight_, {}, workspace);
}

// [N, H], on the host.
std::vector<double> Difference::factors(const Pass& pass) const {
  const int64_t count = pass.N() * heads();
  std::vector<double> out = host_numbers(pass.backend, lambda(pass));
  if (kind_ == DifferenceLambda::kProjected) {
    for (double& x : out) x = gate_of(x);
    return out;
  }
  if (kind_ == DifferenceLambda::kClamped)
    for (double& x : out) x = clamped_factor(x);
  std::vector<double> of_rows(static_cast<size_t>(count));
  for (size_t i = 0; i < of_rows.size(); ++i) of_rows[i] = out[i % out.size()];
  return of_rows;
}

std::unique_ptr<WeightsView> Difference::weights(const WeightsView& before) const {
  return std::make_unique<DifferenceWeights>(
      before, layout_, [this](const Pass& pass) { return factors(pass); }, probed_);
}

// ---- in the list ----------------------------------------------------------------------------------------------------

StagePart difference_stage() {
  return {.name = "difference",
          .summary = "results less what noise heads make of the same values (differential attention)",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<DifferenceOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            if (!options->present()) return nullptr;
            return std::make_unique<Difference>(place, static_cast<const DifferenceOptions*>(options)->difference);
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "difference": {"lambda": "projected"}}})"};
}

}  // namespace sluice

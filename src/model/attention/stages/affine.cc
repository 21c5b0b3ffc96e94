#include "model/attention/stages/affine.h"

#include "base/error.h"
#include "kernels/host_copy.h"
#include "kernels/ops/stages/prefix_mean.h"
#include "model/attention/stages/affine_weights.h"

namespace sluice {

// ---- options --------------------------------------------------------------------------------------------------------

void AffineConfig::describe(Fields& f) {
  f.add(
      "type", type,
      "how a head's factor a comes from what it reads, z = x w: none (no such scaling), linear ((z + 5) / 10, clipped "
      "to [0, 1]), sigmoid");
  const std::vector<std::string> present = {"linear", "sigmoid"};
  f.add(
       "length", length,
       "what the bias (m - a) is divided by, for each token of a row: the number of tokens that the row sees (row), or "
       "model.context")
      .when("type", present);
  f.add("keep", keep, "share of the moving average m that an optimizer step keeps; 1: m stays what it is at the start")
      .range(0, 1)
      .when("type", present);
  f.add("initial", initial, "the moving average at the start").range(0, 1).when("type", present);
}

void AffineOptions::describe(Fields& attention) {
  attention.add_group("affine", affine, "weights scaled by a factor of the row and shifted (arXiv 2602.23057)");
}

void AffineOptions::check_core(const CoreOptions& core, const std::string& path) const {
  if (core.reach() > 0)
    throw UserError(
        "{}.affine sums the values of all tokens up to a row's own, but {}.window = {}: take one of the two away", path,
        path, core.reach());
}

std::string AffineOptions::text() const {
  return fmt::format("affine weights: {}, by the {}", choice_name(affine.type),
                     affine.length == AffineLength::kRow ? "row's length" : "context");
}

std::string AffineOptions::tied_to_context() const {
  return affine.length == AffineLength::kContext ? "model.attention.affine divides by model.context" : "";
}

// ---- the stage ------------------------------------------------------------------------------------------------------

Affine::Affine(const LayerPlace& place, const AffineConfig& config)
    : phi_(config.type == AffineType::kSigmoid ? AffinePhi::kSigmoid : AffinePhi::kLinear),
      divisor_(config.length == AffineLength::kContext ? double(place.d.config.context) : 0),
      sizes_{place.sizes.H_q, place.projected.H_kv, place.projected.D_qk, place.projected.D_v} {
  check_eq(place.sizes.D_v, sizes_.D_v, "affine: features of a result and of a value");
  const Declarations& d = place.d;
  const std::string name = place.name + ".affine";
  const int64_t N = d.max_tokens();
  weight_ = d.linear(name, sizes_.H_q, d.config.width);
  average_ = d.averages.declare(name + ".average", {sizes_.H_q}, config.initial, config.keep);
  const auto kept = [&](const std::string& what, int64_t columns) {
    return d.attention_activation(place.layer, name + "." + what, "activations", {N, columns}, d.act);
  };
  const int back = d.timeline.attention_backward(place.layer);
  const auto scratch = [&](const std::string& what, int64_t columns) {
    return d.plan.declare(name + "." + what, "scratch", {N, columns}, d.act, {back, back});
  };
  logits_ = kept("logits", sizes_.H_q);
  d_logits_ = scratch("d_logits", sizes_.H_q);
  mean_ = kept("mean", sizes_.value_columns());
  d_mean_ = scratch("d_mean", sizes_.value_columns());
  result_ = kept("result", sizes_.result_columns());
  sums_ = d.states.declare({1, sizes_.value_columns()}, d.acc());
}

AffineForward Affine::arguments(const Pass& pass, const Tensor& in) const {
  return {.phi = phi_,
          .heads = sizes_.H_q,
          .kv_heads = sizes_.H_kv,
          .y = in,
          .u = mean(pass),
          .logits = logits(pass),
          .average = pass.averages.value(average_),
          .out = {}};
}

void Affine::forward(const Pass& pass, const Tensor& in, const StageReads& reads) const {
  pass.linear(logits(pass), reads.x, weight_, {});
  pass.backend.run(PrefixMean{.T = pass.T,
                              .divisor = divisor_,
                              .first_position = pass.first_position,
                              .x = reads.summed,
                              .first_key = pass.first_key,
                              .sums = pass.state ? pass.state->view(sums_) : Tensor{},
                              .out = mean(pass)});
  AffineForward args = arguments(pass, in);
  args.out = result(pass, in);
  pass.backend.run(args);
  if (pass.counts())
    pass.backend.run(
        AffineMean{.phi = phi_, .share = pass.share, .logits = logits(pass), .mean = pass.averages.observed(average_)});
}

Tensor Affine::backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                        const Tensor& /*workspace*/) const {
  pass.backend.run(AffineBackward{.forward = arguments(pass, in),
                                  .d_out = d_result,
                                  .d_y = d_result,
                                  .d_u = d_mean(pass),
                                  .d_logits = d_logits(pass)});
  return d_result;
}

void Affine::backward_summed(const Pass& pass, const Tensor& d_summed) const {
  pass.backend.run(PrefixMeanBackward{
      .T = pass.T, .divisor = divisor_, .d_out = d_mean(pass), .first_key = pass.first_key, .d_x = d_summed});
}

void Affine::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  pass.linear_backward(d_x, true, d_logits(pass), x, weight_, {}, workspace);
}

std::unique_ptr<WeightsView> Affine::weights(const WeightsView& before) const {
  return std::make_unique<AffineWeights>(*this, before);
}

std::vector<double> Affine::factors(const Pass& pass) const {
  std::vector<double> out = host_numbers(pass.backend, logits(pass));
  for (double& z : out) z = phi_of(phi_, z);
  return out;
}

std::vector<double> Affine::average(const Pass& pass) const {
  return host_numbers(pass.backend, pass.averages.value(average_));
}

// ---- in the list ----------------------------------------------------------------------------------------------------

StagePart affine_stage() {
  return {.name = "affine",
          .summary = "weights scaled by a factor of the row and shifted by a moving average of it",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<AffineOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            if (!options->present()) return nullptr;
            return std::make_unique<Affine>(place, static_cast<const AffineOptions*>(options)->affine);
          },
          .in_python = true,
          .example = R"({"attention": {"type": "custom", "affine": {"type": "linear", "initial": 0.4}}})"};
}

}  // namespace sluice

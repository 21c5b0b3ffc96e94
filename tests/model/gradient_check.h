// Whole models in f64: the gradient of every parameter against finite differences of the loss; and micro-batches
// against one batch.
//
// As in attention_slopes.h, differences are taken along a random direction over a whole parameter, which no
// wrong element escapes. ReLUs and clips have kinks that a step may cross: where the difference disagrees it is taken
// again with a smaller step, which is rarer to cross and no help to a wrong gradient.
#pragma once

#include <gtest/gtest.h>

#include "base/philox.h"
#include "model/parity.h"

namespace sluice::parity::gradients {

inline constexpr int64_t kBatch = 2, kVocab = 11;

inline ModelConfig small_model(const Json& changes) {
  Json json = {{"vocab_size", kVocab},  {"context", 3},       {"layers", 2},      {"heads", 2},
               {"width", 12},           {"mlp_width", 16},    {"mlp", "gelu"},    {"bias", true},
               {"position", "learned"}, {"tied_head", false}, {"init", "pytorch"}};
  json.update(changes);
  return model_config(json);
}

inline double random_in(double bound, uint64_t stream, uint64_t i) {
  return bound * (2 * double(uniform24(philox(17, stream, i).word[0])) - 1);
}

// What starts at 0 or 1 (gains, biases, sink logits) is moved away from there.
inline Transformer scattered_model(Backend& backend, const ModelConfig& config, DType act) {
  Transformer model(backend, config, {.act = act, .max_batch = kBatch});
  model.initialise(5);
  uint64_t stream = 100;
  for (const ParamSpec& spec : model.params().specs()) {
    Values values = parameter(model, spec.name);
    for (size_t i = 0; i < values.size(); ++i) values[i] += random_in(0.3, stream, i);
    assign(model.params().value(named(model, spec.name)), values);
    ++stream;
  }
  model.params().refresh_compute_copy(backend);
  return model;
}

inline std::vector<int32_t> random_tokens(uint64_t stream, int64_t count) {
  std::vector<int32_t> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = int32_t(philox(3, stream, i).word[0] % kVocab);
  return out;
}

// A model, a batch of [kBatch, T] and the gradients of the losses' sum.
class GradientCheck {
 public:
  // `document_starts` [kBatch, T], or empty.
  GradientCheck(Backend& backend, const ModelConfig& config, int64_t T, std::vector<int32_t> document_starts = {})
      : T_(T),
        document_starts_(std::move(document_starts)),
        tokens_(random_tokens(0, kBatch * T)),
        targets_(random_tokens(1, kBatch * T)),
        model_(scattered_model(backend, config, DType::kF64)) {
    loss_ = model_.forward_backward(batch(), 1, false);
    for (const ParamSpec& spec : model_.params().specs()) slopes_.push_back(gradient(model_, spec.name));
  }

  void run() {
    EXPECT_EQ(loss(), loss_) << "loss() and forward_backward()";
    check_micro_batches();
    for (size_t i = 0; i < slopes_.size(); ++i) check_parameter(model_.params().specs()[i].name, slopes_[i], 300 + i);
  }

 private:
  const int32_t* starts(int64_t b) const {
    return document_starts_.empty() ? nullptr : &document_starts_[size_t(b * T_)];
  }
  Batch batch() const { return {tokens_.data(), targets_.data(), kBatch, T_, starts(0)}; }
  double loss() { return model_.loss(batch()); }
  // What is learned: with the losses that parts add, which only a step of learning has.
  double learned() {
    const auto& losses = model_.losses().list();
    if (losses.empty()) return loss();
    double total = model_.forward_backward(batch(), 1, false);
    const std::vector<double> parts = model_.part_losses();
    for (size_t i = 0; i < losses.size(); ++i) total += losses[i].weight * parts[i];
    return total;
  }

  double difference(const Tensor& value, const Values& here, const Values& direction, double step) {
    const auto loss_at = [&](double by) {
      Values moved = here;
      for (size_t i = 0; i < here.size(); ++i) moved[i] += by * direction[i];
      assign(value, moved);
      return learned();
    };
    const double above = loss_at(step), below = loss_at(-step);
    assign(value, here);
    return (above - below) / (2 * step);
  }

  void check_parameter(const std::string& name, const Values& slope, uint64_t stream) {
    const Tensor value = model_.params().value(named(model_, name));
    const Values here = values_of(value);
    Values direction(slope.size()), products(slope.size());
    double expected = 0;
    for (size_t i = 0; i < slope.size(); ++i) {
      const double r = random_in(0.5, stream, i);
      direction[i] = r + std::copysign(0.5, r);  // no element is left out
      products[i] = slope[i] * direction[i];
      expected += products[i];
    }
    for (const double step : {1e-5, 2e-6, 4e-7}) {
      // Truncation and rounding of the slope, then of the loss over the step.
      const double bound = 1e-6 * norm_of(products) + 4e-16 * double(kBatch * T_) / step;
      const double found = difference(value, here, direction, step);
      if (std::fabs(found - expected) <= bound) return;
      if (step < 1e-6)
        ADD_FAILURE() << name << ": the gradient says " << expected << ", the losses " << found << ", bound " << bound;
    }
  }

  // Sequence by sequence, added up, as gradient accumulation does.
  void check_micro_batches() {
    double sum = 0;
    for (int64_t b = 0; b < kBatch; ++b)
      sum += model_.forward_backward({&tokens_[size_t(b * T_)], &targets_[size_t(b * T_)], 1, T_, starts(b)}, 1, b > 0);
    EXPECT_NEAR(sum, loss_, 1e-12 * loss_);
    size_t i = 0;
    for (const ParamSpec& spec : model_.params().specs()) {
      const Values parts = gradient(model_, spec.name);
      Values difference = parts;
      for (size_t j = 0; j < parts.size(); ++j) difference[j] -= slopes_[i][j];
      EXPECT_LE(norm_of(difference), 1e-12 * (norm_of(slopes_[i]) + 1)) << spec.name;
      ++i;
    }
  }

  int64_t T_;
  std::vector<int32_t> document_starts_, tokens_, targets_;
  Transformer model_;
  double loss_;
  std::vector<Values> slopes_;  // of every parameter
};

inline void check_gradients(const Json& changes, int64_t T = 0) {
  SCOPED_TRACE(changes.dump() + (T ? fmt::format(", {} tokens", T) : ""));
  const auto backend = make_cpu_backend();
  const ModelConfig config = small_model(changes);
  GradientCheck(*backend, config, T ? T : config.context).run();
}

// Bits of the loss and of every gradient of a step.
inline std::vector<Values> bits_of_step(const ModelConfig& config, Recompute recompute) {
  const auto backend = make_cpu_backend();
  Transformer model(*backend, config, {.max_batch = 2, .recompute = recompute});
  model.initialise(5);
  const std::vector<int32_t> tokens = random_tokens(0, 2 * config.context);
  const std::vector<int32_t> targets = random_tokens(1, 2 * config.context);
  std::vector<Values> out;
  out.push_back({model.forward_backward({tokens.data(), targets.data(), 2, config.context}, 1, false)});
  for (const ParamSpec& spec : model.params().specs()) out.push_back(gradient(model, spec.name));
  out.push_back(model.part_losses());
  if (!model.averages().empty()) out.push_back(values_of(model.averages().all_observed()));
  return out;
}

}  // namespace sluice::parity::gradients

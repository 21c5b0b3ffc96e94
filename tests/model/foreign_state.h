// A stage that no list of the project has, with state that is not trained and a loss of its own. Written for host
// memory.
//
//   centred_values   v - a, where a [H_kv D_v] is a moving average of the values' means; and the loss value_size, the
//                    mean of (v - a)^2 over tokens and columns
#pragma once

#include "model/foreign_parts.h"

namespace sluice::foreign {

struct CentredValuesOptions final : StageOptions {
  bool on = false;
  double weight = 0.2;

  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<CentredValuesOptions>(*this); }
  void describe(Fields& f) override {
    f.add("centred_values", on, "values less their moving average");
    f.add("value_size_weight", weight, "of the loss").range(0, 10);
  }
  std::string text() const override { return "centred values"; }
  bool present() const override { return on; }
};

class CentredValues final : public Stage {
 public:
  static constexpr double kInitial = 0.3, kKeep = 0.9;

  CentredValues(const LayerPlace& place, double weight) : columns_(place.sizes.value_columns()) {
    const Declarations& d = place.d;
    average_ = d.averages.declare(place.name + ".mean_value", {columns_}, kInitial, kKeep);
    loss_ = d.losses.declare("value_size", weight);
    result_ =
        d.attention_activation(place.layer, place.name + ".centred", "activations", {d.max_tokens(), columns_}, d.act);
  }

  Seat seat() const override { return Seat::kValues; }
  Tensor result(const Pass& pass, const Tensor& in) const override { return pass.view(result_, in.shape); }

  void forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const override {
    as_numbers(in, [&](auto zero) {
      using T = decltype(zero);
      const T* average = pass.averages.value(average_).as<T>();
      T squares = 0;
      for (int64_t n = 0; n < pass.N(); ++n)
        for (int64_t c = 0; c < columns_; ++c) {
          const T centred = row<T>(in, n)[c] - average[c];
          row<T>(result(pass, in), n)[c] = centred;
          squares += centred * centred;
        }
      if (!pass.counts()) return;
      const T share = T(pass.share / double(pass.N()));
      pass.loss(loss_).as<T>()[0] += share * squares / T(columns_);
      T* observed = pass.averages.observed(average_).as<T>();
      for (int64_t n = 0; n < pass.N(); ++n)
        for (int64_t c = 0; c < columns_; ++c) observed[c] += share * row<T>(in, n)[c];
    });
  }

  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                  const Tensor& /*workspace*/) const override {
    as_numbers(in, [&](auto zero) {
      using T = decltype(zero);
      const T* average = pass.averages.value(average_).as<T>();
      const T factor = T(2 * pass.loss_scale(loss_) / double(pass.N() * columns_));
      for (int64_t n = 0; n < pass.N(); ++n)
        for (int64_t c = 0; c < columns_; ++c) row<T>(d_result, n)[c] += factor * (row<T>(in, n)[c] - average[c]);
    });
    return d_result;
  }

 private:
  int64_t columns_;
  AverageId average_;
  PartLossId loss_;
  BufferId result_;
};

inline StagePart centred_values() {
  return {.name = "centred_values",
          .summary = "values less their moving average",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<CentredValuesOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            const auto& own = static_cast<const CentredValuesOptions&>(*options);
            return own.on ? std::make_unique<CentredValues>(place, own.weight) : nullptr;
          },
          .in_python = false,
          .example = R"({"attention": {"centred_values": true}})"};
}

}  // namespace sluice::foreign

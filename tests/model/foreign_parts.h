// Parts that no list of the project has: what they need of the interfaces everybody gets. Written for host memory.
//
//   running_sum      a core without weights: O_i = s_h times the sum of the values that row i sees. s [H] is learned; a
//   decoder
//                    keeps one row of sums for it.
//   wide_values      a stage that asks for wider values and is never made
//   pair_difference  a stage that asks for twice the query heads: O_h = R_2h - t_h R_(2h+1), t [H] learned
#pragma once

#include "base/error.h"
#include "model/attention/core.h"
#include "model/attention/stage.h"
#include "model/config/attention_parts.h"
#include "model/config/config.h"

namespace sluice::foreign {

// body(x as pointers to its type): all tensors have one.
template <class Body>
void as_numbers(const Tensor& x, Body body) {
  if (x.dtype == DType::kF64) body(double{});
  else if (x.dtype == DType::kF32) body(float{});
  else throw std::logic_error("a foreign part is written for f32 and f64");
}

template <class T>
T* row(const Tensor& x, int64_t n) {
  return x.as<T>() + n * x.stride;
}

// ---- running_sum -------------------------------------------------------------------------------------------------------

struct RunningSumOptions final : CoreOptions {
  double scale = 0.5;

  std::unique_ptr<CoreOptions> clone() const override { return std::make_unique<RunningSumOptions>(*this); }
  void describe(Fields& f) override { f.add("sum_scale", scale, "of the sums, at the start").range(0, 10); }
  void resolve(const ModelConfig& model, const std::string& path) const override {
    if (model.qk_norm) throw UserError("{}.core = running_sum has no use for model.qk_norm", path);
  }
  std::string text() const override { return "running sums"; }
};

class RunningSum final : public Core {
 public:
  RunningSum(const LayerPlace& place, const RunningSumOptions& options) : sizes_(place.projected) {
    scale_ = place.d.params.declare(place.name + ".sum_scale", {sizes_.H_q}, Init::constant(options.scale),
                                    DecayGroup::kVector);
    state_ = place.d.states.declare({1, sizes_.value_columns()}, place.d.act);
  }

  void forward(const Pass& pass, const Heads& heads) const override {
    as_numbers(heads.v, [&](auto zero) { run(pass, heads, zero); });
  }

  void extend(const Pass& pass, const Heads& heads) const override { forward(pass, heads); }

  void backward(const Pass& pass, const Heads& heads, const Heads& d) const override {
    as_numbers(heads.v, [&](auto zero) { run_back(pass, heads, d, zero); });
  }

 private:
  int64_t first_key(const Pass& pass, int64_t n) const { return pass.first_key ? pass.first_key.as<int32_t>()[n] : 0; }

  template <class T>
  void run(const Pass& pass, const Heads& heads, T) const {
    const T* scale = pass.params.value(scale_).as<T>();
    const int64_t columns = sizes_.value_columns(), D = sizes_.D_v, group = sizes_.H_q / sizes_.H_kv;
    for (int64_t b = 0; b < pass.B; ++b) {
      std::vector<T> sums(size_t(columns), T(0));
      T* kept = pass.state ? row<T>(pass.state->view(state_), b) : nullptr;
      if (kept && pass.first_position > 0) sums.assign(kept, kept + columns);
      for (int64_t t = 0; t < pass.T; ++t) {
        const int64_t n = b * pass.T + t;
        if (t > 0 && first_key(pass, n) == t) std::fill(sums.begin(), sums.end(), T(0));
        for (int64_t c = 0; c < columns; ++c) sums[size_t(c)] += row<T>(heads.v, n)[c];
        for (int64_t h = 0; h < sizes_.H_q; ++h)
          for (int64_t r = 0; r < D; ++r) row<T>(heads.out, n)[h * D + r] = scale[h] * sums[size_t(h / group * D + r)];
      }
      if (kept) std::copy(sums.begin(), sums.end(), kept);
    }
  }

  template <class T>
  void run_back(const Pass& pass, const Heads& heads, const Heads& d, T) const {
    const T* scale = pass.params.value(scale_).as<T>();
    T* d_scale = pass.params.grad(scale_).as<T>();
    const int64_t columns = sizes_.value_columns(), D = sizes_.D_v, group = sizes_.H_q / sizes_.H_kv;
    if (!pass.accumulate) std::fill(d_scale, d_scale + sizes_.H_q, T(0));
    for (int64_t b = 0; b < pass.B; ++b) {
      std::vector<T> sums(size_t(columns), T(0));
      for (int64_t t = pass.T; t-- > 0;) {
        const int64_t n = b * pass.T + t;
        for (int64_t h = 0; h < sizes_.H_q; ++h)
          for (int64_t r = 0; r < D; ++r) {
            const T slope = row<T>(d.out, n)[h * D + r];
            sums[size_t(h / group * D + r)] += scale[h] * slope;
            d_scale[h] += slope * row<T>(heads.out, n)[h * D + r] / scale[h];
          }
        std::copy(sums.begin(), sums.end(), row<T>(d.v, n));
        std::fill_n(row<T>(d.q, n), sizes_.query_columns(), T(0));
        std::fill_n(row<T>(d.k, n), sizes_.key_columns(), T(0));
        if (first_key(pass, n) == t) std::fill(sums.begin(), sums.end(), T(0));
      }
    }
  }

  HeadSizes sizes_;
  ParamId scale_;
  StateId state_;
};

inline CorePart running_sum() {
  return {.name = "running_sum",
          .summary = "sums of values",
          .options = []() -> std::unique_ptr<CoreOptions> { return std::make_unique<RunningSumOptions>(); },
          .make = [](const LayerPlace& place, const CoreOptions& options) -> std::unique_ptr<Core> {
            return std::make_unique<RunningSum>(place, static_cast<const RunningSumOptions&>(options));
          },
          .in_python = false,
          .example = R"({"attention": {"core": "running_sum"}})"};
}

// ---- pair_difference ---------------------------------------------------------------------------------------------------

struct PairDifferenceOptions final : StageOptions {
  bool on = false;

  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<PairDifferenceOptions>(*this); }
  void describe(Fields& f) override { f.add("pair_difference", on, "the difference of two heads' results"); }
  std::string text() const override { return "differences of pairs"; }
  bool present() const override { return on; }
  HeadSizes asks(const HeadSizes& handed_on) const override {
    HeadSizes asked = handed_on;
    asked.H_q *= 2;
    return asked;
  }
};

class PairDifference final : public Stage {
 public:
  explicit PairDifference(const LayerPlace& place) : H_(place.sizes.H_q), D_(place.sizes.D_v) {
    const Declarations& d = place.d;
    factor_ = d.params.declare(place.name + ".pair_factor", {H_}, Init::constant(0.5), DecayGroup::kVector);
    const int back = d.timeline.attention_backward(place.layer);
    result_ =
        d.attention_activation(place.layer, place.name + ".pairs", "activations", {d.max_tokens(), H_ * D_}, d.act);
    d_in_ = d.plan.declare(place.name + ".d_pairs", "scratch", {d.max_tokens(), 2 * H_ * D_}, d.act, {back, back});
  }

  Seat seat() const override { return Seat::kResults; }
  bool keeps_weights() const override { return false; }
  Tensor result(const Pass& pass, const Tensor& /*in*/) const override {
    return pass.view(result_, {pass.N(), H_ * D_});
  }

  void forward(const Pass& pass, const Tensor& in, const StageReads& /*reads*/) const override {
    as_numbers(in, [&](auto zero) {
      using T = decltype(zero);
      const T* factor = pass.params.value(factor_).as<T>();
      for (int64_t n = 0; n < pass.N(); ++n)
        for (int64_t h = 0; h < H_; ++h)
          for (int64_t r = 0; r < D_; ++r)
            row<T>(result(pass, in), n)[h * D_ + r] =
                row<T>(in, n)[2 * h * D_ + r] - factor[h] * row<T>(in, n)[(2 * h + 1) * D_ + r];
    });
  }

  Tensor backward(const Pass& pass, const Tensor& d_result, const Tensor& in, const StageReads& /*reads*/,
                  const Tensor& /*workspace*/) const override {
    const Tensor d_in = pass.view(d_in_, in.shape);
    as_numbers(in, [&](auto zero) {
      using T = decltype(zero);
      const T* factor = pass.params.value(factor_).as<T>();
      T* d_factor = pass.params.grad(factor_).as<T>();
      if (!pass.accumulate) std::fill(d_factor, d_factor + H_, T(0));
      for (int64_t n = 0; n < pass.N(); ++n)
        for (int64_t h = 0; h < H_; ++h)
          for (int64_t r = 0; r < D_; ++r) {
            const T slope = row<T>(d_result, n)[h * D_ + r];
            row<T>(d_in, n)[2 * h * D_ + r] = slope;
            row<T>(d_in, n)[(2 * h + 1) * D_ + r] = -factor[h] * slope;
            d_factor[h] -= slope * row<T>(in, n)[(2 * h + 1) * D_ + r];
          }
    });
    return d_in;
  }

 private:
  int64_t H_, D_;
  ParamId factor_;
  BufferId result_, d_in_;
};

inline StagePart pair_difference() {
  return {.name = "pair_difference",
          .summary = "differences of pairs of heads",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<PairDifferenceOptions>(); },
          .make = [](const LayerPlace& place, const StageOptions* options) -> std::unique_ptr<Stage> {
            return options->present() ? std::make_unique<PairDifference>(place) : nullptr;
          },
          .in_python = false,
          .example = R"({"attention": {"pair_difference": true}})"};
}

// ---- wide_values -------------------------------------------------------------------------------------------------------

// Asks for values so many times as wide, and makes no stage: for what is refused.
struct WideValuesOptions final : StageOptions {
  int64_t times = 1;

  bool present() const override { return times > 1; }
  std::unique_ptr<StageOptions> clone() const override { return std::make_unique<WideValuesOptions>(*this); }
  void describe(Fields& f) override { f.add("wide_values", times, "times as wide").range(1, 100); }
  std::string text() const override { return "wide values"; }
  HeadSizes asks(const HeadSizes& handed_on) const override {
    HeadSizes asked = handed_on;
    asked.D_v *= times;
    return asked;
  }
};

inline StagePart wide_values() {
  return {.name = "wide_values",
          .summary = "",
          .options = []() -> std::unique_ptr<StageOptions> { return std::make_unique<WideValuesOptions>(); },
          .make = [](const LayerPlace&, const StageOptions*) -> std::unique_ptr<Stage> { return nullptr; },
          .in_python = false,
          .example = "{}"};
}

}  // namespace sluice::foreign

// Residuals that no list of the project has: what they need of the interface everybody gets. Written for host memory.
//
//   depth      a sublayer reads a mix of the last `reach` states, with learned weights w = softmax(logits):
//                in_s = sum_m w_sm h_m,  h_(s+1) = in_s + out_s.   With reach 1 that is a running sum.
//   two_lanes  two streams, as hyper-connections have them; a, b and M [2, 2] learned at each sublayer:
//                in_s = a_0 x_0 + a_1 x_1,  x_i <- sum_j M_ij x_j + b_i out_s
#pragma once

#include "model/config/residual_parts.h"
#include "model/foreign_parts.h"
#include "model/residual/residual.h"

namespace sluice::foreign {

// f(x's type) as for as_numbers, with what two tensors of one type have at every element.
template <class Body>
void for_elements(const Tensor& x, Body body) {
  for (int64_t n = 0; n < x.rows(); ++n)
    for (int64_t c = 0; c < x.cols(); ++c) body(n, c);
}

// out = factor x, or added to it.
inline void scale_into(const Tensor& out, const Tensor& x, double factor, bool add) {
  as_numbers(x, [&](auto zero) {
    using T = decltype(zero);
    for_elements(x, [&](int64_t n, int64_t c) {
      const T scaled = T(factor) * row<T>(x, n)[c];
      row<T>(out, n)[c] = add ? row<T>(out, n)[c] + scaled : scaled;
    });
  });
}

inline double dot(const Tensor& x, const Tensor& y) {
  double sum = 0;
  as_numbers(x, [&](auto zero) {
    using T = decltype(zero);
    for_elements(x, [&](int64_t n, int64_t c) { sum += double(row<T>(x, n)[c]) * double(row<T>(y, n)[c]); });
  });
  return sum;
}

inline std::vector<double> numbers(const Tensor& x) {
  std::vector<double> out;
  as_numbers(x, [&](auto zero) {
    using T = decltype(zero);
    out.assign(x.as<T>(), x.as<T>() + x.elements());
  });
  return out;
}

inline void write_gradient(const Pass& pass, ParamId id, const std::vector<double>& values) {
  const Tensor grad = pass.params.grad(id);
  as_numbers(grad, [&](auto zero) {
    using T = decltype(zero);
    for (size_t i = 0; i < values.size(); ++i)
      grad.as<T>()[i] = T(values[i]) + (pass.accumulate ? grad.as<T>()[i] : T(0));
  });
}

// ---- depth -------------------------------------------------------------------------------------------------------------

struct DepthOptions final : ResidualOptions {
  int64_t reach = 4;

  std::unique_ptr<ResidualOptions> clone() const override { return std::make_unique<DepthOptions>(*this); }
  void describe(Fields& f) override { f.add("reach", reach, "states that are mixed").range(1, 1000); }
  void resolve(const ModelConfig& model, const std::string& path) const override {
    if (reach > 2 * model.layers + 1)
      throw UserError("{}.reach = {}: with model.layers = {} there are {} states", path, reach, model.layers,
                      2 * model.layers + 1);
  }
  std::string text() const override { return "a mix over depth"; }
};

class Depth final : public Residual {
 public:
  Depth(const Declarations& d, const DepthOptions& options)
      : width_(d.config.width),
        reach_(int(options.reach)),
        step_(d.config.parallel_residual ? 2 : 1),
        last_(d.timeline.head_sublayer()),
        mix_(d.plan.declare("depth.mix", "residual", {d.max_tokens(), width_}, d.act, {0, d.timeline.end()})),
        d_top_(d.plan.declare("depth.d_top", "gradients", {d.max_tokens(), width_}, d.act,
                              {d.timeline.head(), d.timeline.head()})) {}

  void declare(const Declarations& d, int s) override {
    const Timeline& time = d.timeline;
    const Shape shape = {d.max_tokens(), width_};
    const std::string name = "depth." + std::to_string(s);
    states_.push_back(d.plan.declare(name + ".state", "residual", shape, d.act,
                                     {s == 0 ? time.embedding() : time.forward(s - 1), time.backward(s)}));
    if (!routes(s)) {
      logits_.emplace_back();
      d_states_.emplace_back();
      return;
    }
    logits_.push_back(
        d.params.declare(name + ".logits", {int64_t(sources(s).size())}, Init::constant(0), DecayGroup::kVector));
    d_states_.push_back(
        d.plan.declare(name + ".d_state", "gradients", shape, d.act,
                       {time.backward(first_gradient_from(s)), s == 0 ? time.end() : time.backward(s - step_)}));
  }

  Tensor start(const Pass& pass) const override { return state(pass, 0); }
  NormInput input(const Pass& pass, int s) const override {
    return routes(s) ? NormInput{.x = stream_at(pass, s)} : NormInput{};
  }
  Tensor output(const Pass& pass, int s) const override { return state(pass, s + 1); }
  // An MLP beside its attention adds to what that has made.
  void add(const Pass& pass, int s) const override {
    scale_into(state(pass, s + 1), routes(s) ? view(pass, mix_) : state(pass, s), 1, true);
  }

  Tensor stream_at(const Pass& pass, int s) const override {
    const std::vector<double> weights = this->weights(pass, s);
    for (size_t i = 0; i < weights.size(); ++i)
      scale_into(view(pass, mix_), state(pass, sources(s)[i]), weights[i], i > 0);
    return view(pass, mix_);
  }

  Tensor d_output(const Pass& pass, int s) const override { return view(pass, d_states_[size_t(behind(s))]); }
  Slope d_input(const Pass& pass, int s, const Tensor& /*d_normed*/) const override {
    return s == last_ ? Slope{view(pass, d_top_), false} : Slope{d_output(pass, s), true};
  }
  void backward(const Pass& pass, int s, const Tensor& d_stream) const override {
    const std::vector<double> weights = this->weights(pass, s);
    std::vector<double> slopes(weights.size());
    double mean = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const int m = sources(s)[i];
      slopes[i] = dot(d_stream, state(pass, m));
      mean += weights[i] * slopes[i];
      scale_into(view(pass, d_states_[size_t(m)]), d_stream, weights[i], first_gradient_from(m) != s);
    }
    for (size_t i = 0; i < weights.size(); ++i) slopes[i] = weights[i] * (slopes[i] - mean);
    write_gradient(pass, logits_[size_t(s)], slopes);
  }
  Tensor d_start(const Pass& pass) const override { return view(pass, d_states_[0]); }

 private:
  bool routes(int s) const { return s % step_ == 0; }
  // The next state that a sublayer may read.
  int behind(int s) const { return s - s % step_ + step_; }
  std::vector<int> sources(int s) const {
    std::vector<int> out;
    for (int m = s; m >= 0 && int(out.size()) < reach_; m -= step_) out.push_back(m);
    return out;
  }
  int first_gradient_from(int m) const { return std::min(last_, m + (reach_ - 1) * step_); }
  std::vector<double> weights(const Pass& pass, int s) const {
    std::vector<double> out = numbers(pass.params.value(logits_[size_t(s)]));
    double sum = 0;
    for (double& x : out) sum += x = std::exp(x);
    for (double& x : out) x /= sum;
    return out;
  }
  Tensor view(const Pass& pass, BufferId buffer) const { return pass.view(buffer, {pass.N(), width_}); }
  Tensor state(const Pass& pass, int s) const { return view(pass, states_[size_t(s)]); }

  int64_t width_;
  int reach_, step_, last_;
  BufferId mix_, d_top_;
  std::vector<BufferId> states_, d_states_;  // [N, C], at each sublayer
  std::vector<ParamId> logits_;
};

inline ResidualPart depth() {
  return {.name = "depth",
          .summary = "a mix of states",
          .options = []() -> std::unique_ptr<ResidualOptions> { return std::make_unique<DepthOptions>(); },
          .make = [](const Declarations& d, const ResidualOptions& options) -> std::unique_ptr<Residual> {
            return std::make_unique<Depth>(d, static_cast<const DepthOptions&>(options));
          },
          .in_python = false,
          .example = R"({"residual": {"type": "depth", "reach": 3}})"};
}

// ---- two_lanes ---------------------------------------------------------------------------------------------------------

struct TwoLanesOptions final : ResidualOptions {
  std::unique_ptr<ResidualOptions> clone() const override { return std::make_unique<TwoLanesOptions>(*this); }
  void describe(Fields& /*group*/) override {}
  void resolve(const ModelConfig& model, const std::string& path) const override {
    if (model.parallel_residual) throw UserError("{} = two_lanes needs model.parallel_residual = false", path);
  }
  std::string text() const override { return "two streams"; }
};

// At each sublayer the parameter [8]: a, b, then M by rows.
class TwoLanes final : public Residual {
 public:
  explicit TwoLanes(const Declarations& d)
      : width_(d.config.width),
        last_(d.timeline.head_sublayer()),
        in_(d.plan.declare("lanes.in", "residual", {d.max_tokens(), width_}, d.act, {0, d.timeline.end()})),
        out_(d.plan.declare("lanes.out", "residual", {int64_t(last_) * d.max_tokens(), width_}, d.act,
                            {0, d.timeline.end()})),
        d_in_(d.plan.declare("lanes.d_in", "gradients", {d.max_tokens(), width_}, d.act,
                             {d.timeline.head(), d.timeline.end()})),
        d_out_(d.plan.declare("lanes.d_out", "gradients", {d.max_tokens(), width_}, d.act,
                              {d.timeline.head(), d.timeline.end()})),
        d_lanes_(d.plan.declare("lanes.d", "gradients", {4 * d.max_tokens(), width_}, d.act,
                                {d.timeline.head(), d.timeline.end()})) {}

  void declare(const Declarations& d, int s) override {
    const std::string name = "lanes." + std::to_string(s);
    lanes_.push_back(d.plan.declare(name, "residual", {2 * d.max_tokens(), width_}, d.act,
                                    {s == 0 ? 0 : d.timeline.forward(s - 1), d.timeline.backward(s)}));
    factors_.push_back(d.params.declare(name + ".factors", {8}, Init::constant(0.5), DecayGroup::kVector));
  }

  Tensor start(const Pass& pass) const override { return lane(pass, 0, 0); }
  NormInput input(const Pass& pass, int s) const override {
    if (s == 0) scale_into(lane(pass, 0, 1), lane(pass, 0, 0), 1, false);
    return {.x = stream_at(pass, s)};
  }
  Tensor output(const Pass& pass, int s) const override {
    return pass.view(out_, {last_ * pass.N(), width_}).row_range(s * pass.N(), pass.N());
  }
  void add(const Pass& pass, int s) const override {
    const std::vector<double> f = factors(pass, s);
    for (int i = 0; i < 2; ++i) {
      scale_into(lane(pass, s + 1, i), output(pass, s), f[size_t(2 + i)], false);
      for (int j = 0; j < 2; ++j) scale_into(lane(pass, s + 1, i), lane(pass, s, j), f[size_t(4 + 2 * i + j)], true);
    }
  }

  Tensor stream_at(const Pass& pass, int s) const override {
    const std::vector<double> f = factors(pass, s);
    for (int i = 0; i < 2; ++i) scale_into(view(pass, in_), lane(pass, s, i), f[size_t(i)], i > 0);
    return view(pass, in_);
  }

  // What came before it gets its share of the streams too: what of theirs goes past the sublayer.
  Tensor d_output(const Pass& pass, int s) const override {
    for (int i = 0; i < 2; ++i)
      scale_into(view(pass, d_out_), d_lane(pass, s + 1, i), factors(pass, s)[size_t(2 + i)], i > 0);
    return view(pass, d_out_);
  }
  Slope d_input(const Pass& pass, int /*s*/, const Tensor& /*d_normed*/) const override {
    return {view(pass, d_in_), false};
  }
  void backward(const Pass& pass, int s, const Tensor& d_stream) const override {
    const std::vector<double> f = factors(pass, s);
    std::vector<double> slopes(8);
    for (int j = 0; j < 2; ++j) {
      slopes[size_t(j)] = dot(d_stream, lane(pass, s, j));
      scale_into(d_lane(pass, s, j), d_stream, f[size_t(j)], false);
      if (s == last_) continue;
      slopes[size_t(2 + j)] = dot(d_lane(pass, s + 1, j), output(pass, s));
      for (int i = 0; i < 2; ++i) {
        slopes[size_t(4 + 2 * i + j)] = dot(d_lane(pass, s + 1, i), lane(pass, s, j));
        scale_into(d_lane(pass, s, j), d_lane(pass, s + 1, i), f[size_t(4 + 2 * i + j)], true);
      }
    }
    write_gradient(pass, factors_[size_t(s)], slopes);
    if (s == 0) scale_into(d_lane(pass, 0, 0), d_lane(pass, 0, 1), 1, true);
  }
  Tensor d_start(const Pass& pass) const override { return d_lane(pass, 0, 0); }

 private:
  std::vector<double> factors(const Pass& pass, int s) const { return numbers(pass.params.value(factors_[size_t(s)])); }
  Tensor view(const Pass& pass, BufferId buffer) const { return pass.view(buffer, {pass.N(), width_}); }
  Tensor lane(const Pass& pass, int s, int i) const {
    return pass.view(lanes_[size_t(s)], {2 * pass.N(), width_}).row_range(i * pass.N(), pass.N());
  }
  // Those of one sublayer lie beside those of the next.
  Tensor d_lane(const Pass& pass, int s, int i) const {
    return pass.view(d_lanes_, {4 * pass.N(), width_}).row_range((2 * (s % 2) + i) * pass.N(), pass.N());
  }

  int64_t width_;
  int last_;
  BufferId in_, out_, d_in_, d_out_, d_lanes_;
  std::vector<BufferId> lanes_;
  std::vector<ParamId> factors_;
};

inline ResidualPart two_lanes() {
  return {.name = "two_lanes",
          .summary = "two streams",
          .options = []() -> std::unique_ptr<ResidualOptions> { return std::make_unique<TwoLanesOptions>(); },
          .make = [](const Declarations& d, const ResidualOptions&) -> std::unique_ptr<Residual> {
            return std::make_unique<TwoLanes>(d);
          },
          .in_python = false,
          .example = R"({"residual": "two_lanes"})"};
}

}  // namespace sluice::foreign

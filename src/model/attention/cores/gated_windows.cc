#include "model/attention/cores/gated_windows.h"

#include "kernels/formulas/gate.h"
#include "kernels/host_copy.h"
#include "model/attention/cores/tiles_options.h"

namespace sluice {
namespace {

LayerPlace window_of(const LayerPlace& place) {
  return {place.d, place.name + ".window", place.layer, place.projected, place.sizes};
}

class HostGated final : public HostWeights {
 public:
  HostGated(std::unique_ptr<HostWeights> permuted, std::unique_ptr<HostWeights> window, std::vector<double> openings,
            int64_t T, int64_t H)
      : permuted_(std::move(permuted)), window_(std::move(window)), openings_(std::move(openings)), T_(T), H_(H) {}

  HeadWeights of(int64_t sequence, int64_t head, int64_t positions) const override {
    HeadWeights out = permuted_->of(sequence, head, positions);
    const HeadWeights window = window_->of(sequence, head, positions);
    for (int64_t i = 0; i < positions; ++i) {
      const double* open = &openings_[size_t(((sequence * T_ + i) * 2) * H_ + head)];
      const auto mix = [&](double& x, double y) { x = open[0] * x + open[H_] * y; };
      for (size_t at = size_t(i * positions); at < size_t((i + 1) * positions); ++at)
        mix(out.rows[at], window.rows[at]);
      if (!out.key_bias.empty()) mix(out.key_bias[size_t(i)], window.key_bias[size_t(i)]);
    }
    return out;
  }

 private:
  std::unique_ptr<HostWeights> permuted_, window_;
  std::vector<double> openings_;
  int64_t T_, H_;
};

}  // namespace

GatedWindows::GatedWindows(const LayerPlace& place, const TilesOptions& options)
    : sizes_(place.projected), window_(window_of(place), options), permuted_(place, options, true, &window_) {
  const Declarations& d = place.d;
  const Timeline& time = d.timeline;
  const int64_t N = d.max_tokens(), gates = 2 * sizes_.H_q, results = sizes_.result_columns();
  const int now = time.attention(place.layer), back = time.attention_backward(place.layer);
  const std::string name = place.name + ".branch_gates";
  const BufferUses uses = {
      {now, time.mlp(place.layer)}, {time.mlp_backward(place.layer), back}, d.recompute == Recompute::kBlock};
  gates_ = LowRankLinear(d, name, gates, d.config.width, 0, uses);
  gate_bias_ = d.params.declare(name + ".bias", {gates}, Init::constant(0), DecayGroup::kVector);
  const auto kept = [&](const std::string& its_name, int64_t columns) {
    return d.attention_activation(place.layer, place.name + its_name, "activations", {N, columns}, d.act);
  };
  const auto scratch = [&](const std::string& its_name, int64_t columns) {
    return d.plan.declare(place.name + its_name, "scratch", {N, columns}, d.act, {back, back});
  };
  logits_ = kept(".branch_gates.logits", gates);
  window_results_ = kept(".window.results", results);
  permuted_results_ = kept(".permuted.results", results);
  d_logits_ = scratch(".branch_gates.d_logits", gates);
  d_branch_ = scratch(".d_branch", results);
  d_window_ = scratch(".window.d_projected", sizes_.projected_columns());
  const int again = time.mlp_backward(place.layer);
  gated_ =
      d.plan.declare(place.name + ".window.gated", "scratch", {N, results}, d.act, {now, now}, Lifetime{again, again});
  probed_ = d.plan.declare(place.name + ".probed", "scratch", {2, d.max_batch, sizes_.H_q, d.config.rows()}, d.acc(),
                           {now, time.mlp(place.layer)});
}

Heads GatedWindows::heads_of(const Branch& branch, const Pass& pass, const Heads& heads) const {
  return {
      .q = heads.q, .k = heads.k, .v = heads.v, .out = pass.view(branch.results, {pass.N(), sizes_.result_columns()})};
}

GateForward GatedWindows::gate(const Branch& branch, const Pass& pass) const {
  GateForward args;
  args.grain = GateGrain::kHead;
  args.heads = sizes_.H_q;
  args.x = pass.view(branch.results, {pass.N(), sizes_.result_columns()});
  args.logits = logits(pass, logits_).columns(branch.first_column, sizes_.H_q);
  return args;
}

void GatedWindows::mix(const Pass& pass, const Heads& heads) const {
  gates_.forward(pass, logits(pass, logits_), heads.x, gate_bias_);
  GateForward args = gate(permuted(), pass);
  args.out = heads.out;
  pass.backend.run(args);
  args = gate(window(), pass);
  args.out = pass.view(gated_, {pass.N(), sizes_.result_columns()});
  pass.backend.run(args);
  pass.backend.run(Accumulate{.out = heads.out, .x = args.out});
}

void GatedWindows::forward(const Pass& pass, const Heads& heads) const {
  window_.forward(pass, heads_of(window(), pass, heads));
  permuted_.forward(pass, heads_of(permuted(), pass, heads));
  mix(pass, heads);
}

void GatedWindows::extend(const Pass& pass, const Heads& heads) const {
  window_.extend(pass, heads_of(window(), pass, heads));
  permuted_.extend(pass, heads_of(permuted(), pass, heads));
  mix(pass, heads);
}

void GatedWindows::run_back(const Branch& branch, const Pass& pass, const Heads& heads, const Tensor& d_out,
                            const Heads& d) const {
  GateBackward args;
  args.forward = gate(branch, pass);
  args.d_out = d_out;
  args.d_x = pass.view(d_branch_, {pass.N(), sizes_.result_columns()});
  args.d_logits = logits(pass, d_logits_).columns(branch.first_column, sizes_.H_q);
  pass.backend.run(args);
  Heads of_branch = d;
  of_branch.out = args.d_x;
  branch.tiles.backward(pass, heads_of(branch, pass, heads), of_branch);
}

void GatedWindows::backward(const Pass& pass, const Heads& heads, const Heads& d) const {
  run_back(permuted(), pass, heads, d.out, d);
  const Tensor projected = pass.view(d_window_, {pass.N(), sizes_.projected_columns()});
  const int64_t queries = sizes_.query_columns(), keys = sizes_.key_columns();
  const Heads d_window = {.q = projected.columns(0, queries),
                          .k = projected.columns(queries, keys),
                          .v = projected.columns(queries + keys, sizes_.value_columns()),
                          .out = {}};
  run_back(window(), pass, heads, d.out, d_window);
  pass.backend.run(Accumulate{.out = d.q, .x = d_window.q});
  pass.backend.run(Accumulate{.out = d.k, .x = d_window.k});
  pass.backend.run(Accumulate{.out = d.v, .x = d_window.v});
}

void GatedWindows::backward_input(const Pass& pass, const Tensor& d_x, const Tensor& x, const Tensor& workspace) const {
  gates_.backward(pass, d_x, logits(pass, d_logits_), x, gate_bias_, workspace);
}

// ---- for instruments ------------------------------------------------------------------------------------------------

std::vector<double> GatedWindows::openings(const Pass& pass) const {
  std::vector<double> out = host_numbers(pass.backend, logits(pass, logits_));
  for (double& x : out) x = gate_of(x);
  return out;
}

// The weights' sum; and of the scores, which both share, the window's where the row sees so far back in it.
void GatedWindows::probe(const Pass& pass, const Heads& heads, const Tensor& first_weight,
                         const Tensor& first_gap) const {
  const int64_t H = sizes_.H_q, T = pass.T;
  const Tensor both = pass.view(probed_, {2, pass.B * H * T});
  const Tensor weight = both.row_range(0, 1).reshaped({pass.B, H, T}),
               gap = both.row_range(1, 1).reshaped({pass.B, H, T});
  permuted_.weights()->probe(pass, heads_of(permuted(), pass, heads), weight, gap);
  window_.weights()->probe(pass, heads_of(window(), pass, heads), first_weight, first_gap);
  const std::vector<double> far = host_numbers(pass.backend, weight), far_gaps = host_numbers(pass.backend, gap),
                            open = openings(pass);
  std::vector<double> weights = host_numbers(pass.backend, first_weight), gaps = host_numbers(pass.backend, first_gap);
  for (size_t row = 0; row < weights.size(); ++row) {
    const int64_t b = int64_t(row) / (H * T), h = int64_t(row) / T % H, t = int64_t(row) % T;
    const double* gates = &open[size_t(((b * T + t) * 2) * H + h)];
    weights[row] = gates[0] * far[row] + gates[H] * weights[row];
    if (gaps[row] == 0) gaps[row] = far_gaps[row];
  }
  upload_numbers(pass.backend, first_weight, weights);
  upload_numbers(pass.backend, first_gap, gaps);
}

std::unique_ptr<HostWeights> GatedWindows::read(const Pass& pass, const Heads& heads) const {
  return std::make_unique<HostGated>(permuted_.weights()->read(pass, heads_of(permuted(), pass, heads)),
                                     window_.weights()->read(pass, heads_of(window(), pass, heads)), openings(pass),
                                     pass.T, sizes_.H_q);
}

}  // namespace sluice

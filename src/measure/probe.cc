#include "measure/probe.h"

#include <algorithm>
#include <cmath>

#include "base/statistics.h"
#include "kernels/host_copy.h"
#include "measure/shown_weights.h"

namespace sluice {
namespace {

struct HeadSums {
  Mean sink_attention;
  std::vector<Mean> gap_by_token;
  SinkAndRest value, wo_value;
  Mean gate, gate_closed, gate_sink;
};

// -log of the softmax of a row of logits, for all entries.
void negative_log_softmax(const float* logits, int64_t V, std::vector<double>& out) {
  const double top = *std::max_element(logits, logits + V);
  double total = 0;
  for (int64_t v = 0; v < V; ++v) total += std::exp(logits[v] - top);
  const double log_total = top + std::log(total);
  for (int64_t v = 0; v < V; ++v) out[size_t(v)] = log_total - logits[v];
}

// What is let through to one query head at the first `positions` positions: the mean over its columns. At the source,
// query heads that share a value share its gate.
std::vector<double> head_openings(const std::vector<double>& openings, int64_t columns, int64_t group, int64_t groups,
                                  int64_t positions) {
  const int64_t per_group = columns / groups;
  std::vector<double> out(static_cast<size_t>(positions));
  for (int64_t i = 0; i < positions; ++i)
    for (int64_t c = 0; c < per_group; ++c)
      out[size_t(i)] += openings[size_t(i * columns + group * per_group + c)] / double(per_group);
  return out;
}

// Rows i < positions: the weights of query i on keys 0 .. i, or where it sees both sides on as many as there are rows.
// A key bias takes part in them and is not shown.
std::vector<std::vector<double>> rows_of(const HeadWeights& weights, int64_t positions, bool causal) {
  std::vector<std::vector<double>> rows;
  for (int64_t i = 0; i < positions; ++i) {
    const double* row = weights.rows.data() + i * positions;
    rows.emplace_back(row, row + (causal ? i + 1 : positions));
  }
  return rows;
}

}  // namespace

struct Prober::Sums {
  std::vector<std::vector<HeadSums>> heads;  // [layer][head]
  std::vector<SinkAndRest> residual;         // [layer]
  Mean backcopy, bigram;
};

Prober::Prober(Transformer& model, const DataSource& source, int64_t sequences)
    : model_(model), source_(source), task_(source.task()), sequences_(sequences), batches_(model.max_batch()) {
  const ModelConfig& config = model.config();
  const int64_t N = (model.max_batch() + model.fixed_sequences()) * config.rows();
  arena_ = Arena(model.backend(), size_t(2 * N * config.heads) * size_of(accumulator_of(model.act())));
}

Tensor Prober::buffer(size_t offset_elements, Shape shape) const {
  const DType acc = accumulator_of(model_.act());
  return arena_.at(offset_elements * size_of(acc), acc, shape);
}

ProbeResult Prober::run() {
  const ModelConfig& config = model_.config();
  Sums sums;
  HeadSums empty;
  empty.gap_by_token.resize(size_t(config.vocab_size));
  sums.heads.assign(size_t(config.layers), std::vector<HeadSums>(size_t(config.heads), empty));
  sums.residual.resize(size_t(config.layers));
  batches_.for_each(source_, 0, sequences_, [&](const Batch& batch) { run_micro_batch(batch, sums); });
  return result(sums);
}

void Prober::run_micro_batch(const Batch& batch, Sums& sums) {
  const auto probe_layer = [&](const Pass& now, int64_t layer) {
    if (!has_heads(layer)) return;
    probe_attention(now, layer, sums);
    probe_values(now, layer, sums);
    probe_gate(now, layer, sums);
  };
  const Pass pass = model_.forward(batch, probe_layer);
  if (task_) probe_risk(pass, batch, sums);
  for (int64_t layer = 0; layer < model_.config().layers; ++layer) probe_residual(pass, layer, sums);
}

void Prober::probe_residual(const Pass& pass, int64_t layer, Sums& sums) {
  const Tensor output = model_.stream_before(pass, layer + 1);
  const Tensor norms = buffer(0, {pass.N(), 1});
  model_.backend().run(GroupNorms{norms, output, 1});
  const std::vector<float> host = host_copy(model_.backend(), norms);
  for (int64_t n = 0; n < pass.N(); ++n) sums.residual[size_t(layer)].add(position(pass, n) == 0, host[size_t(n)]);
}

void Prober::probe_attention(const Pass& pass, int64_t layer, Sums& sums) {
  const WeightsView* weights = attention(layer).weights();
  if (!weights) return;
  const int64_t H = model_.config().heads, rows = pass.B * H * pass.T;
  const Pass all = model_.as_it_ran(pass);  // statistics of rows are of all sequences; the batch's are the first
  const Shape shape = {all.B, H, all.T};
  const Tensor first_weight = buffer(0, shape), first_gap = buffer(size_t(shape.elements()), shape);
  weights->probe(all, attention(layer).heads(all), first_weight, first_gap);
  const std::vector<float> sink = host_copy(model_.backend(), first_weight);
  const std::vector<float> gap = host_copy(model_.backend(), first_gap);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t h = row / pass.T % H, n = row / (pass.T * H) * pass.T + row % pass.T;
    const int32_t token = pass.batch.tokens[n];
    if (token < 0 || (task_ && task_->is_trigger(token))) continue;
    if (weights->reach() > 0 && position(pass, n) >= weights->reach()) continue;  // the sink is out of its sight
    HeadSums& head = sums.heads[size_t(layer)][size_t(h)];
    head.sink_attention.add(sink[size_t(row)]);
    if (position(pass, n) >= 2) head.gap_by_token[size_t(token)].add(gap[size_t(row)]);
  }
}

void Prober::probe_values(const Pass& pass, int64_t layer, Sums& sums) {
  const ModelConfig& config = model_.config();
  const auto [H, KV, D_qk, D, H_q2] = attention(layer).sizes();
  const int64_t group = config.heads / KV;
  const Tensor values = attention(layer).values(pass);
  const Tensor norms = buffer(0, {pass.N(), KV});
  model_.backend().run(GroupNorms{norms, values, KV});
  const std::vector<float> raw = host_copy(model_.backend(), norms);
  const Tensor through = model_.scratch(pass).normed;  // [N, C]
  for (int64_t h = 0; h < config.heads; ++h) {
    HeadSums& head = sums.heads[size_t(layer)][size_t(h)];
    model_.backend().run(Matmul{.out = through,
                                .a = values.columns(h / group * D, D),
                                .b = attention(layer).output_weight(pass).columns(h * D, D),
                                .transpose_b = true,
                                .bias = {}});
    const Tensor wo_norms = buffer(0, {pass.N(), 1});
    model_.backend().run(GroupNorms{wo_norms, through, 1});
    const std::vector<float> wo = host_copy(model_.backend(), wo_norms);
    for (int64_t n = 0; n < pass.N(); ++n) {
      head.value.add(position(pass, n) == 0, raw[size_t(n * KV + h / group)]);
      head.wo_value.add(position(pass, n) == 0, wo[size_t(n)]);
    }
  }
}

void Prober::probe_gate(const Pass& pass, int64_t layer, Sums& sums) {
  const Stage* opener = attention(layer).opener();
  if (!opener) return;
  const std::vector<double> openings = opener->openings(pass);
  const int64_t columns = int64_t(openings.size()) / pass.N(), per_group = columns / opener->opening_groups();
  for (int64_t n = 0; n < pass.N(); ++n)
    for (int64_t c = 0; c < columns; ++c) {
      const double open = openings[size_t(n * columns + c)];
      HeadSums& head = sums.heads[size_t(layer)][size_t(c / per_group)];
      head.gate.add(open);
      head.gate_closed.add(open < 0.1 ? 1.0 : 0.0);
      if (position(pass, n) == 0) head.gate_sink.add(open);
    }
}

void Prober::probe_risk(const Pass& pass, const Batch& batch, Sums& sums) {
  const int64_t V = model_.config().vocab_size;
  std::vector<double> loss(static_cast<size_t>(V));
  model_.for_logits(pass, [&](int64_t first, const Tensor& chunk) {
    const std::vector<float> logits = host_copy(model_.backend(), chunk);
    for (int64_t row = 0; row < chunk.rows(); ++row) {
      negative_log_softmax(logits.data() + row * V, V, loss);
      const size_t n = size_t(first + row);
      if (task_->is_trigger(batch.tokens[n])) {
        sums.backcopy.add(loss[size_t(batch.targets[n])]);  // the next token is certain
        continue;
      }
      const auto truth = task_->next_distribution(batch.tokens[n]);
      double risk = 0;
      for (size_t v = 0; v < truth.size(); ++v)
        if (truth[v] > 0) risk += truth[v] * loss[v];
      sums.bigram.add(risk);
    }
  });
}

ProbeResult Prober::result(const Sums& sums) const {
  ProbeResult out;
  for (size_t layer = 0; layer < sums.heads.size(); ++layer) {
    if (!has_heads(int64_t(layer))) continue;
    const Stage* opener = attention(int64_t(layer)).opener();
    for (size_t h = 0; h < sums.heads[layer].size(); ++h) {
      const HeadSums& head = sums.heads[layer][h];
      Mean gap, gap_of_queries;
      for (const Mean& token : head.gap_by_token) {
        if (token.count) gap.add(token.value());
        gap_of_queries.sum += token.sum;
        gap_of_queries.count += token.count;
      }
      out.heads.push_back({.layer = int64_t(layer),
                           .head = int64_t(h),
                           .has_weights = attention(int64_t(layer)).weights() != nullptr,
                           .sink_attention = head.sink_attention.value(),
                           .sink_logit_gap = gap.value(),
                           .sink_logit_gap_queries = gap_of_queries.value(),
                           .value_norm_sink = head.value.sink.value(),
                           .value_norm_rest = head.value.rest.value(),
                           .wo_value_norm_sink = head.wo_value.sink.value(),
                           .wo_value_norm_rest = head.wo_value.rest.value(),
                           .residual_norm_sink = sums.residual[layer].sink.value(),
                           .residual_norm_rest = sums.residual[layer].rest.value()});
      if (opener && int64_t(h) < opener->opening_groups())
        out.gates.push_back({.layer = int64_t(layer),
                             .head = int64_t(h),
                             .mean = head.gate.value(),
                             .closed_share = head.gate_closed.value(),
                             .mean_sink = head.gate_sink.value()});
    }
  }
  if (task_) out.risk = RiskProbe{std::nullopt, sums.bigram.value()};
  if (task_ && sums.backcopy.count) out.risk->backcopy = sums.backcopy.value();
  return out;
}

std::vector<Json> ProbeResult::lines(int64_t step) const {
  std::vector<Json> out;
  for (const HeadProbe& h : heads) {
    Json line = {{"kind", "probe"}, {"step", step}, {"layer", h.layer}, {"head", h.head}};
    if (h.has_weights) {
      line["sink_attention"] = h.sink_attention;
      line["sink_logit_gap"] = h.sink_logit_gap;
      line["sink_logit_gap_queries"] = h.sink_logit_gap_queries;
    }
    line["value_norm_sink"] = h.value_norm_sink;
    line["value_norm_rest"] = h.value_norm_rest;
    line["wo_value_norm_sink"] = h.wo_value_norm_sink;
    line["wo_value_norm_rest"] = h.wo_value_norm_rest;
    line["residual_norm_sink"] = h.residual_norm_sink;
    line["residual_norm_rest"] = h.residual_norm_rest;
    out.push_back(std::move(line));
  }
  for (const GateProbe& g : gates)
    out.push_back({{"kind", "gate"},
                   {"step", step},
                   {"layer", g.layer},
                   {"head", g.head},
                   {"mean", g.mean},
                   {"closed_share", g.closed_share},
                   {"mean_sink", g.mean_sink}});
  if (!risk) return out;
  Json line = {{"kind", "risk"}, {"step", step}};
  if (risk->backcopy) line["backcopy"] = *risk->backcopy;
  line["bigram"] = risk->bigram;
  out.push_back(std::move(line));
  return out;
}

Json Prober::attention_map(int64_t step, int64_t positions) {
  const int64_t registers = model_.config().registers, shown = std::min(positions, model_.config().rows());
  const Batch batch = batches_.read(source_, 0, 1);
  Json tokens = Json::array(), maps = Json::array();
  for (int64_t t = 0; t < shown; ++t)
    tokens.push_back(t < registers ? fmt::format("[register {}]", t) : source_.token_text(batch.tokens[t - registers]));
  const auto add_maps = [&](const Pass& pass, int64_t layer) {
    if (!has_heads(layer)) return;
    const std::unique_ptr<HostWeights> weights = shown_weights(model_, pass, layer);
    if (!weights) return;
    const Stage* opener = attention(layer).opener();
    const std::vector<double> openings = opener ? opener->openings(pass) : std::vector<double>{};
    for (int64_t head = 0; head < model_.config().heads; ++head) {
      Json map = {{"layer", layer},
                  {"head", head},
                  {"weights", rows_of(weights->of(0, head, shown), shown, model_.config().causal)}};
      if (opener) {
        const int64_t groups = opener->opening_groups(), columns = int64_t(openings.size()) / pass.N();
        map["gate"] = head_openings(openings, columns, head / (model_.config().heads / groups), groups, shown);
      }
      maps.push_back(std::move(map));
    }
  };
  model_.forward(batch, add_maps);
  return {{"step", step}, {"tokens", tokens}, {"maps", maps}};
}

}  // namespace sluice

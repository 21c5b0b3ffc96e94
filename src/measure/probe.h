// The probes: what attention, values and the residual stream look like on held-out sequences.
//
// Definitions (arXiv 2410.13835; T positions, the sink is position 0; where the data masks documents, positions count
// from the document's start, and every document has a sink; where the model has registers, these are the first
// positions, and queries are those of tokens):
//   sink_attention   mean of a_i0 over the query positions that are not triggers (all, for tasks without triggers);
//                    with a window, here and in the gap, over those that still see position 0: i < w
//   sink_logit_gap   s_i0 - mean over 1 <= j < i of s_ij for i >= 2, averaged per query token, then over those tokens;
//                    sink_logit_gap_queries: averaged over the queries, so that frequent tokens count more
//   value_norm_*     |v_j| at the sink and its mean elsewhere; wo_value_norm_*: the norm of the head's W_o v_j
//   residual_norm_*  the norm of the block's output at the sink and its mean elsewhere
//   backcopy, bigram cross-entropy against the true next-token distribution at trigger and at other positions, nats
//   gate             mean opening, share of openings below 0.1, mean at the sink
// A layer without heads, as of an MLP in attention's place, has none of those of heads.
#pragma once

#include <optional>
#include <vector>

#include "base/config/config.h"
#include "data/batches.h"
#include "model/transformer.h"

namespace sluice {

struct HeadProbe {
  int64_t layer = 0, head = 0;
  bool has_weights = true;  // of its core; else the three figures of weights are absent
  double sink_attention = 0, sink_logit_gap = 0, sink_logit_gap_queries = 0;
  double value_norm_sink = 0, value_norm_rest = 0;
  double wo_value_norm_sink = 0, wo_value_norm_rest = 0;
  double residual_norm_sink = 0, residual_norm_rest = 0;
};

struct GateProbe {
  int64_t layer = 0, head = 0;
  double mean = 0, closed_share = 0, mean_sink = 0;
};

struct RiskProbe {
  std::optional<double> backcopy;  // none where the sequences have no trigger
  double bigram = 0;
};

struct ProbeResult {
  std::vector<HeadProbe> heads;
  std::vector<GateProbe> gates;
  std::optional<RiskProbe> risk;

  // As lines of metrics.jsonl.
  std::vector<Json> lines(int64_t step) const;
};

class Prober {
 public:
  // Probes `sequences` held-out sequences of `source`, which must outlive this object, as must the model. Device memory
  // is allocated now, nothing later; a run sums up in host memory, [layers, heads, vocabulary] for the logit gaps.
  Prober(Transformer& model, const DataSource& source, int64_t sequences);

  ProbeResult run();
  // Attention weights of the first `positions` positions of one held-out sequence, every layer and head, in the form
  // of attention/step_*.json; with a gate also its opening at each position. Layers without weights have no maps.
  Json attention_map(int64_t step, int64_t positions);

  size_t bytes() const { return arena_.bytes(); }

 private:
  struct Sums;
  const AttentionLayer& attention(int64_t layer) const { return model_.blocks()[size_t(layer)].attention(); }
  bool has_heads(int64_t layer) const { return model_.blocks()[size_t(layer)].has_heads(); }
  Tensor buffer(size_t offset_elements, Shape shape) const;
  // Of token n of the pass, within its document.
  static int64_t position(const Pass& pass, int64_t n) {
    return n % pass.T - (pass.batch.document_starts ? pass.batch.document_starts[n] : 0);
  }
  void run_micro_batch(const Batch& batch, Sums& sums);
  void probe_attention(const Pass& pass, int64_t layer, Sums& sums);
  void probe_values(const Pass& pass, int64_t layer, Sums& sums);
  void probe_gate(const Pass& pass, int64_t layer, Sums& sums);
  void probe_residual(const Pass& pass, int64_t layer, Sums& sums);
  void probe_risk(const Pass& pass, const Batch& batch, Sums& sums);
  ProbeResult result(const Sums& sums) const;

  Transformer& model_;
  const DataSource& source_;
  const TokenTask* task_;  // null for other data
  int64_t sequences_;
  Arena arena_;
  BatchReader batches_;
};

}  // namespace sluice

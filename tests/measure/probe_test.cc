// The probes against their definitions (probe.h), computed plainly from the parameters of a small model: nothing of the
// model's own forward pass is used. f32 against double: 1e-4 is some hundred roundings of numbers around 1.
#include "measure/probe.h"

#include "data/sources/bigram_backcopy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "data/config.h"
#include "model/parity.h"

namespace sluice {
namespace {

using parity::Values;

constexpr int64_t kContext = 24, kWidth = 16, kHeads = 2, kHeadSize = 8, kVocab = 67, kSequences = 6;
constexpr double kTolerance = 1e-4;

// Rows of x, each normalised, with gain and bias.
Values layer_norm(const Values& x, const Values& gain, const Values& bias) {
  Values out(x.size());
  for (size_t row = 0; row < x.size(); row += kWidth) {
    double mean = 0, variance = 0;
    for (size_t c = 0; c < kWidth; ++c) mean += x[row + c] / kWidth;
    for (size_t c = 0; c < kWidth; ++c) variance += (x[row + c] - mean) * (x[row + c] - mean) / kWidth;
    for (size_t c = 0; c < kWidth; ++c)
      out[row + c] = (x[row + c] - mean) / std::sqrt(variance + 1e-5) * gain[c] + bias[c];
  }
  return out;
}

// x W^T for W [outputs, inputs].
Values linear(const Values& x, const Values& weight, size_t inputs) {
  const size_t outputs = weight.size() / inputs, rows = x.size() / inputs;
  Values out(rows * outputs);
  for (size_t n = 0; n < rows; ++n)
    for (size_t o = 0; o < outputs; ++o)
      for (size_t i = 0; i < inputs; ++i) out[n * outputs + o] += x[n * inputs + i] * weight[o * inputs + i];
  return out;
}

double norm(const double* x, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return std::sqrt(sum);
}

struct Average {
  double sum = 0, count = 0;
  void add(double x) { sum += x, ++count; }
  double value() const { return sum / count; }
};

// What one head of one sequence adds up to, by the definitions.
struct Expected {
  Average sink, gap_queries, value_sink, value_rest, wo_sink, wo_rest;
  std::map<int32_t, Average> gap_by_token;
  Average gate, closed, gate_sink;
  double gap() const {
    Average tokens;
    for (const auto& [token, average] : gap_by_token) tokens.add(average.value());
    return tokens.value();
  }
};

class ProbeTest : public testing::Test {
 protected:
  explicit ProbeTest(int64_t window = 0)
      : window_(window),
        backend_(make_cpu_backend()),
        model_(*backend_, config(window), {.max_batch = 4}),
        source_(make_source(DataConfig{}, Split::kHeldOut, kContext, kVocab, 3)),
        task_(dynamic_cast<const BigramBackcopy&>(*source_)) {
    model_.initialise(11);
    // Gates and norms that are not all alike: sharper scores, some gates nearly shut.
    for (const char* name : {"blocks.0.attention.qkv.weight", "blocks.0.attention.gate.weight"}) {
      const Tensor weight = model_.params().value(model_.params().find(name));
      for (int64_t i = 0; i < weight.elements(); ++i) weight.as<float>()[i] *= 3;
    }
  }

  static ModelConfig config(int64_t window) {
    return parity::model_config({{"vocab_size", kVocab},
                                 {"context", kContext},
                                 {"layers", 1},
                                 {"heads", kHeads},
                                 {"width", kWidth},
                                 {"mlp_width", 20},
                                 {"mlp", "relu"},
                                 {"bias", false},
                                 {"tied_head", false},
                                 {"init", "pytorch"},
                                 {"attention", {{"type", "vga"}, {"window", window}}}});
  }
  Values parameter(const char* name) const { return parity::parameter(model_, name); }

  // Adds what head h of a sequence shows. q, k, v: [T, H*D]; gate: logits [T, H].
  void add_head(Expected& e, size_t h, const int32_t* tokens, const Values& q, const Values& k, const Values& v,
                const Values& gate) const {
    const Values wo = parameter("blocks.0.attention.output.weight");
    for (size_t i = 0; i < kContext; ++i) {
      const size_t begin = window_ > 0 && i >= size_t(window_) ? i + 1 - size_t(window_) : 0;
      Values scores(i + 1);
      for (size_t j = begin; j <= i; ++j)
        for (size_t d = 0; d < kHeadSize; ++d)
          scores[j] +=
              q[i * kWidth + h * kHeadSize + d] * k[j * kWidth + h * kHeadSize + d] / std::sqrt(double(kHeadSize));
      double total = 0, others = 0;
      for (const double s : scores) total += std::exp(s);
      for (size_t j = 1; j < i; ++j) others += scores[j] / double(i - 1);
      if (!task_.is_trigger(tokens[i]) && begin == 0) {
        e.sink.add(std::exp(scores[0]) / total);
        if (i >= 2) {
          e.gap_queries.add(scores[0] - others);
          e.gap_by_token[tokens[i]].add(scores[0] - others);
        }
      }
      const double* value = &v[i * kWidth + h * kHeadSize];
      Values through(kWidth);
      for (size_t c = 0; c < kWidth; ++c)
        for (size_t d = 0; d < kHeadSize; ++d) through[c] += wo[c * kWidth + h * kHeadSize + d] * value[d];
      (i == 0 ? e.value_sink : e.value_rest).add(norm(value, kHeadSize));
      (i == 0 ? e.wo_sink : e.wo_rest).add(norm(through.data(), kWidth));
      const double open = 1 / (1 + std::exp(-gate[i * kHeads + h]));
      e.gate.add(open);
      e.closed.add(open < 0.1);
      if (i == 0) e.gate_sink.add(open);
    }
  }

  std::vector<Expected> expected() const {
    std::vector<int32_t> tokens(kSequences * kContext), targets(tokens.size());
    source_->fill(0, kSequences, tokens.data(), targets.data());
    const Values table = parameter("embedding.token.weight"), positions = parameter("embedding.position.weight");
    std::vector<Expected> heads(kHeads);
    for (size_t b = 0; b < kSequences; ++b) {
      Values x(kContext * kWidth);
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = table[size_t(tokens[b * kContext + i / kWidth]) * kWidth + i % kWidth] + positions[i];
      const Values normed = layer_norm(x, parameter("blocks.0.norm1.weight"), parameter("blocks.0.norm1.bias"));
      const Values qkv = linear(normed, parameter("blocks.0.attention.qkv.weight"), kWidth);
      Values part[3];
      for (size_t n = 0; n < kContext; ++n)
        for (size_t c = 0; c < 3 * kWidth; ++c) part[c / kWidth].push_back(qkv[n * 3 * kWidth + c]);
      const Values gate = linear(part[2], parameter("blocks.0.attention.gate.weight"), kWidth);
      for (size_t h = 0; h < kHeads; ++h) add_head(heads[h], h, &tokens[b * kContext], part[0], part[1], part[2], gate);
    }
    return heads;
  }

  // Of a run over kSequences sequences.
  void check_heads_and_gates();

  const int64_t window_;  // of the model's attention; 0: none
  std::unique_ptr<Backend> backend_;
  Transformer model_;
  std::unique_ptr<DataSource> source_;
  const BigramBackcopy& task_;
};

void ProbeTest::check_heads_and_gates() {
  Prober prober(model_, *source_, kSequences);  // two micro-batches, the second smaller
  const ProbeResult result = prober.run();
  const std::vector<Expected> heads = expected();
  ASSERT_EQ(result.heads.size(), size_t(kHeads));
  ASSERT_EQ(result.gates.size(), size_t(kHeads));
  for (size_t h = 0; h < kHeads; ++h) {
    SCOPED_TRACE(h);
    const HeadProbe& got = result.heads[h];
    const Expected& want = heads[h];
    EXPECT_NEAR(got.sink_attention, want.sink.value(), kTolerance);
    EXPECT_NEAR(got.sink_logit_gap, want.gap(), kTolerance);
    EXPECT_NEAR(got.sink_logit_gap_queries, want.gap_queries.value(), kTolerance);
    EXPECT_GT(std::fabs(want.gap() - want.gap_queries.value()), 10 * kTolerance) << "the two averages must differ here";
    EXPECT_NEAR(got.value_norm_sink, want.value_sink.value(), kTolerance);
    EXPECT_NEAR(got.value_norm_rest, want.value_rest.value(), kTolerance);
    EXPECT_NEAR(got.wo_value_norm_sink, want.wo_sink.value(), kTolerance);
    EXPECT_NEAR(got.wo_value_norm_rest, want.wo_rest.value(), kTolerance);
    EXPECT_NEAR(result.gates[h].mean, want.gate.value(), kTolerance);
    EXPECT_NEAR(result.gates[h].closed_share, want.closed.value(), kTolerance);
    EXPECT_NEAR(result.gates[h].mean_sink, want.gate_sink.value(), kTolerance);
    EXPECT_GT(want.closed.value(), 0) << "some gates must be nearly closed here";
  }
}

TEST_F(ProbeTest, HeadsAndGatesAreByDefinition) { check_heads_and_gates(); }

// Rows that do not see the sink say nothing of it.
class ProbeOfWindows : public ProbeTest {
 protected:
  ProbeOfWindows() : ProbeTest(9) {}
};

TEST_F(ProbeOfWindows, HeadsAndGatesAreByDefinition) { check_heads_and_gates(); }

// The risks against losses and logits, which golden values hold: over all positions the mean loss is their mixture
// where the next token was drawn as expected; here the distributions are exact, so they are recomputed from the logits.
TEST_F(ProbeTest, RisksAndResidualNormsAreByDefinition) {
  Prober prober(model_, *source_, 4);
  const ProbeResult result = prober.run();
  std::vector<int32_t> tokens(4 * kContext), targets(tokens.size());
  source_->fill(0, 4, tokens.data(), targets.data());
  const Pass pass = model_.forward({tokens.data(), nullptr, 4, kContext});
  Average backcopy, bigram, sink, rest;
  const Values residual = parity::values_of(model_.stream_before(pass, model_.config().layers));
  for (size_t n = 0; n < tokens.size(); ++n) (n % kContext == 0 ? sink : rest).add(norm(&residual[n * kWidth], kWidth));
  model_.for_logits(pass, [&](int64_t first, const Tensor& chunk) {
    const Values logits = parity::values_of(chunk);
    for (size_t row = 0; row < size_t(chunk.rows()); ++row) {
      const size_t n = size_t(first) + row;
      double total = 0, risk = 0;
      for (size_t v = 0; v < kVocab; ++v) total += std::exp(logits[row * kVocab + v]);
      const auto loss = [&](size_t v) { return std::log(total) - logits[row * kVocab + v]; };
      if (task_.is_trigger(tokens[n])) {
        EXPECT_EQ(targets[n], tokens[n - 1]) << "after a trigger comes what was before it";
        backcopy.add(loss(size_t(tokens[n - 1])));
        continue;
      }
      const auto truth = task_.next_distribution(tokens[n]);
      for (size_t v = 0; v < truth.size(); ++v) risk += truth[v] * loss(v);
      bigram.add(risk);
    }
  });
  EXPECT_NEAR(result.risk->backcopy.value(), backcopy.value(), kTolerance);
  EXPECT_NEAR(result.risk->bigram, bigram.value(), kTolerance);
  EXPECT_NEAR(result.heads[0].residual_norm_sink, sink.value(), kTolerance);
  EXPECT_NEAR(result.heads[0].residual_norm_rest, rest.value(), kTolerance);
}

// A mean over nothing is no risk of 0.
TEST_F(ProbeTest, WithoutTriggersThereIsNoBackcopyRisk) {
  DataConfig without;
  without.triggers = 0;
  const auto source = make_source(without, Split::kHeldOut, kContext, kVocab, 3);
  const ProbeResult result = Prober(model_, *source, 4).run();
  ASSERT_TRUE(result.risk.has_value());
  EXPECT_FALSE(result.risk->backcopy.has_value());
  EXPECT_GT(result.risk->bigram, 0);
  const Json line = result.lines(5).back();
  EXPECT_EQ(line.at("kind"), "risk");
  EXPECT_FALSE(line.contains("backcopy"));
  EXPECT_TRUE(line.contains("bigram"));
}

}  // namespace
}  // namespace sluice

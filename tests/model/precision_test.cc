// f32 and bf16 models against f64 with the same parameters, for every preset; and what must not differ by a single bit.
//
// How far rounding may carry a result is found by making it: an f64 model whose parameters are each moved by at most u
// of themselves, u the rounding of the stored activations. In a product x W^T a model rounds x, W and the result where
// this moves W alone, and residual sums, norms and gates round once more each: a handful of moves with random signs,
// for which kMargin stands, together with chance. f32 also rounds inside sums of up to n terms, which is up to sqrt(n)
// as much (attention_gradient_test.cc says why); in bf16 these sums are f32 and do not count.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>

#include "base/philox.h"
#include "kernels/types/bf16.h"
#include "model/parity.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kBatch = 2, kContext = 20, kVocab = 23;
constexpr double kMargin = 3;       // measured: 1.4 at most
constexpr uint64_t kMovedRuns = 8;  // of a single number, the loss, three draws may all be small

ModelConfig small_model(const Json& attention) {
  return model_config({{"vocab_size", kVocab},
                       {"context", kContext},
                       {"layers", 2},
                       {"heads", 4},
                       {"kv_heads", 2},
                       {"width", 32},
                       {"mlp_width", 48},
                       {"mlp", "gelu"},
                       {"init", "pytorch"},
                       {"tied_head", false},
                       {"attention", attention}});
}

double random_in(double bound, uint64_t stream, uint64_t i) {
  return bound * (2 * double(uniform24(philox(19, stream, i).word[0])) - 1);
}

std::vector<int32_t> random_tokens(uint64_t stream) {
  std::vector<int32_t> out(size_t(kBatch * kContext));
  for (size_t i = 0; i < out.size(); ++i) out[i] = int32_t(philox(3, stream, i).word[0] % kVocab);
  return out;
}

// The model at values that f32 holds exactly, each then moved by at most `move` of itself.
Transformer make_model(Backend& backend, const Json& attention, DType act, double move = 0, uint64_t seed = 0) {
  Transformer model(backend, small_model(attention), {.act = act, .max_batch = kBatch});
  Transformer start(backend, small_model(attention), {.act = DType::kF32, .max_batch = kBatch, .training = false});
  start.initialise(5);
  uint64_t stream = 100;
  for (const ParamSpec& spec : model.params().specs()) {
    Values values = parameter(start, spec.name);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = double(float(values[i] + random_in(0.2, stream, i)));
      if (move > 0) values[i] *= 1 + random_in(move, 1000 * (seed + 1) + stream, i);
    }
    assign(model.params().value(named(model, spec.name)), values);
    ++stream;
  }
  model.params().refresh_compute_copy(backend);
  return model;
}

struct Result {
  std::string name;
  Values values;
};

Values floats_of(const Tensor& x) {  // values_of, of bf16 too
  if (x.dtype != DType::kBF16) return values_of(x);
  Values out;
  for (int64_t row = 0; row < x.rows(); ++row)
    for (int64_t col = 0; col < x.cols(); ++col) out.push_back(double(to_float(x.as<Bf16>()[row * x.stride + col])));
  return out;
}

// Logits, loss and every gradient.
std::vector<Result> run(Transformer& model, uint64_t batch = 0) {
  const std::vector<int32_t> tokens = random_tokens(batch), targets = random_tokens(batch + 1);
  std::vector<Result> out = {{"logits", {}}};
  model.for_logits(model.forward({tokens.data(), nullptr, kBatch, kContext}), [&](int64_t, const Tensor& chunk) {
    const Values rows = floats_of(chunk);
    out[0].values.insert(out[0].values.end(), rows.begin(), rows.end());
  });
  const double scale = 1.0 / double(kBatch * kContext);
  out.push_back(
      {"loss", {scale * model.forward_backward({tokens.data(), targets.data(), kBatch, kContext}, scale, false)}});
  for (const ParamSpec& spec : model.params().specs())
    out.push_back({"gradient of " + spec.name, gradient(model, spec.name)});
  return out;
}

double difference(const Values& x, const Values& y) {
  Values out(x);
  for (size_t i = 0; i < x.size(); ++i) out[i] -= y[i];
  return norm_of(out);
}

void check_precision(Backend& backend, const Json& attention, DType act) {
  SCOPED_TRACE(attention.dump() + " " + name_of(act));
  const double u = act == DType::kBF16 ? 0x1p-8 : 0x1p-24, inside_sums = act == DType::kBF16 ? 1 : std::sqrt(48);
  Transformer exact_model = make_model(backend, attention, DType::kF64), model = make_model(backend, attention, act);
  const std::vector<Result> exact = run(exact_model), got = run(model);
  Values moved(exact.size());
  for (uint64_t seed = 0; seed < kMovedRuns; ++seed) {
    Transformer other = make_model(backend, attention, DType::kF64, u, seed);
    const std::vector<Result> results = run(other);
    for (size_t i = 0; i < exact.size(); ++i)
      moved[i] = std::max(moved[i], difference(results[i].values, exact[i].values));
  }
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = difference(got[i].values, exact[i].values), storage = u * norm_of(exact[i].values);
    EXPECT_LE(error, kMargin * inside_sums * moved[i] + storage) << got[i].name;
  }
}

TEST(ModelPrecision, F32IsRoundingAwayFromF64) {
  const auto backend = make_cpu_backend();
  for (const AttentionPreset& preset : attention_presets()) check_precision(*backend, preset.name, DType::kF32);
}

TEST(ModelPrecision, BF16IsRoundingAwayFromF64) {
  const auto backend = make_cpu_backend();
  for (const AttentionPreset& preset : attention_presets()) check_precision(*backend, preset.name, DType::kBF16);
}

// ---- bits --------------------------------------------------------------------------------------------------------

void expect_same(const std::vector<Result>& got, const std::vector<Result>& want) {
  for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i].values, want[i].values) << want[i].name;
}

const Json kEverything = {
    {"type", "vga"}, {"site", "source"}, {"score", {{"type", "softpick"}}}, {"key_value_bias", true}};

// Neither another model, nor what an earlier batch left in the buffers, changes a bit.
TEST(ModelPrecision, TheSameBatchGivesTheSameBits) {
  const auto backend = make_cpu_backend();
  for (const DType act : {DType::kF32, DType::kBF16, DType::kF64})
    for (const Json& attention : {Json("softmax"), Json("sink_logit"), Json("gated_attention"), kEverything}) {
      SCOPED_TRACE(attention.dump() + " " + name_of(act));
      Transformer one = make_model(*backend, attention, act), two = make_model(*backend, attention, act);
      const std::vector<Result> first = run(one);
      run(one, 8);
      expect_same(run(one), first);
      expect_same(run(two), first);
    }
}

// Of our own kernels; oneDNN's bf16 products do not promise it.
TEST(ModelPrecision, ThreadsDoNotChangeABit) {
  const auto backend = make_cpu_backend();
  const int before = omp_get_max_threads();
  for (const DType act : {DType::kF32, DType::kF64}) {
    Transformer model = make_model(*backend, kEverything, act);
    omp_set_num_threads(1);
    const std::vector<Result> alone = run(model);
    for (const int threads : {2, 4}) {
      omp_set_num_threads(threads);
      expect_same(run(model), alone);
    }
  }
  omp_set_num_threads(before);
}

}  // namespace
}  // namespace sluice

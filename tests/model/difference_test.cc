// What the stage difference promises beyond what attention_parts_test.cc asks of every part: its published forms, what
// they are where the factor or the noise heads are of a special kind, and the weights that instruments see.
#include "model/attention/stages/output_norm.h"

#include "base/error_text.h"
#include "model/decoder_check.h"
#include "model/small_layers.h"

namespace sluice {
namespace {

using namespace parity;

const char* const kQkv[] = {"attention.qkv.weight", "attention.qkv.bias"};

class DifferenceStage : public SmallLayers {
 protected:
  static constexpr int64_t kWidth = 12, kHeads = 2, kD = 6, kLayers = 2;

  // Rows [from, from + count) heads of D rows of a stacked matrix, put at row head `to` of another.
  static void copy_heads(Values& into, int64_t to, const Values& of, int64_t from, int64_t count, int64_t columns) {
    const int64_t size = kD * columns;
    std::copy_n(of.begin() + from * size, count * size, into.begin() + to * size);
  }

  // Every parameter that both have, in one shape.
  static void copy_shared(Transformer& to, const Transformer& from) {
    for (const ParamSpec& spec : to.params().specs()) {
      const ParamId id = from.params().find(spec.name);
      if (id && from.params().specs()[size_t(id.index)].shape == spec.shape)
        assign(to.params().value(named(to, spec.name)), parameter(from, spec.name));
    }
  }

  // body(name, columns) for the weight and the bias of every layer's projection.
  template <class Body>
  static void for_projections(Body body) {
    for (int layer = 0; layer < kLayers; ++layer)
      for (const char* name : kQkv)
        body(fmt::format("blocks.{}.{}", layer, name), std::string(name).ends_with("bias") ? 1 : kWidth);
  }

  // Gives `plain`, with softmax, the parameters of `other` and as queries and keys those of the heads that are not
  // taken away: heads `queries` of its projection, then `keys` and `values`.
  static void make_plain(Transformer& plain, const Transformer& other, const std::vector<int64_t>& queries,
                         const std::vector<int64_t>& keys, const std::vector<int64_t>& values) {
    copy_shared(plain, other);
    for_projections([&](const std::string& name, int64_t columns) {
      const Values all = parameter(other, name);
      Values own = parameter(plain, name);
      int64_t to = 0;
      for (const auto* part : {&queries, &keys, &values})
        for (const int64_t from : *part) copy_heads(own, to++, all, from, 1, columns);
      assign(plain.params().value(named(plain, name)), own);
    });
  }

  // The factor of a layer's scalar lambda becomes `wanted`: q1 = 0, and e^(q2 . k2) = 1 + l0 - wanted.
  static void set_factor(Transformer& model, int layer, double wanted) {
    const std::string name = fmt::format("blocks.{}.attention.difference.lambda", layer);
    Values vectors = parameter(model, name);
    const size_t D = vectors.size() / 4;
    std::fill_n(vectors.begin(), D, 0.0);
    std::fill(vectors.begin() + int64_t(2 * D), vectors.end(), 0.0);
    vectors[2 * D] = 1;
    vectors[3 * D] = std::log(1 + lambda_init(layer) - wanted);
    assign(model.params().value(named(model, name)), vectors);
  }
};

// Some twenty roundings of numbers of a few units, in double.
constexpr double kRounding = 1e-13;

const Json kScalarOwn = {{"difference", {{"lambda", "scalar"}, {"keys", "own"}}}};
const Json kClampedOwn = {{"difference", {{"lambda", "clamped"}, {"keys", "own"}}}};

// ---- the published forms --------------------------------------------------------------------------------------------

TEST_F(DifferenceStage, V2HasTwiceTheQueriesAndAProjection) {
  const Transformer plain = model({{"attention", "softmax"}}), v2 = model({{"attention", "diff_v2"}});
  EXPECT_EQ(v2.params().count(), plain.params().count() + kLayers * kHeads * (kD * (kWidth + 1) + kWidth));
}

// Half as many heads with values twice as wide: the projections are those of softmax. Beside them four vectors and a
// gain.
TEST_F(DifferenceStage, V1WithWideValuesHasTheParametersOfSoftmax) {
  const Json wide = {{"heads", 1}, {"head_size", kD}, {"value_head_size", 2 * kD}};
  Json v1 = wide, grouped = {{"heads", 2}, {"kv_heads", 1}, {"head_size", kD}, {"value_head_size", 2 * kD}};
  v1["attention"] = "diff_v1", grouped["attention"] = "grouped_diff";
  const Transformer plain = model({{"attention", "softmax"}}), published = model(v1), group = model(grouped);
  EXPECT_EQ(published.params().count(), plain.params().count() + kLayers * (4 * kD + 2 * kD));
  const auto shape = [](const Transformer& model, const char* name) {
    return model.params().specs()[size_t(named(model, name).index)].shape;
  };
  for (const char* name : {"blocks.0.attention.qkv.weight", "blocks.0.attention.output.weight"})
    EXPECT_EQ(shape(published, name), shape(plain, name)) << name;
  // Two heads and one noise head of kD, two keys of kD, one value of twice that.
  EXPECT_EQ(shape(group, "blocks.0.attention.qkv.weight"), (Shape{(3 + 2) * kD + 2 * kD, kWidth}));
  EXPECT_EQ(shape(group, "blocks.0.attention.output.weight"), (Shape{kWidth, 4 * kD}));
}

TEST_F(DifferenceStage, TheScalarFactorStartsByDepth) {
  for (const auto& [layer, factor] : {std::pair<int, double>{0, 0.2}, {1, 0.35551}, {11, 0.77787}})
    EXPECT_NEAR(lambda_init(layer), factor, 1e-5);
}

TEST_F(DifferenceStage, GroupedWithOneHeadForOneIsV1) {
  Transformer v1 = model({{"attention", "diff_v1"}}), grouped = model({{"attention", "grouped_diff"}});
  ASSERT_EQ(grouped.params().count(), v1.params().count());
  EXPECT_EQ(results(grouped), results(v1));
  Transformer shared = model({{"attention", "grouped_diff"}, {"kv_heads", 1}});
  EXPECT_NE(shared.params().count(), model({{"attention", "diff_v1"}, {"kv_heads", 1}}).params().count());
}

// ---- where it is softmax --------------------------------------------------------------------------------------------

// A logit so negative that its sigmoid is 0: feature 0 of every layer's input is made 1, read by the logits alone.
TEST_F(DifferenceStage, V2WithoutShareIsSoftmaxOfTheEvenHeads) {
  Transformer v2 = model({{"attention", "diff_v2"}}), plain = model({{"attention", "softmax"}});
  for (int layer = 0; layer < kLayers; ++layer) {
    const auto set = [&](const std::string& name, auto change) {
      const std::string full = fmt::format("blocks.{}.{}", layer, name);
      Values values = parameter(v2, full);
      change(values);
      assign(v2.params().value(named(v2, full)), values);
    };
    set("norm1.weight", [](Values& x) { x[0] = 0; });
    set("norm1.bias", [](Values& x) { x[0] = 1; });
    set("attention.qkv.weight", [](Values& x) {
      for (size_t i = 0; i < x.size(); i += kWidth) x[i] = 0;
    });
    set("attention.difference.weight", [](Values& x) {
      for (size_t i = 0; i < x.size(); i += kWidth) x[i] = -1e4;
    });
  }
  make_plain(plain, v2, {0, 2}, {4, 5}, {6, 7});
  EXPECT_LT(distance(results(v2), results(plain)), 1e-13);
}

// One head's twice: what is left is 1 - s of it.
TEST_F(DifferenceStage, V2OfEqualHeadsIsAShareOfSoftmax) {
  Transformer v2 = model({{"attention", "diff_v2"}});
  for_projections([&](const std::string& name, int64_t columns) {
    Values qkv = parameter(v2, name);
    for (const int64_t h : {0, 2}) copy_heads(qkv, h + 1, Values(qkv), h, 1, columns);
    assign(v2.params().value(named(v2, name)), qkv);
  });
  look(v2, [](const Pass& pass, const AttentionLayer& attention) {
    const Values results = values_of(attention.results(pass)), core = values_of(attention.heads(pass).out);
    for (int64_t n = 0; n < pass.N(); ++n)
      for (int64_t h = 0; h < kHeads; ++h) {
        const double* from = &core[size_t((n * 2 * kHeads + 2 * h) * kD)];
        const double* to = &results[size_t((n * kHeads + h) * kD)];
        const double left = to[0] / from[0];
        EXPECT_TRUE(left > 0 && left < 1) << left;
        for (int64_t i = 1; i < kD; ++i) EXPECT_NEAR(to[i], left * from[i], 1e-14);
      }
  });
  // A projection of zeros: the sigmoid is one half.
  for (int layer = 0; layer < kLayers; ++layer)
    assign(v2.params().value(named(v2, fmt::format("blocks.{}.attention.difference.weight", layer))),
           Values(kHeads * kWidth));
  Transformer plain = model({{"attention", "softmax"}});
  make_plain(plain, v2, {0, 2}, {4, 5}, {6, 7});
  const Values half = results(v2);
  Values first(half.begin(), half.begin() + int64_t(half.size() / 2));
  for (double& x : first) x *= 2;
  const Values all = results(plain);
  EXPECT_LT(distance(first, {all.begin(), all.begin() + int64_t(all.size() / 2)}), 1e-13);
}

TEST_F(DifferenceStage, V1WithAFactorOfZeroAndNoNormIsSoftmax) {
  Transformer v1 = model({{"attention", kScalarOwn}}), plain = model({{"attention", "softmax"}});
  for (int layer = 0; layer < kLayers; ++layer) set_factor(v1, layer, 0);
  make_plain(plain, v1, {0, 1}, {4, 5}, {8, 9});
  EXPECT_LT(distance(results(v1), results(plain)), 1e-13);
}

// Queries and keys of a pair alike: (1 - lambda) softmax, of which the norm leaves the sign.
TEST_F(DifferenceStage, V1OfEqualPairsIsSoftmaxButForItsSign) {
  for (const double factor : {0.3, 1.1}) {
    Transformer v1 = model({{"attention", "diff_v1"}, {"layers", 1}, {"norm_epsilon", 1e-30}});
    Transformer plain =
        model({{"attention", {{"output_norm", "rmsnorm_by_depth"}}}, {"layers", 1}, {"norm_epsilon", 1e-30}});
    set_factor(v1, 0, factor);
    for (const char* name : kQkv) {
      const std::string full = fmt::format("blocks.0.{}", name);
      const int64_t columns = std::string(name).ends_with("bias") ? 1 : kWidth;
      const Values before = parameter(v1, full);
      Values qkv = before, own = parameter(plain, full);
      copy_heads(qkv, 2, before, 0, 2, columns);  // queries
      copy_heads(qkv, 6, before, 4, 2, columns);  // keys
      assign(v1.params().value(named(v1, full)), qkv);
      copy_heads(own, 0, before, 0, 2, columns), copy_heads(own, 2, before, 4, 2, columns);
      copy_heads(own, 4, before, 8, 2, columns);
      assign(plain.params().value(named(plain, full)), own);
    }
    Values want = results(plain);
    for (double& x : want) x *= factor < 1 ? 1 : -1;
    EXPECT_LT(distance(results(v1), want), 1e-12) << factor;
  }
}

// ---- weights that instruments see -----------------------------------------------------------------------------------

const Json kWithWeights[] = {
    {{"attention", "diff_v2"}},
    {{"attention", "diff_v2"}, {"kv_heads", 2}, {"heads", 4}, {"head_size", 4}, {"position", "rope"}},
    {{"attention", {{"type", "diff_v2"}, {"difference", {{"signal", 2}}}}}, {"kv_heads", 2}, {"heads", 4}},
    {{"attention", {{"type", "diff_v2"}, {"key_bias", true}}}},
    {{"attention", {{"type", "diff_v2"}, {"score", "sigmoid"}}}},
    {{"attention", kScalarOwn}},
    {{"attention", {{"difference", {{"lambda", "scalar"}, {"signal", 0}, {"keys", "own"}}}}},
     {"kv_heads", 1},
     {"value_head_size", 9}},
};

TEST_F(DifferenceStage, ResultsAreSumsOfValuesByTheWeightsThatAreShown) {
  for (const Json& changes : kWithWeights) {
    SCOPED_TRACE(changes.dump());
    Transformer differs = model(changes);
    const int64_t H = differs.config().heads, KV = differs.config().kv_heads, D = differs.config().value_head_size();
    look(differs, [&](const Pass& pass, const AttentionLayer& attention) {
      ASSERT_NE(attention.weights(), nullptr);
      EXPECT_FALSE(attention.weights()->normalised());
      const auto weights = attention.weights()->read(pass, attention.heads(pass));
      const Values results = values_of(attention.results(pass)), values = values_of(attention.values(pass));
      for (int64_t b = 0; b < kBatch; ++b)
        for (int64_t h = 0; h < H; ++h) {
          const HeadWeights of = weights->of(b, h, kT);
          for (int64_t i = 0; i < kT; ++i)
            for (int64_t r = 0; r < D; ++r) {
              double sum = 0;
              for (int64_t j = 0; j <= i; ++j)
                sum += of.rows[size_t(i * kT + j)] * values[size_t(((b * kT + j) * KV + h / (H / KV)) * D + r)];
              EXPECT_NEAR(sum, results[size_t(((b * kT + i) * H + h) * D + r)], kRounding);
            }
        }
    });
  }
}

TEST_F(DifferenceStage, RowsOfV2SumToOneLessTheShare) {
  Transformer v2 = model({{"attention", "diff_v2"}});
  look(v2, [&](const Pass& pass, const AttentionLayer& attention) {
    const auto weights = attention.weights()->read(pass, attention.heads(pass));
    for (int64_t h = 0; h < kHeads; ++h) {
      const HeadWeights of = weights->of(1, h, kT);
      for (int64_t i = 0; i < kT; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < kT; ++j) sum += of.rows[size_t(i * kT + j)];
        EXPECT_TRUE(sum > 0 && sum < 1) << sum;
      }
    }
  });
}

// The probe's numbers are those of the whole matrix; the gap is that of the head's own scores.
TEST_F(DifferenceStage, TheProbeSeesTheSameWeights) {
  for (const Json& attention : {Json("diff_v2"), kScalarOwn, kClampedOwn}) {
    Transformer differs = model({{"attention", attention}});
    Arena arena(*backend_, size_t(2 * kBatch * kHeads * kT) * sizeof(double));
    const Shape shape = {kBatch, kHeads, kT};
    const Tensor first = arena.at(0, DType::kF64, shape),
                 gap = arena.at(size_t(kBatch * kHeads * kT) * sizeof(double), DType::kF64, shape);
    look(differs, [&](const Pass& pass, const AttentionLayer& layer) {
      const Heads heads = layer.heads(pass);
      layer.weights()->probe(pass, heads, first, gap);
      const auto weights = layer.weights()->read(pass, heads);
      const Values q = values_of(heads.q), k = values_of(heads.k);
      const int64_t queries = heads.q.cols() / kD, keys = heads.k.cols() / kD;
      for (int64_t b = 0; b < kBatch; ++b)
        for (int64_t h = 0; h < kHeads; ++h) {
          const HeadWeights of = weights->of(b, h, kT);
          const int64_t signal = attention == Json("diff_v2") ? 2 * h : h;
          for (int64_t i = 0; i < kT; ++i) {
            const size_t at = size_t((b * kHeads + h) * kT + i);
            EXPECT_NEAR(first.as<double>()[at], of.rows[size_t(i * kT)], kRounding);
            const auto score = [&](int64_t j) {
              double dot = 0;
              for (int64_t r = 0; r < kD; ++r)
                dot += q[size_t(((b * kT + i) * queries + signal) * kD + r)] *
                       k[size_t(((b * kT + j) * keys + h) * kD + r)];
              return dot / std::sqrt(double(kD));
            };
            double between = 0;
            for (int64_t j = 1; j < i; ++j) between += score(j) / double(i - 1);
            EXPECT_NEAR(gap.as<double>()[at], i < 2 ? 0 : score(0) - between, 1e-9);
          }
        }
    });
  }
}

// ---- together with everything else ----------------------------------------------------------------------------------

const Json kEverySort[] = {
    {{"lambda", "projected"}, {"signal", 2}},
    {{"lambda", "projected"}, {"keys", "own"}},
    {{"lambda", "scalar"}},
    {{"lambda", "scalar"}, {"signal", 0}, {"keys", "own"}},
    {{"lambda", "clamped"}, {"signal", 2}},
    {{"lambda", "clamped"}, {"keys", "own"}},
};

TEST_F(DifferenceStage, HasGradientsWithGroupsGatesBiasesAndWideValues) {
  for (const Json& difference : kEverySort) {
    const Json part = {{"difference", difference}};
    Json gated = part, biased = part, source = part;
    gated.update(Json::parse(R"({"type": "vga", "exclude_self": true, "output_norm": "rmsnorm"})"));
    biased.update(Json::parse(R"({"score": "sink_logit", "key_value_bias": true})"));
    source.update(Json::parse(R"({"type": "gated_sdpa", "site": "source", "output_norm": "rmsnorm_by_depth"})"));
    const Json shape = {{"heads", 4}, {"kv_heads", 2}, {"head_size", 4}};
    for (const Json& attention : {part, gated, biased, source}) {
      Json changes = shape;
      changes["attention"] = attention;
      gradients::check_gradients(changes);
      changes.update(Json{{"value_head_size", 8}, {"position", "rope"}, {"qk_norm", true}, {"kv_heads", 1}});
      gradients::check_gradients(changes);
    }
  }
}

TEST_F(DifferenceStage, DecodesAndKeepsDocumentsApart) {
  for (const Json& difference : kEverySort) {
    const Json changes = {{"heads", 4}, {"kv_heads", 2}, {"attention", {{"difference", difference}}}};
    decoding::check_decoding(changes, {DType::kF32});
    Json small = changes;
    small["context"] = 6;
    gradients::GradientCheck(*backend_, gradients::small_model(small), 6, {0, 0, 0, 3, 3, 3, 0, 1, 1, 1, 1, 5}).run();
  }
}

TEST_F(DifferenceStage, MayBeAnotherInEveryLayer) {
  const Json changes = {{"attention", {"diff_v2", "softmax", "grouped_diff"}}, {"layers", 3}, {"kv_heads", 1}};
  gradients::check_gradients(changes);
  decoding::check_decoding(changes, {DType::kF32});
}

TEST_F(DifferenceStage, SaysWhichHeadsItNeeds) {
  const auto refusal = [](const Json& difference, int64_t heads, int64_t kv_heads) {
    return user_error_of([&] {
      gradients::small_model({{"heads", heads}, {"kv_heads", kv_heads}, {"attention", {{"difference", difference}}}});
    });
  };
  const Json three = {{"lambda", "projected"}, {"signal", 3}}, two = {{"lambda", "scalar"}, {"signal", 2}};
  expect_contains(refusal(three, 4, 2),
                  {"model.attention.difference.signal = 3", "must divide", "model.heads / model.kv_heads = 4 / 2 = 2"});
  expect_contains(refusal(two, 4, 4), {"signal = 2", "4 / 4 = 1"});
  EXPECT_EQ(refusal(two, 4, 2), "");
  expect_contains(refusal({{"signal", 2}}, 4, 2), {"model.attention.difference.signal applies only when"});
}

}  // namespace
}  // namespace sluice

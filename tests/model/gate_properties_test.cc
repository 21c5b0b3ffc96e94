// Properties of the gates that need no reference (arXiv 2510.09017): (a) an input gate whose weights are the product of
// a value gate's and the value projection's gives the value gate's outputs, and different gradients; (b) the Jacobian
// of g(v) v at the source is g I + g (1 - g) v w^T; (c) a gate held at 1 is no gate; (d) of two reads,
// of two gates, of a head's own result and of a low rank. All in f64.
#include <gtest/gtest.h>

#include "base/philox.h"
#include "model/attention/cores/tiles_options.h"
#include "model/attention/stages/gate.h"
#include "model/parity.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kBatch = 2, kVocab = 13, kContext = 70, kWidth = 32, kHeads = 2, kHeadSize = kWidth / kHeads;
constexpr double kScale = 1.0 / double(kBatch * kContext);

ModelConfig tiny_model(const Json& attention) {
  return model_config({{"vocab_size", kVocab},
                       {"context", kContext},
                       {"layers", 2},
                       {"heads", kHeads},
                       {"width", kWidth},
                       {"mlp_width", 48},
                       {"bias", false},
                       {"tied_head", false},
                       {"init", "pytorch"},
                       {"attention", attention}});
}

Transformer make_model(Backend& backend, const Json& attention) {
  Transformer model(backend, tiny_model(attention), {.act = DType::kF64, .max_batch = kBatch});
  model.initialise(5);
  return model;
}

std::vector<int32_t> random_tokens(uint64_t stream) {
  std::vector<int32_t> out(size_t(kBatch * kContext));
  for (size_t i = 0; i < out.size(); ++i) out[i] = int32_t(philox(3, stream, i).word[0] % kVocab);
  return out;
}

struct Outcome {
  Values logits;
  double loss;
};

// Logits and loss; leaves the gradients in the model.
Outcome run(Transformer& model) {
  const std::vector<int32_t> tokens = random_tokens(0), targets = random_tokens(1);
  Outcome out{logits_of(model, tokens, kBatch, kContext), 0};
  out.loss = model.forward_backward({tokens.data(), targets.data(), kBatch, kContext}, kScale, false);
  return out;
}

// [rows, inner] times [inner, cols], or with the first transposed: [inner, rows]
Values product(const Values& a, const Values& b, int64_t rows, int64_t inner, int64_t cols, bool transpose_a = false) {
  Values out(size_t(rows * cols));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < inner; ++k)
      for (int64_t j = 0; j < cols; ++j)
        out[size_t(i * cols + j)] += a[size_t(transpose_a ? k * rows + i : i * inner + k)] * b[size_t(k * cols + j)];
  return out;
}

Values transposed(const Values& a, int64_t rows, int64_t cols) {
  Values out(a.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) out[size_t(j * rows + i)] = a[size_t(i * cols + j)];
  return out;
}

std::string in_layer(int layer, const std::string& name) {
  return "blocks." + std::to_string(layer) + ".attention." + name;
}

// The value rows of a [3 C, C] projection.
Values value_rows(const Values& qkv) { return {qkv.begin() + 2 * kWidth * kWidth, qkv.end()}; }

// ---- (a) ---------------------------------------------------------------------------------------------------------

class GatePair {
 public:
  GatePair(Backend& backend, const std::string& site, const std::string& grain)
      : rows_(grain == "head" ? kHeads : kWidth),
        vga_(make_model(backend, {{"type", "vga"}, {"site", site}, {"grain", grain}})),
        input_(make_model(backend, {{"type", "input_gated"}, {"site", site}, {"grain", grain}})) {
    for (int layer = 0; layer < 2; ++layer)
      assign(input_.params().value(named(input_, in_layer(layer, "gate.weight"))),
             product(gate_weight(layer), value_weight(layer), rows_, kWidth, kWidth));
  }

  void check_forward() {
    const Outcome ours = run(vga_), theirs = run(input_);
    EXPECT_LE(distance(ours.logits, theirs.logits), 1e-13) << "logits";
    EXPECT_NEAR(ours.loss, theirs.loss, 1e-10);
  }

  // With G the gradient of the input gate's weight (logits' gradient times the layer's input), the chain rule gives
  // the value gate's: dWg = G Wv^T, and dWv has Wg^T G more than under the input gate. All else is equal.
  void check_gradients() const {
    for (const ParamSpec& spec : vga_.params().specs()) {
      if (spec.name.find("attention.gate") != std::string::npos || spec.name.find("attention.qkv") != std::string::npos)
        continue;
      EXPECT_LE(distance(gradient(vga_, spec.name), gradient(input_, spec.name)), 1e-11) << spec.name;
    }
    for (int layer = 0; layer < 2; ++layer) {
      const Values of_gate = gradient(input_, in_layer(layer, "gate.weight"));
      const Values gate_expected =
          product(of_gate, transposed(value_weight(layer), kWidth, kWidth), rows_, kWidth, kWidth);
      EXPECT_LE(distance(gradient(vga_, in_layer(layer, "gate.weight")), gate_expected), 1e-11) << "layer " << layer;

      const Values through_vga = gradient(vga_, in_layer(layer, "qkv.weight"));
      const Values plain = gradient(input_, in_layer(layer, "qkv.weight"));
      EXPECT_GE(distance(value_rows(through_vga), value_rows(plain)), 1e-3)
          << "layer " << layer << ": the same gradient";
      Values expected = plain;
      const Values extra = product(gate_weight(layer), of_gate, kWidth, rows_, kWidth, true);
      for (size_t i = 0; i < extra.size(); ++i) expected[2 * kWidth * kWidth + i] += extra[i];
      EXPECT_LE(distance(through_vga, expected), 1e-11) << "layer " << layer;
    }
  }

 private:
  Values gate_weight(int layer) const { return parameter(vga_, in_layer(layer, "gate.weight")); }
  Values value_weight(int layer) const { return value_rows(parameter(vga_, in_layer(layer, "qkv.weight"))); }

  int64_t rows_;
  Transformer vga_, input_;
};

TEST(GateProperties, InputGateEqualsValueGateForward) {
  const auto backend = make_cpu_backend();
  for (const char* site : {"output", "source"})
    for (const char* grain : {"head", "element"}) {
      SCOPED_TRACE(std::string(site) + ", " + grain);
      GatePair pair(*backend, site, grain);
      pair.check_forward();
      pair.check_gradients();
    }
}

// ---- (b) ---------------------------------------------------------------------------------------------------------

// A value gate at the source alone, on N rows of values [N, heads * D].
class SourceGate {
 public:
  explicit SourceGate(Backend& backend)
      : backend_(backend),
        config_(tiny_model({{"type", "vga"}, {"site", "source"}})),
        declarations_{config_, backend, DType::kF64, kBatch,    Timeline{int(config_.layers)},
                      params_, plan_,   states_,     averages_, losses_},
        gate_({declarations_, "layer", 0, config_.head_sizes(), config_.head_sizes()},
              config_.attention.all.options<GateOptions>().gate) {
    values_ = plan_.declare("v", "test", {kRows, kWidth}, DType::kF64, kAlways);
    d_gated_ = plan_.declare("d_gated", "test", {kRows, kWidth}, DType::kF64, kAlways);
    workspace_ = plan_.declare("workspace", "test", {backend.workspace<NormBackward>({kWidth})}, DType::kF32, kAlways);
    plan_.plan();
    params_.lay_out({});
    params_.allocate(backend, DType::kF64, Params::Grads::kOwn);
    params_.initialise(backend, 9);
    arena_ = Arena(backend, plan_.total_bytes());
  }

  Values weight() const { return values_of(params_.value(params_.find("layer.gate.weight"))); }  // [heads, C]

  // [N, C]: g(v) v of every row
  Values forward(const Values& v) {
    const Pass pass = make_pass();
    assign(at(values_), v);
    gate_.forward(pass, at(values_), {Tensor{}, at(values_), {}, {}});
    return values_of(gate_.result(pass, at(values_)));
  }
  // The gradient at v of the sum of d_out times forward(v), after that call.
  Values backward(const Values& d_out) {
    const Pass pass = make_pass();
    assign(at(d_gated_), d_out);
    const Tensor workspace = pass.view(workspace_, plan_.buffer(workspace_).shape);
    gate_.backward(pass, at(d_gated_), at(values_), {}, workspace);
    gate_.backward_values(pass, at(d_gated_), at(values_), workspace);
    return values_of(at(d_gated_));
  }

  static constexpr int64_t kRows = kWidth;

 private:
  static constexpr Lifetime kAlways = {0, 1000};

  Pass make_pass() const { return {backend_, params_, plan_, arena_, averages_, losses_, {}, 1, kRows}; }
  Tensor at(BufferId id) const { return make_pass().view(id, {kRows, kWidth}); }

  Backend& backend_;
  ModelConfig config_;
  Params params_;
  MemoryPlan plan_;
  StatePlan states_;
  MovingAverages averages_;
  PartLosses losses_;
  Arena arena_;
  Declarations declarations_;
  Gate gate_;
  BufferId values_, d_gated_, workspace_;
};

// The Jacobian [C, C] of all heads' gated values in one token's values: row (h, r) is g_h e_(h,r) + g_h (1 - g_h)
// v_(h,r) w_h.
Values jacobian(const Values& v, const Values& weight) {
  Values out(size_t(kWidth * kWidth));
  for (int64_t r = 0; r < kWidth; ++r) {
    const double* w = weight.data() + r / kHeadSize * kWidth;
    double logit = 0;
    for (int64_t c = 0; c < kWidth; ++c) logit += w[c] * v[size_t(c)];
    const double g = 1 / (1 + std::exp(-logit));
    for (int64_t c = 0; c < kWidth; ++c)
      out[size_t(r * kWidth + c)] = g * (1 - g) * v[size_t(r)] * w[c] + (r == c ? g : 0);
  }
  return out;
}

Values random_values() {
  Values v(static_cast<size_t>(kWidth));
  for (size_t i = 0; i < v.size(); ++i) v[i] = 4 * uniform24(philox(8, 0, i).word[0]) - 2;
  return v;
}

Values repeated(const Values& row, int64_t rows) {
  Values out;
  for (int64_t i = 0; i < rows; ++i) out.insert(out.end(), row.begin(), row.end());
  return out;
}

TEST(GateProperties, JacobianOfTheSourceGateBackward) {
  const auto backend = make_cpu_backend();
  SourceGate gate(*backend);
  const Values v = random_values();
  gate.forward(repeated(v, SourceGate::kRows));
  Values unit(size_t(kWidth * kWidth));  // row r asks for the gradient of output r
  for (int64_t r = 0; r < kWidth; ++r) unit[size_t(r * kWidth + r)] = 1;
  EXPECT_LE(distance(gate.backward(unit), jacobian(v, gate.weight())), 1e-14);
}

TEST(GateProperties, JacobianOfTheSourceGateForward) {
  const auto backend = make_cpu_backend();
  SourceGate gate(*backend);
  const Values v = random_values();
  constexpr double kStep = 1e-5;
  const auto moved = [&](double step) {  // row c has its c-th value moved
    Values rows = repeated(v, SourceGate::kRows);
    for (int64_t c = 0; c < kWidth; ++c) rows[size_t(c * kWidth + c)] += step;
    return gate.forward(rows);
  };
  const Values after = moved(kStep), before = moved(-kStep);
  Values columns(after.size());  // [c, r]
  for (size_t i = 0; i < columns.size(); ++i) columns[i] = (after[i] - before[i]) / (2 * kStep);
  EXPECT_LE(distance(transposed(columns, kWidth, kWidth), jacobian(v, gate.weight())), 1e-9);
}

// ---- (c) ---------------------------------------------------------------------------------------------------------

// A bias of 40 makes sigmoid exactly 1 in f64 and its derivative 4e-18.
void check_open_gate(Backend& backend, const Json& score, const Json& gate) {
  SCOPED_TRACE(score.dump() + " " + gate.dump());
  Transformer plain = make_model(backend, {{"score", score}});
  Transformer gated = make_model(backend, {{"score", score}, {"gate", gate}});
  for (int layer = 0; layer < 2; ++layer) {
    const Tensor bias = gated.params().value(named(gated, in_layer(layer, "gate.bias")));
    assign(bias, Values(size_t(bias.elements()), 40.0));
  }
  const Outcome expected = run(plain), got = run(gated);
  EXPECT_LE(distance(got.logits, expected.logits), 1e-14) << "logits";
  EXPECT_NEAR(got.loss, expected.loss, 1e-12);
  for (const ParamSpec& spec : plain.params().specs())
    EXPECT_LE(distance(gradient(gated, spec.name), gradient(plain, spec.name)), 1e-13) << spec.name;
}

TEST(GateProperties, AnOpenGateIsNoGate) {
  const auto backend = make_cpu_backend();
  for (const char* reads : {"hidden", "hidden_head", "value"})
    for (const char* site : {"output", "source"})
      for (const char* grain : {"head", "element"})
        check_open_gate(*backend, {{"type", "softmax"}},
                        {{"reads", reads}, {"site", site}, {"grain", grain}, {"bias", true}});
  for (const char* reads : {"output", "output_head", "hidden_and_output", "hidden_and_output_head"})
    for (const char* grain : {"head", "element"})
      for (const int rank : {0, 3})
        check_open_gate(*backend, {{"type", "softmax"}},
                        {{"reads", reads}, {"grain", grain}, {"rank", rank}, {"bias", true}});
}

// ---- (d) ---------------------------------------------------------------------------------------------------------

void set(Transformer& model, const std::string& name, double value) {
  const Tensor tensor = model.params().value(named(model, name));
  assign(tensor, Values(size_t(tensor.elements()), value));
}

Json gate_of(const char* reads, const char* grain, const Json& more = Json::object()) {
  Json gate = {{"reads", reads}, {"grain", grain}};
  gate.update(more);
  return {{"gate", gate}};
}

// Gives `to` the parameters of `from`, those that begin with `gate` in a layer from those that begin with `other`.
void copy_gate(Transformer& to, const std::string& gate, const Transformer& from, const std::string& other) {
  for (int layer = 0; layer < 2; ++layer)
    for (const char* weight : {".weight", ".up.weight", ".down.weight"})
      if (const ParamId id = to.params().find(in_layer(layer, gate + weight)))
        assign(to.params().value(id), parameter(from, in_layer(layer, other + weight)));
}

// Where the weights on one of two reads are zero the gate is that of the other: logits are sums.
TEST(GateProperties, TwoReadsAreTheSumOfBoth) {
  const auto backend = make_cpu_backend();
  for (const char* grain : {"head", "element"})
    for (const int rank : {0, 3}) {
      SCOPED_TRACE(std::string(grain) + ", rank " + std::to_string(rank));
      const auto gate = [&](const char* reads) { return gate_of(reads, grain, {{"rank", rank}}); };
      const std::string last = rank > 0 ? "up.weight" : "weight";
      Transformer hidden = make_model(*backend, gate("hidden")), output = make_model(*backend, gate("output"));
      Transformer both = make_model(*backend, gate("hidden_and_output")), other = make_model(*backend, gate("output"));
      for (int layer = 0; layer < 2; ++layer) {
        set(both, in_layer(layer, "gate.output." + last), 0);
        set(other, in_layer(layer, "gate." + last), 0);
      }
      const Outcome of_hidden = run(hidden), of_both = run(both), half_open = run(other), of_output = run(output);
      EXPECT_LE(distance(of_both.logits, of_hidden.logits), 1e-14);
      for (const ParamSpec& spec : hidden.params().specs())
        EXPECT_LE(distance(gradient(both, spec.name), gradient(hidden, spec.name)), 1e-13) << spec.name;
      EXPECT_GE(norm_of(gradient(both, in_layer(0, "gate.output." + last))), 1e-6) << "the other read learns nothing";
      EXPECT_GE(distance(of_output.logits, half_open.logits), 1e-6);
    }
}

// A second gate that is open is none; beside an open first one it is the gate.
TEST(GateProperties, AnOpenGateOfTwoIsNone) {
  const auto backend = make_cpu_backend();
  const Json open = {{"reads", "hidden"}, {"grain", "element"}, {"bias", true}};
  for (const char* reads : {"value", "output", "hidden_and_output_head"}) {
    SCOPED_TRACE(reads);
    Transformer one = make_model(*backend, gate_of(reads, "head"));
    Transformer first = make_model(*backend, gate_of(reads, "head", {{"second", open}}));
    Json other = open;
    other["second"] = {{"reads", reads}, {"grain", "head"}};
    Transformer second = make_model(*backend, {{"gate", other}});
    copy_gate(second, "gate.second", one, "gate"), copy_gate(second, "gate.second.output", one, "gate.output");
    for (int layer = 0; layer < 2; ++layer)
      set(first, in_layer(layer, "gate.second.bias"), 40), set(second, in_layer(layer, "gate.bias"), 40);
    const Outcome expected = run(one);
    for (auto* two : {&first, &second}) {
      EXPECT_LE(distance(run(*two).logits, expected.logits), 1e-14);
      EXPECT_LE(distance(gradient(*two, in_layer(0, "qkv.weight")), gradient(one, in_layer(0, "qkv.weight"))), 1e-13);
    }
    EXPECT_LE(distance(gradient(second, in_layer(1, "gate.second.weight")), gradient(one, in_layer(1, "gate.weight"))),
              1e-13);
  }
}

// Both read what neither has scaled: which is called the second does not matter.
TEST(GateProperties, TwoGatesCommute) {
  const auto backend = make_cpu_backend();
  const Json fine = {{"reads", "output"}, {"grain", "element"}}, coarse = {{"reads", "output_head"}, {"grain", "head"}};
  const auto with = [&](Json first, const Json& second) {
    first["second"] = second;
    return make_model(*backend, {{"gate", first}});
  };
  Transformer one = with(fine, coarse), other = with(coarse, fine), none = make_model(*backend, {{"gate", fine}});
  copy_gate(other, "gate", one, "gate.second"), copy_gate(other, "gate.second", one, "gate");
  const Outcome expected = run(one), got = run(other);
  EXPECT_LE(distance(got.logits, expected.logits), 1e-14);
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& [mine, its] : {std::pair("gate.weight", "gate.second.weight"),
                                    {"gate.second.weight", "gate.weight"},
                                    {"qkv.weight", "qkv.weight"}})
      EXPECT_LE(distance(gradient(other, in_layer(layer, mine)), gradient(one, in_layer(layer, its))), 1e-13) << mine;
  EXPECT_GE(distance(run(none).logits, expected.logits), 1e-3);
}

// Instruments see the product, with as many columns as the finer gate has.
TEST(GateProperties, TwoGatesOpenByTheirProduct) {
  const auto backend = make_cpu_backend();
  const Json coarse = {{"reads", "hidden"}, {"grain", "head"}, {"bias", true}};
  const Json fine = {{"reads", "hidden"}, {"grain", "element"}, {"bias", true}};
  for (Json first : {coarse, fine}) {
    first["second"] = first == coarse ? fine : coarse;
    Transformer model = make_model(*backend, {{"gate", first}});
    for (int layer = 0; layer < 2; ++layer)
      for (const char* name : {"gate", "gate.second"}) set(model, in_layer(layer, std::string(name) + ".weight"), 0);
    const std::string of_head = first["grain"] == "head" ? "gate.bias" : "gate.second.bias";
    const std::string of_element = first["grain"] == "head" ? "gate.second.bias" : "gate.bias";
    const auto logit = [](double g) { return std::log(g / (1 - g)); };
    Values elements(static_cast<size_t>(kWidth));
    for (size_t i = 0; i < elements.size(); ++i) elements[i] = logit(double(i + 1) / 40);
    assign(model.params().value(named(model, in_layer(1, of_head))), {logit(0.5), logit(0.25)});
    assign(model.params().value(named(model, in_layer(1, of_element))), elements);
    const std::vector<int32_t> tokens = random_tokens(0);
    model.forward({tokens.data(), nullptr, kBatch, kContext}, [&](const Pass& pass, int64_t layer) {
      if (layer == 0) return;
      const std::vector<double> open = model.blocks()[1].attention().opener()->openings(pass);
      ASSERT_EQ(open.size(), size_t(kBatch * kContext * kWidth));
      for (size_t i = 0; i < open.size(); ++i) {
        const size_t column = i % size_t(kWidth);
        EXPECT_NEAR(open[i], (column < size_t(kHeadSize) ? 0.5 : 0.25) * double(column + 1) / 40, 1e-6);  // floats
      }
    });
  }
}

// A head's own result is all there is where there is one head.
TEST(GateProperties, OfOneHeadItsOwnResultIsAllResults) {
  const auto backend = make_cpu_backend();
  for (const char* reads : {"output", "hidden_and_output"})
    for (const int rank : {0, 3}) {
      const auto run_with = [&](const std::string& name) {
        Json config = gate_of(name.c_str(), "element", {{"rank", rank}});
        Transformer model(*backend,
                          model_config({{"vocab_size", kVocab},
                                        {"context", kContext},
                                        {"layers", 2},
                                        {"heads", 1},
                                        {"width", kWidth},
                                        {"init", "pytorch"},
                                        {"attention", config}}),
                          {.act = DType::kF64, .max_batch = kBatch});
        model.initialise(5);
        return run(model).logits;
      };
      EXPECT_LE(distance(run_with(std::string(reads) + "_head"), run_with(reads)), 1e-14) << reads << " " << rank;
    }
}

// With a matrix that reads twice the first value and one that writes three times what it is given, a gate's opening is
// sigmoid(3 silu(2 v_0)).
TEST(GateProperties, ALowRankHasSiluBetween) {
  const auto backend = make_cpu_backend();
  Transformer model = make_model(*backend, {{"gate", {{"reads", "value"}, {"rank", 1}}}});
  const std::vector<int32_t> tokens = random_tokens(0);
  for (int layer = 0; layer < 2; ++layer) {
    Values down(size_t{kWidth});
    down[0] = 2;
    assign(model.params().value(named(model, in_layer(layer, "gate.down.weight"))), down);
    set(model, in_layer(layer, "gate.up.weight"), 3);
  }
  model.forward({tokens.data(), nullptr, kBatch, kContext}, [&](const Pass& pass, int64_t layer) {
    const AttentionLayer& attention = model.blocks()[size_t(layer)].attention();
    const Values values = values_of(attention.values(pass));
    const std::vector<double> openings = attention.opener()->openings(pass);
    for (int64_t n = 0; n < kBatch * kContext; ++n) {
      const double hidden = 2 * values[size_t(n * kWidth)], logit = 3 * hidden / (1 + std::exp(-hidden));
      for (int64_t h = 0; h < kHeads; ++h)
        EXPECT_NEAR(openings[size_t(n * kHeads + h)], 1 / (1 + std::exp(-logit)), 1e-6) << n;  // logits come as floats
    }
  });
}

TEST(GateProperties, AnOpenGateIsNoGateForAnyScore) {
  const auto backend = make_cpu_backend();
  for (const std::string& score : score_names())
    for (const char* site : {"output", "source"})
      check_open_gate(*backend, {{"type", score}}, {{"reads", "value"}, {"site", site}, {"bias", true}});
}

}  // namespace
}  // namespace sluice

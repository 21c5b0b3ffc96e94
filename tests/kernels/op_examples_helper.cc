// Examples of the ops (op_example.h), of sizes that no vector divides. See op_list_test.cc for what they are used for.
#include "kernels/op_example.h"

namespace sluice {

struct FillExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t out = written(C);
  Fill op(const Tensors& t) const { return {t[out], -1.5}; }
};
SLUICE_OP_EXAMPLE(Fill, FillExample)

struct CopyExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), out = written(C);
  Copy op(const Tensors& t) const { return {t[out], t[x]}; }
};
SLUICE_OP_EXAMPLE(Copy, CopyExample)

struct RandomUniformExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t out = written(C);
  RandomUniform op(const Tensors& t) const { return {t[out], 5, 6, -2, 3}; }
  double slack() const { return 0; }
};
SLUICE_OP_EXAMPLE(RandomUniform, RandomUniformExample)

struct RandomNormalExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t out = written(C);
  RandomNormal op(const Tensors& t) const { return {t[out], 5, 6, 0.5, 2}; }
  double slack() const { return 0; }
};
SLUICE_OP_EXAMPLE(RandomNormal, RandomNormalExample)

struct EmbeddingForwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t tokens = indices(V), table = given_flat(acc, {V, C}), positions = given_flat(acc, {T, C}), out = written(C);
  EmbeddingForward op(const Tensors& t) const { return {t[out], t[tokens], t[table], t[positions], T}; }
};
SLUICE_OP_EXAMPLE(EmbeddingForward, EmbeddingForwardExample)

struct EmbeddingBackwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t tokens = indices(V), d_out = given(C), d_table = written_flat(acc, {V, C}),
         d_positions = written_flat(acc, {T, C});
  EmbeddingBackward op(const Tensors& t) const { return {t[d_table], t[d_positions], t[d_out], t[tokens], T}; }
};
SLUICE_OP_EXAMPLE(EmbeddingBackward, EmbeddingBackwardExample)

struct CrossEntropyExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t logits = given(V), targets = indices(V), losses = written_flat(acc, {N});
  CrossEntropy op(const Tensors& t) const { return {t[losses], t[logits], t[targets], 0.25}; }
};
SLUICE_OP_EXAMPLE(CrossEntropy, CrossEntropyExample)

struct MatmulExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t a = given(V), b = given_flat(act, {V, C}), bias = given_flat(acc, {C}), out = written(C);
  Matmul op(const Tensors& t) const { return {.out = t[out], .a = t[a], .b = t[b], .bias = t[bias]}; }
  double slack() const { return act == DType::kBF16 ? 0x1p19 : 4000; }  // a fused bias is rounded to the result's type
};
SLUICE_OP_EXAMPLE(Matmul, MatmulExample)

struct HeadMatmulExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t a = given(C), b = given_flat(act, {2 * H, D}), out = written(2 * H);
  HeadMatmul op(const Tensors& t) const { return {{.out = t[out], .a = t[a], .b = t[b], .transpose_b = true}, H}; }
};
SLUICE_OP_EXAMPLE(HeadMatmul, HeadMatmulExample)

struct BiasGradientExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t d_out = given(C), d_bias = written_flat(acc, {C});
  BiasGradient op(const Tensors& t) const { return {t[d_bias], t[d_out], false, {}}; }
};
SLUICE_OP_EXAMPLE(BiasGradient, BiasGradientExample)

struct NormForwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), delta = given(C), gain = given_flat(acc, {C}), bias = given_flat(acc, {C});
  size_t sum = written(C), out = written(C), stats = written_flat(acc, {N, 2});
  NormForward op(const Tensors& t) const {
    return {.x = t[x],
            .delta = t[delta],
            .sum = t[sum],
            .gain = t[gain],
            .bias = t[bias],
            .out = t[out],
            .stats = t[stats]};
  }
};
SLUICE_OP_EXAMPLE(NormForward, NormForwardExample)

struct NormBackwardExample : ExampleBase {
  NormBackwardExample(DType act, int64_t gap, int64_t N) : ExampleBase(act, gap, N) {
    cpu_backend().run(forward(here()));
  }
  size_t x = given(C), gain = given_flat(acc, {C}), bias = given_flat(acc, {C}), out = given(C);
  size_t stats = given_flat(acc, {N, 2}), d_out = given(C), d_x = written(C);
  size_t d_gain = written_flat(acc, {C}), d_bias = written_flat(acc, {C});
  NormForward forward(const Tensors& t) const {
    return {.x = t[x], .gain = t[gain], .bias = t[bias], .out = t[out], .stats = t[stats]};
  }
  NormBackward op(const Tensors& t) const {
    return {.forward = forward(t),
            .d_out = t[d_out],
            .d_x = t[d_x],
            .add_to_d_x = false,
            .d_gain = t[d_gain],
            .d_bias = t[d_bias]};
  }
};
SLUICE_OP_EXAMPLE(NormBackward, NormBackwardExample)

struct HeadNormForwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), gain = given_flat(acc, {D}), out = written(C);
  HeadNormForward op(const Tensors& t) const { return {1e-3, t[x], t[out], t[gain], 0.7}; }
};
SLUICE_OP_EXAMPLE(HeadNormForward, HeadNormForwardExample)

struct HeadNormBackwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), gain = given_flat(acc, {D}), d_out = given(C), d_x = written(C), d_gain = written_flat(acc, {D});
  HeadNormBackward op(const Tensors& t) const {
    return {{1e-3, t[x], {}, t[gain], 0.7}, t[d_out], t[d_x], t[d_gain], false, {}};
  }
};
SLUICE_OP_EXAMPLE(HeadNormBackward, HeadNormBackwardExample)

struct ActivationForwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), out = written(C);
  ActivationForward op(const Tensors& t) const { return {Activation::kGelu, t[out], t[x]}; }
};
SLUICE_OP_EXAMPLE(ActivationForward, ActivationForwardExample)

struct ActivationBackwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), d_out = given(C), d_x = written(C), out = written(C);
  ActivationBackward op(const Tensors& t) const { return {Activation::kGelu, t[d_x], t[d_out], t[x], t[out]}; }
};
SLUICE_OP_EXAMPLE(ActivationBackward, ActivationBackwardExample)

struct SwigluForwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(2 * C), out = written(C);
  SwigluForward op(const Tensors& t) const { return {t[out], t[x]}; }
};
SLUICE_OP_EXAMPLE(SwigluForward, SwigluForwardExample)

struct SwigluBackwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(2 * C), d_out = given(C), d_x = written(2 * C), out = written(C);
  SwigluBackward op(const Tensors& t) const { return {t[d_x], t[d_out], t[x], t[out]}; }
};
SLUICE_OP_EXAMPLE(SwigluBackward, SwigluBackwardExample)

struct RopeExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), table = given_flat(acc, {T + 2, D});
  Rope op(const Tensors& t) const { return {.x = t[x], .table = t[table], .T = T, .first_position = 2}; }
};
SLUICE_OP_EXAMPLE(Rope, RopeExample)

// Sequences of T tokens that see one key more, a bias; values are twice as wide as keys.
class AttentionInputs : public ExampleBase {
 public:
  AttentionInputs(DType act, int64_t gap, int64_t N) : ExampleBase(act, gap, N) {}
  AttentionSpec spec() const {
    return {.shape = {N / T, T, H, 1, D, 2 * D}, .score = ScoreKind::kSoftmax, .constants = {}, .scale = 0.25};
  }
  // bf16 weights are rounded before they are multiplied: up to 2^-8 of the largest value.
  double slack() const { return act == DType::kBF16 ? 0x1p18 : 4000; }

 protected:
  size_t q = given(C), k = given(D), v = given(2 * D), key_bias = given_flat(acc, {1, D}),
         value_bias = given_flat(acc, {1, 2 * D});
};

struct AttentionForwardExample : AttentionInputs {
  using AttentionInputs::AttentionInputs;
  size_t out = written(2 * C), stats = written_flat(acc, {2, N / T, H, T});
  AttentionForward op(const Tensors& t) const {
    return {.spec = spec(),
            .q = t[q],
            .k = t[k],
            .v = t[v],
            .key_bias = t[key_bias],
            .value_bias = t[value_bias],
            .out = t[out],
            .stats = t[stats]};
  }
};
SLUICE_OP_EXAMPLE(AttentionForward, AttentionForwardExample)

// What follows a forward run.
class AttendedExample : public AttentionInputs {
 public:
  AttendedExample(DType act, int64_t gap, int64_t N) : AttentionInputs(act, gap, N) {
    cpu_backend().run(forward(here()));
  }

 protected:
  size_t out = given(2 * C), stats = given_flat(acc, {2, N / T, H, T});
  AttentionForward forward(const Tensors& t) const {
    return {.spec = spec(),
            .q = t[q],
            .k = t[k],
            .v = t[v],
            .key_bias = t[key_bias],
            .value_bias = t[value_bias],
            .out = t[out],
            .stats = t[stats]};
  }
};

struct AttentionBackwardExample : AttendedExample {
  using AttendedExample::AttendedExample;
  size_t d_out = given(2 * C), d_q = written(C), d_k = written(D), d_v = written(2 * D);
  size_t d_key_bias = written_flat(acc, {1, D}), d_value_bias = written_flat(acc, {1, 2 * D});
  AttentionBackward op(const Tensors& t) const {
    return {.forward = forward(t),
            .d_out = t[d_out],
            .d_q = t[d_q],
            .d_k = t[d_k],
            .d_v = t[d_v],
            .d_key_bias = t[d_key_bias],
            .d_value_bias = t[d_value_bias]};
  }
  double slack() const { return double(N) * AttendedExample::slack(); }  // a bias is seen by every row
};
SLUICE_OP_EXAMPLE(AttentionBackward, AttentionBackwardExample)

struct AttentionProbeExample : AttendedExample {
  using AttendedExample::AttendedExample;
  size_t sink_attention = written_flat(acc, {N / T, H, T}), sink_logit_gap = written_flat(acc, {N / T, H, T});
  AttentionProbe op(const Tensors& t) const { return {forward(t), t[sink_attention], t[sink_logit_gap]}; }
};
SLUICE_OP_EXAMPLE(AttentionProbe, AttentionProbeExample)

// As many sequences as would be tokens elsewhere, T rows of the cache for each.
struct AttentionDecodeExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t q = given(C), k = given_flat(act, {N * T, D}), v = given_flat(act, {N * T, 2 * D}), out = written(2 * C);
  AttentionDecode op(const Tensors& t) const {
    return {.spec = {.shape = {N, T, H, 1, D, 2 * D}, .score = ScoreKind::kSoftmax, .constants = {}, .scale = 0.25},
            .length = T - 1,
            .q = t[q],
            .k = t[k],
            .v = t[v],
            .out = t[out]};
  }
};
SLUICE_OP_EXAMPLE(AttentionDecode, AttentionDecodeExample)

struct GateForwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), logits = given(H), out = written(C);
  GateForward op(const Tensors& t) const { return {GateGrain::kHead, H, t[x], t[logits], t[out]}; }
};
SLUICE_OP_EXAMPLE(GateForward, GateForwardExample)

struct GateBackwardExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), logits = given(H), d_out = given(C), d_x = written(C), d_logits = written(H);
  GateBackward op(const Tensors& t) const {
    return {{GateGrain::kHead, H, t[x], t[logits], {}}, t[d_out], t[d_x], t[d_logits]};
  }
};
SLUICE_OP_EXAMPLE(GateBackward, GateBackwardExample)

class UpdateExample : public ExampleBase {
 public:
  UpdateExample(DType act, int64_t gap, int64_t N) : ExampleBase(act, gap, N) {}

 protected:
  size_t param = given_flat(acc, {N * C}), grad = given_flat(acc, {N * C}), first = given_flat(acc, {N * C});
  size_t second = positive(acc, {N * C});
  OptimizerRange range(const Tensors& t, bool adam) const {
    return {.param = t[param],
            .grad = t[grad],
            .first_moment = t[first],
            .second_moment = adam ? t[second] : Tensor{},
            .weight_decay = 0.1};
  }
};

struct AdamWUpdateExample : UpdateExample {
  using UpdateExample::UpdateExample;
  AdamWUpdate op(const Tensors& t) const { return {range(t, true), {1e-2, 0.9, 0.95, 1e-8, 3, 0.5}}; }
};
SLUICE_OP_EXAMPLE(AdamWUpdate, AdamWUpdateExample)

struct SgdUpdateExample : UpdateExample {
  using UpdateExample::UpdateExample;
  SgdUpdate op(const Tensors& t) const { return {range(t, false), {1e-2, 0.9, 0.5}}; }
};
SLUICE_OP_EXAMPLE(SgdUpdate, SgdUpdateExample)

struct MuonMomentumExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t grad = given_flat(acc, {N, C}), momentum = given_flat(acc, {N, C}), out = written_flat(act, {N, C});
  MuonMomentum op(const Tensors& t) const { return {t[grad], t[momentum], t[out]}; }
};
SLUICE_OP_EXAMPLE(MuonMomentum, MuonMomentumExample)

struct MatrixSumExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given_flat(act, {N, N}), y = given_flat(act, {N, N}), out = written_flat(act, {N, N});
  MatrixSum op(const Tensors& t) const { return {t[out], t[x], t[y], 3.5, -4.75, 2}; }
};
SLUICE_OP_EXAMPLE(MatrixSum, MatrixSumExample)

struct SumExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given_flat(act, {N * C});
  Sum op(const Tensors& t) const { return {t[x]}; }
};
SLUICE_OP_EXAMPLE(Sum, SumExample)

struct SumOfSquaresExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given_flat(act, {N * C});
  SumOfSquares op(const Tensors& t) const { return {t[x]}; }
};
SLUICE_OP_EXAMPLE(SumOfSquares, SumOfSquaresExample)

struct GroupNormsExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), out = written_flat(acc, {N, H});
  GroupNorms op(const Tensors& t) const { return {t[out], t[x], H}; }
};
SLUICE_OP_EXAMPLE(GroupNorms, GroupNormsExample)

struct FakeQuantizeExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), scale = positive(acc, {N}), out = written(C);
  FakeQuantize op(const Tensors& t) const { return {t[x], t[out], t[scale], -7, 8}; }
};
SLUICE_OP_EXAMPLE(FakeQuantize, FakeQuantizeExample)

struct RowRangesExample : ExampleBase {
  using ExampleBase::ExampleBase;
  size_t x = given(C), out = written_flat(acc, {N, 2});
  RowRanges op(const Tensors& t) const { return {t[out], t[x]}; }
};
SLUICE_OP_EXAMPLE(RowRanges, RowRangesExample)

}  // namespace sluice

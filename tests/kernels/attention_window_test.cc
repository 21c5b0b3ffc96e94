// Attention within a window, on the CPU and on the emulated or real GPU: what it must have in common with first keys
// that are written down, and that what lies outside is not visited. That it is the plain formula, its gradients and its
// precision are tested with all other masks (with_and_without_masks).
#include "kernels/attention_bounds.h"
#include "kernels/device_parity.h"

namespace sluice {
namespace {

// Within a tile, its edge on either side, over tiles; no more than T / 2 so that something is left out.
constexpr int64_t kWindows[] = {1, 30, 63, 64, 65, 100};
constexpr AttentionShape kShape = {2, 200, 4, 2, 20, 24};

// The same mask written down row by row.
AttentionCase with_first_keys(const AttentionCase& windowed) {
  AttentionCase out = windowed;
  const AttentionReference reference(windowed);
  for (int64_t b = 0; b < kShape.B; ++b)
    for (int64_t i = 0; i < kShape.T; ++i) out.first_key.set(b * kShape.T + i, double(reference.first_key(b, i)));
  out.documents = true;
  out.spec.window = 0;
  return out;
}

AttentionCase windowed_case(ScoreKind score, Slot slot, DType act, int64_t window, bool documents) {
  AttentionCase out(score, kShape, slot, act);
  out.randomise();
  if (documents) out.pack_documents();
  out.spec.window = window;
  return out;
}

bool same_results(const AttentionCase& a, const AttentionCase& b) {
  return a.out == b.out && a.stats == b.stats && a.d_qkv == b.d_qkv && a.d_key_bias == b.d_key_bias &&
         a.d_value_bias == b.d_value_bias && a.d_learned == b.d_learned;
}

// The same but for the gradient of the queries, whose up to T parts the CPU adds in another order within a window: they
// round at random, and the sum is stored.
bool same_results_but_query_gradients(AttentionCase a, AttentionCase b) {
  const int64_t all = kShape.heads().projected_columns(), queries = kShape.heads().query_columns();
  const DType act = a.d_qkv.tensor().dtype;
  const Values x = values_of(a.d_qkv, 0, queries), y = values_of(b.d_qkv, 0, queries);
  const double roundings = 2 * std::sqrt(double(kShape.T)) * rounding_of(accumulator_of(act)) + 2 * rounding_of(act);
  EXPECT_LE(distance(x, y), roundings * norm_of(y));
  for (TestBuffer* gradient : {&a.d_qkv, &b.d_qkv})
    for (int64_t i = 0; i < gradient->size(); ++i)
      if (i % all < queries) gradient->set(i, 0);
  return same_results(a, b);
}

TEST(AttentionWindow, IsFirstKeysThatMoveWithTheRow) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      for (const int64_t window : kWindows) {
        const bool documents = (window + int64_t(act)) % 2 == 0;
        SCOPED_TRACE(fmt::format("window {}{}", window, documents ? ", documents" : ""));
        AttentionCase run = windowed_case(score, kSlots[window % 3], act, window, documents);
        AttentionCase written = with_first_keys(run);
        run.forward(isa).backward(isa), written.forward(isa).backward(isa);
        EXPECT_TRUE(same_results_but_query_gradients(run, written));
        EXPECT_TRUE(run.untouched());
      }
    });
  });
}

TEST(AttentionWindow, ThatHoldsTheSequenceIsNone) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      AttentionCase none = windowed_case(score, Slot::kKeyValue, act, 0, true);
      none.forward(isa).backward(isa).probe(isa);
      for (const int64_t window : {kShape.T, kShape.T + 1, int64_t{1} << 20}) {
        AttentionCase run = windowed_case(score, Slot::kKeyValue, act, window, true);
        run.forward(isa).backward(isa).probe(isa);
        EXPECT_TRUE(same_results(run, none)) << window;
        EXPECT_TRUE(run.sink_attention == none.sink_attention && run.sink_logit_gap == none.sink_logit_gap) << window;
      }
    });
  });
}

// A row of a window of one key is that key's value.
TEST(AttentionWindow, OfOneKeyIsItsValue) {
  for_kernels([](const IsaKernels& isa, DType act) {
    AttentionCase run = windowed_case(ScoreKind::kSoftmax, Slot::kNone, act, 1, false);
    run.forward(isa);
    const AttentionReference reference(run);
    const Values out = values_of(run.out), expected = reference.outputs();
    for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], expected[i]) << i;
  });
}

// A product with a weight of 0 would still bring a NaN in: tiles outside are not read. Keys and values of the first
// tile are NaN; rows from 63 + window on see none of them, and those from the next multiple of 64 on share no tile with
// them.
void spoil_first_tile(AttentionCase& problem) {
  const HeadSizes heads = kShape.heads();
  const int64_t columns = heads.projected_columns();
  for (int64_t b = 0; b < kShape.B; ++b)
    for (int64_t i = 0; i < 64 * columns; ++i)
      if (i % columns >= heads.query_columns()) problem.qkv.set(b * kShape.T * columns + i, std::nan(""));
}

void expect_clean_from(int64_t row, const AttentionCase& run) {
  const int64_t out = kShape.heads().result_columns(), queries = kShape.heads().query_columns(),
                all = kShape.heads().projected_columns();
  for (int64_t b = 0; b < kShape.B; ++b)
    for (int64_t i = row; i < kShape.T; ++i) {
      for (int64_t c = 0; c < out; ++c) ASSERT_TRUE(std::isfinite(run.out.at((b * kShape.T + i) * out + c))) << i;
      for (int64_t c = 0; c < queries; ++c) ASSERT_TRUE(std::isfinite(run.d_qkv.at((b * kShape.T + i) * all + c))) << i;
    }
  EXPECT_TRUE(std::isnan(run.out.at(0)));
}

TEST(AttentionWindow, DoesNotVisitTilesOutside) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      AttentionCase run = windowed_case(score, Slot::kNone, act, 64, false);
      spoil_first_tile(run);
      run.forward(isa).backward(isa);
      expect_clean_from(128, run);
    });
  });
}

TEST(AttentionWindow, IsRefusedBelowZero) {
  const auto backend = make_cpu_backend();
  AttentionCase run(ScoreKind::kSoftmax, {1, 4, 1, 1, 16, 16}, Slot::kNone, DType::kF32);
  run.randomise();
  run.spec.window = -1;
  EXPECT_THROW(backend->run(run.forward_args()), std::logic_error);
}

// ---- on the device ---------------------------------------------------------------------------------------------------

// Forward and backward; the case receives the results.
AttentionCase run_on_device(const AttentionCase& problem) {
  AttentionCase out = problem;
  TestBuffer space(DType::kF32, 1,
                   cuda_backend().workspace<AttentionBackward>({problem.spec.shape, problem.qkv.tensor().dtype}));
  const std::vector<TestBuffer> buffers = {out.first_key, out.qkv, out.d_out, out.out, out.stats, out.d_qkv, space};
  const std::vector<TestBuffer> results = after(cuda_backend(), buffers, [&](Backend& backend, const Tensors& t) {
    AttentionBackward args = problem.backward_args();
    AttentionForward& forward = args.forward;
    if (forward.first_key) forward.first_key = t[0];
    forward.q = problem.queries_of(t[1]), forward.k = problem.keys_of(t[1]), forward.v = problem.values_of_heads(t[1]);
    args.d_out = t[2], forward.out = t[3], forward.stats = t[4];
    args.d_q = problem.queries_of(t[5]), args.d_k = problem.keys_of(t[5]), args.d_v = problem.values_of_heads(t[5]);
    args.workspace = t[6];
    backend.run(forward);
    backend.run(args);
    backend.synchronize();
  });
  out.out = results[3], out.stats = results[4], out.d_qkv = results[5];
  return out;
}

TEST(CudaAttentionWindow, IsFirstKeysThatMoveWithTheRow) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for (const ScoreKind score : {ScoreKind::kSoftmax, kind_of<ReluScore>, kind_of<ClippedSoftmax>})
    for_device_types([&](DType act) {
      for (const bool documents : {false, true})
        for (const int64_t window : {int64_t{1}, int64_t{64}, int64_t{65}}) {
          SCOPED_TRACE(fmt::format("window {}{}", window, documents ? ", documents" : ""));
          const AttentionCase problem = windowed_case(score, Slot::kNone, act, window, documents);
          EXPECT_TRUE(same_results(run_on_device(problem), run_on_device(with_first_keys(problem))));
        }
    });
}

TEST(CudaAttentionWindow, DoesNotVisitTilesOutsideAndOneThatHoldsTheSequenceIsNone) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_device_types([](DType act) {
    AttentionCase spoiled = windowed_case(ScoreKind::kSoftmax, Slot::kNone, act, 64, false);
    spoil_first_tile(spoiled);
    expect_clean_from(128, run_on_device(spoiled));
    const AttentionCase none = run_on_device(windowed_case(ScoreKind::kSoftmax, Slot::kNone, act, 0, false));
    EXPECT_TRUE(
        same_results(run_on_device(windowed_case(ScoreKind::kSoftmax, Slot::kNone, act, kShape.T, false)), none));
  });
}

}  // namespace
}  // namespace sluice

// Attention with dropout: against plain loops with the mask of a plain loop over Philox, for every score function, slot
// and mask of keys; gradients in f64 against finite differences; f32 and bf16 against f64; the CUDA backend against the
// CPU.
#include "kernels/attention_slopes.h"
#include "kernels/device_parity.h"

namespace sluice {
namespace {

// One key only; part of a tile, heads shared; tiles' edges with shared heads and more than one batch; wide heads.
const AttentionShape kShapes[] = {{1, 1, 1, 1, 16, 16},
                                  {3, 21, 4, 2, 20, 20},
                                  {1, 65, 4, 2, 16, 32},
                                  {2, 130, 2, 1, 20, 20},
                                  {1, 70, 1, 1, 256, 256}};

template <class Body>
void for_problems(DType act, Body body) {
  for_scores([&](ScoreKind score) {
    int turn = int(score);
    for (const AttentionShape& shape : kShapes) {
      const Slot slot = kSlots[turn++ % 3];
      SCOPED_TRACE(describe(shape, slot));
      AttentionCase smooth = smooth_case(score, shape, slot, act, turn % 2 == 0);
      with_and_without_masks_smoothly(smooth, [&](AttentionCase& problem) {
        problem.use_dropout(turn % 2 ? 0.1 : 0.4);
        body(problem);
      });
    }
  });
}

TEST(AttentionDropout, OutputsAreThoseOfAPlainLoop) {
  for_problems(DType::kF64, [](AttentionCase& problem) {
    const Values want = AttentionReference(problem).outputs();
    AttentionCase whole = problem;
    whole.dropped = 0;
    whole.forward(widest());
    for (const IsaKernels* isa : available_isas()) {
      SCOPED_TRACE(isa->name);
      AttentionCase run = problem;
      run.forward(*isa);
      EXPECT_LE(distance(values_of(run.out), want), 1e-12 * (1 + norm_of(want)));
      EXPECT_LE(distance(values_of(run.stats), values_of(whole.stats)), 1e-12 * norm_of(values_of(whole.stats)))
          << "statistics are those without dropout";
      EXPECT_TRUE(run.untouched());
    }
  });
}

TEST(AttentionDropout, GradientsAreFiniteDifferences) { for_problems(DType::kF64, expect_finite_differences); }

TEST(AttentionDropout, NarrowTypesAreRoundingAway) {
  for (const DType act : {DType::kF32, DType::kBF16}) for_problems(act, expect_rounding_away);
}

// Of every result, the distance to the same in f64, by its norm; where its parts cancel by theirs, for which a share of
// the largest result stands. bf16 rounds weights, outputs and score gradients, each by up to 2^-8: 3e-2 is eight such.
// Of a row's only key all of the gradient cancels. A wrong mask is off by some tenths.
void expect_near_f64(AttentionCase& run, const AttentionCase& problem, double bound) {
  AttentionCase wide = problem.in_f64();
  wide.forward(widest()).backward(widest());
  const std::vector<Result> got = results_of(run, values_of(run.out)), want = results_of(wide, values_of(wide.out));
  double largest = 0;
  for (const Result& result : want) largest = std::max(largest, norm_of(result.values));
  const double share = problem.spec.shape.T == 1 ? 0.25 : 0.1;
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(distance(got[i].values, want[i].values), bound * (norm_of(want[i].values) + share * largest))
        << got[i].name;
}

TEST(AttentionDropout, OtherTypesAreNearF64) {
  for (const DType act : {DType::kF32, DType::kBF16})
    for_problems(act, [&](AttentionCase& problem) {
      for (const IsaKernels* isa : available_isas()) {
        AttentionCase run = problem;
        run.forward(*isa).backward(*isa);
        SCOPED_TRACE(fmt::format("{} {}", isa->name, name_of(act)));
        expect_near_f64(run, problem, act == DType::kBF16 ? 3e-2 : 1e-4);
      }
    });
}

// Forward and backward on a device that works on copies of everything.
AttentionCase run_on(Backend& backend, const AttentionCase& problem) {
  AttentionCase out = problem;
  const std::vector<TestBuffer*> all = {
      &out.first_key, &out.order, &out.dropout_keys, &out.qkv,        &out.key_bias,     &out.value_bias, &out.d_out,
      &out.out,       &out.stats, &out.d_qkv,        &out.d_key_bias, &out.d_value_bias, &out.last_key};
  std::vector<TestBuffer> buffers;
  for (const TestBuffer* x : all) buffers.push_back(*x);
  for (const TestBuffer& x : out.learned) buffers.push_back(x);
  for (const TestBuffer& x : out.d_learned) buffers.push_back(x);
  buffers = after(backend, buffers, [&](Backend& on, const Tensors& t) {
    AttentionBackward args = problem.backward_args();
    AttentionForward& in = args.forward;
    if (in.first_key) in.first_key = t[0];
    if (in.order) in.order = t[1];
    if (in.last_key) in.last_key = t[12];
    in.dropout.keys = t[2];
    in.q = problem.queries_of(t[3]), in.k = problem.keys_of(t[3]), in.v = problem.values_of_heads(t[3]);
    if (in.key_bias) in.key_bias = t[4], args.d_key_bias = t[10];
    if (in.value_bias) in.value_bias = t[5], args.d_value_bias = t[11];
    args.d_out = t[6], in.out = t[7], in.stats = t[8];
    args.d_q = problem.queries_of(t[9]), args.d_k = problem.keys_of(t[9]), args.d_v = problem.values_of_heads(t[9]);
    for (size_t i = 0; i < out.learned.size(); ++i)
      in.learned.at[i] = t[all.size() + i], args.d_learned.at[i] = t[all.size() + out.learned.size() + i];
    const int64_t elements = on.workspace<AttentionBackward>(args.sizes());
    Arena workspace(on, size_t(elements) * sizeof(float));
    args.workspace = workspace.at(0, DType::kF32, {elements});
    on.run(in);
    on.run(args);
    on.synchronize();
  });
  for (size_t i = 0; i < all.size(); ++i) *all[i] = buffers[i];
  for (size_t i = 0; i < out.learned.size(); ++i) out.d_learned[i] = buffers[all.size() + out.learned.size() + i];
  return out;
}

// An emulated device takes seconds for the large shapes: there they are softmax's.
bool is_run(const AttentionSpec& spec) {
  const AttentionShape& shape = spec.shape;
  const bool small = shape.B * shape.T * shape.H * shape.D_qk <= 6000;
  return small || spec.score == ScoreKind::kSoftmax || !kCudaIsEmulated;
}

TEST(AttentionDropout, IsTheSameOnAGpu) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for (const DType act : kDeviceTypes)
    for_problems(act, [&](AttentionCase& problem) {
      if (!is_run(problem.spec)) return;
      SCOPED_TRACE(name_of(act));
      AttentionCase run = run_on(cuda_backend(), problem);
      expect_near_f64(run, problem, act == DType::kBF16 ? 3e-2 : 1e-4);
    });
}

// Values are ones and queries zeros: every output is the sum of what the masks leave of equal weights, which is a whole
// number of shares, on both devices.
TEST(AttentionDropout, MasksAreThoseOfPhiloxBitByBit) {
  for (const DType act : {DType::kF32, DType::kBF16}) {
    AttentionCase problem(ScoreKind::kSoftmax, {2, 130, 4, 2, 16, 16}, Slot::kNone, act);
    problem.use_dropout(0.25);
    for (int64_t i = 0; i < problem.qkv.size(); ++i) problem.qkv.set(i, 1);
    problem.scale_queries(0);
    const AttentionReference reference(problem);
    const auto check = [&](const AttentionCase& run) {
      reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
        double kept = 0;
        for (int64_t j = 0; j <= i; ++j) kept += reference.kept(b, h, i, j) > 0;
        const double found = run.out.at((b * 130 + i) * 64 + h * 16) * double(i + 1) * 0.75;
        ASSERT_NEAR(found, kept, act == DType::kBF16 ? 0x1p-7 * kept + 1e-3 : 1e-3) << b << ", " << h << ", " << i;
      });
    };
    for (const IsaKernels* isa : available_isas()) check(AttentionCase(problem).forward(*isa));
    if (cuda_unavailable_reason().empty()) check(run_on(cuda_backend(), problem));
  }
}

}  // namespace
}  // namespace sluice

// Attention on the CUDA backend against the CPU in f64: forward, row statistics, backward and probe, for every
// registered score function. On a GPU, or emulated (kernels/cuda_under_test.h); then with the threads in either order.
//
// Bounds are those of attention_bounds.h, with two additions. f32 runs on tf32 tensor cores with operands split in two:
// a product is off by up to 3 * 2^-22 of itself, twelve times f32's rounding, and at random (kSplitRounding takes a
// third). bf16 rounds weights and score gradients before they are multiplied: output and gradients are off by up to
// 2^-8 of the sum of their products' sizes, which `Sizes` works out plainly.
#include "kernels/attention_bounds.h"
#include "kernels/cuda_under_test.h"

namespace sluice {
namespace {

constexpr double kSplitRounding = 0x1p-22;

// Edges of tiles and strips (64, 16), every class of head sizes, whole and in part, shared heads, more than one batch;
// values wider or narrower than keys, in one class and in two.
const AttentionShape kShapes[] = {{1, 1, 1, 1, 16, 16},    {2, 3, 4, 2, 20, 20},    {1, 65, 2, 1, 16, 16},
                                  {1, 130, 2, 1, 40, 40},  {2, 65, 1, 1, 64, 64},   {1, 130, 1, 1, 64, 64},
                                  {1, 70, 2, 1, 100, 100}, {1, 65, 1, 1, 256, 256}, {1, 70, 4, 2, 16, 32},
                                  {2, 65, 2, 1, 40, 20},   {1, 65, 1, 1, 72, 136}};

// How matrices lie on the device: rows that are whole 16-byte vectors, or rows that are not.
enum class Layout { kVectors, kElements };

// A test buffer on the device, its rows `stride` elements apart, with a pattern in the gaps and around them.
class DeviceBuffer {
 public:
  DeviceBuffer(Backend& backend, const TestBuffer& host, Layout layout) : backend_(backend), tensor_(host.tensor()) {
    tensor_.stride = layout == Layout::kVectors ? (tensor_.cols() + 7) / 8 * 8 + 8 : tensor_.cols() + 5;
    if (tensor_.dtype != DType::kBF16 && host.tensor().stride == tensor_.cols())
      tensor_.stride = tensor_.cols();  // f32 parameters and statistics and i32 indices are contiguous
    bytes_.assign(2 * kGuard + size_t(tensor_.rows() * tensor_.stride) * element() / 4 * 4 + 4, kPattern);
    for (int64_t row = 0; row < tensor_.rows(); ++row) std::memcpy(at(row), host_row(host, row), used());
    tensor_.data = static_cast<char*>(backend.allocate(bytes_.size())) + kGuard;
    backend.upload(raw(), bytes_.data());
  }
  ~DeviceBuffer() { backend_.release(static_cast<char*>(tensor_.data) - kGuard); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  operator Tensor() const { return tensor_; }
  Tensor columns(int64_t first, int64_t count) const { return tensor_.columns(first, count); }

  // Back to `host`; nothing else may have been written.
  void fetch(TestBuffer& host) {
    backend_.download(bytes_.data(), raw());
    for (int64_t row = 0; row < tensor_.rows(); ++row) {
      std::memcpy(host_row(host, row), at(row), used());
      std::memset(at(row), kPattern, used());
    }
    EXPECT_TRUE(std::all_of(bytes_.begin(), bytes_.end(), [](unsigned char byte) { return byte == kPattern; }))
        << "written out of bounds";
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kPattern = 0xA5;

  size_t element() const { return size_of(tensor_.dtype); }
  size_t used() const { return size_t(tensor_.cols()) * element(); }
  unsigned char* at(int64_t row) { return bytes_.data() + kGuard + size_t(row * tensor_.stride) * element(); }
  static char* host_row(const TestBuffer& host, int64_t row) {
    const Tensor t = host.tensor();
    return static_cast<char*>(t.data) + size_t(row * t.stride) * size_of(t.dtype);
  }
  Tensor raw() const {
    return Tensor(static_cast<char*>(tensor_.data) - kGuard, DType::kI32, Shape{1, int64_t(bytes_.size() / 4)});
  }

  Backend& backend_;
  Tensor tensor_;
  std::vector<unsigned char> bytes_;
};

// Runs forward, backward and probe on the device; the case receives the results.
AttentionCase run_on(Backend& backend, const AttentionCase& problem, Layout layout, bool accumulate = false) {
  AttentionCase out = problem;
  TestBuffer space(DType::kF32, 1,
                   backend.workspace<AttentionBackward>({problem.spec.shape, problem.qkv.tensor().dtype}));
  poison(space);
  const auto put = [&](const TestBuffer& x) { return std::make_unique<DeviceBuffer>(backend, x, layout); };
  const auto first_key = put(out.first_key), last_key = put(out.last_key), order = put(out.order), qkv = put(out.qkv),
             key_bias = put(out.key_bias), value_bias = put(out.value_bias), d_out = put(out.d_out),
             output = put(out.out), stats = put(out.stats), d_qkv = put(out.d_qkv), d_key_bias = put(out.d_key_bias),
             d_value_bias = put(out.d_value_bias), sink_attention = put(out.sink_attention),
             sink_logit_gap = put(out.sink_logit_gap), workspace = put(space);

  AttentionBackward args = problem.backward_args(accumulate);
  args.forward.q = problem.queries_of(*qkv);
  args.forward.k = problem.keys_of(*qkv);
  args.forward.v = problem.values_of_heads(*qkv);
  if (args.forward.key_bias) args.forward.key_bias = *key_bias, args.d_key_bias = *d_key_bias;
  if (args.forward.value_bias) args.forward.value_bias = *value_bias, args.d_value_bias = *d_value_bias;
  std::vector<std::unique_ptr<DeviceBuffer>> learned, d_learned;
  for (size_t i = 0; i < out.learned.size(); ++i) {
    args.forward.learned.at[i] = *learned.emplace_back(put(out.learned[i]));
    args.d_learned.at[i] = *d_learned.emplace_back(put(out.d_learned[i]));
  }
  if (args.forward.first_key) args.forward.first_key = *first_key;
  if (args.forward.last_key) args.forward.last_key = *last_key;
  if (args.forward.order) args.forward.order = *order;
  args.forward.out = *output;
  args.forward.stats = *stats;
  args.d_out = *d_out;
  args.d_q = problem.queries_of(*d_qkv);
  args.d_k = problem.keys_of(*d_qkv);
  args.d_v = problem.values_of_heads(*d_qkv);
  args.workspace = *workspace;
  backend.run(args.forward);
  backend.run(args);
  backend.run(AttentionProbe{args.forward, *sink_attention, *sink_logit_gap});
  backend.synchronize();

  output->fetch(out.out), stats->fetch(out.stats), d_qkv->fetch(out.d_qkv), d_key_bias->fetch(out.d_key_bias);
  d_value_bias->fetch(out.d_value_bias);
  for (size_t i = 0; i < d_learned.size(); ++i) d_learned[i]->fetch(out.d_learned[i]);
  sink_attention->fetch(out.sink_attention), sink_logit_gap->fetch(out.sink_logit_gap), workspace->fetch(space);
  return out;
}

bool same_bits(const AttentionCase& a, const AttentionCase& b) {
  return a.out == b.out && a.stats == b.stats && a.d_qkv == b.d_qkv && a.d_key_bias == b.d_key_bias &&
         a.d_value_bias == b.d_value_bias && a.d_learned == b.d_learned && a.sink_attention == b.sink_attention &&
         a.sink_logit_gap == b.sink_logit_gap;
}

// body(problem) for every shape; slots, and where `unusual` constants are set, change from one to the next, and from
// score to score.
template <class Body>
void for_problems(ScoreKind score, DType act, Body body) {
  int turn = int(score);
  for (const AttentionShape& shape : kShapes) {
    const Slot slot = kSlots[turn % 3];
    SCOPED_TRACE(std::string(name_of(act)) + " " + describe(shape, slot));
    with_and_without_masks_smoothly(smooth_case(score, shape, slot, act, turn % 2 == 0), body);
    ++turn;
  }
}

// ---- bounds ------------------------------------------------------------------------------------------------------

// Sums of |weight| |value| and the like, where the result sums their products: what rounding the weights changes.
struct Sizes {
  Values out;            // [N, H*D_v]
  Values d_q, d_k, d_v;  // like their gradients
};

// By plain loops, from an f64 run's statistics.
template <class Score>
Sizes sizes_of(const AttentionCase& wide) {
  const auto [B, T, H, KV, D, D_v] = wide.spec.shape;
  const HeadSizes heads = wide.spec.shape.heads();
  const auto constants = constants_of<Score, double>(wide.spec);
  const Values qkv = values_of(wide.qkv), d_out = values_of(wide.d_out), key_bias = values_of(wide.key_bias),
               value_bias = values_of(wide.value_bias);
  const int64_t cols = heads.projected_columns(), first_value = (H + KV) * D, group = H / KV;
  const AttentionReference reference(wide);
  Sizes sizes{Values(size_t(B * T * H * D_v)), Values(size_t(B * T * H * D)), Values(size_t(B * T * KV * D)),
              Values(size_t(B * T * KV * D_v))};
  int64_t row = 0;
  reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
    const double m = wide.stats.at(row), inverse = wide.stats.at(wide.stats.size() / 2 + row);
    ++row;
    const Values scores = reference.row(b, h, i).scores;
    const int64_t kv = h / group, bias = wide.slot != Slot::kNone;
    const std::vector<int64_t> keys = reference.seen(b, i);
    const auto row_of = [&](int64_t j) { return b * T + keys[size_t(j - bias)]; };
    const double* d_o = &d_out[size_t(((b * T + i) * H + h) * D_v)];
    const double* q = &qkv[size_t((b * T + i) * cols + h * D)];
    const auto key = [&](int64_t j) {
      return j < bias ? &key_bias[size_t(kv * D)] : &qkv[size_t(row_of(j) * cols + (H + kv) * D)];
    };
    const Values zeros = Values(size_t(D_v));
    const auto value = [&](int64_t j) {
      if (j < bias) return wide.slot == Slot::kKeyValue ? &value_bias[size_t(kv * D_v)] : zeros.data();
      return &qkv[size_t(row_of(j) * cols + first_value + kv * D_v)];
    };
    Values p(scores.size()), dp(scores.size());
    double delta = 0;
    for (size_t j = 0; j < scores.size(); ++j) {
      p[j] = Score::probability(scores[j], m, inverse, constants);
      for (int64_t d = 0; d < D_v; ++d) dp[j] += d_o[d] * value(int64_t(j))[d];
      if constexpr (Score::kOwnDelta) delta += Score::delta_term(scores[j], m, inverse, dp[j], constants);
      else delta += p[j] * dp[j];
    }
    for (size_t j = 0; j < scores.size(); ++j) {
      const double ds = Score::d_score(scores[j], m, inverse, p[j], dp[j], delta, constants);
      const bool is_bias = int64_t(j) < bias;
      const int64_t query_row = (b * T + i) * H + h, key_row = is_bias ? 0 : row_of(int64_t(j)) * KV + kv;
      for (int64_t d = 0; d < D_v; ++d) {
        sizes.out[size_t(query_row * D_v + d)] += std::fabs(p[j] * value(int64_t(j))[d]);
        if (!is_bias) sizes.d_v[size_t(key_row * D_v + d)] += std::fabs(p[j] * d_o[d]);
      }
      for (int64_t d = 0; d < D; ++d) {
        sizes.d_q[size_t(query_row * D + d)] += std::fabs(wide.spec.scale * ds * key(int64_t(j))[d]);
        if (!is_bias) sizes.d_k[size_t(key_row * D + d)] += std::fabs(wide.spec.scale * ds * q[d]);
      }
    }
  });
  return sizes;
}

struct Expected {
  AttentionCase wide;
  std::vector<Result> exact;
  Values bounds;  // on the distance from each
};

Expected expected_of(const AttentionCase& problem) {
  const bool bf16 = problem.qkv.tensor().dtype == DType::kBF16;
  AttentionCase wide = run_in_f64(problem);
  std::vector<Result> exact = results_of(wide, values_of(wide.out));
  Roundings roundings = roundings_of(problem, exact[0].values);
  Values rounded_weights(exact.size());  // what rounding them changes, by result: out, d_q, d_k, d_v, parameters
  if (bf16) {
    const double u = rounding_of(DType::kBF16);
    Sizes sizes;
    ScoreFunctions::dispatch(problem.spec.score, [&](auto score) { sizes = sizes_of<decltype(score)>(wide); });
    for (size_t i = 0; i < sizes.out.size(); ++i) roundings.output[i] += u * sizes.out[i];
    const Values* parts[] = {&sizes.out, &sizes.d_q, &sizes.d_k, &sizes.d_v};
    for (size_t i = 0; i < 4; ++i) rounded_weights[i] = u * norm_of(*parts[i]);
  } else {
    roundings.arithmetic = kSplitRounding;
  }
  Values bounds = bounds_of(problem, exact, roundings);
  for (size_t i = 0; i < exact.size(); ++i) {
    const DType stored = i < 4 ? problem.qkv.tensor().dtype : DType::kF32;
    bounds[i] += rounded_weights[i] + rounding_of(stored) * norm_of(exact[i].values);
  }
  return {std::move(wide), std::move(exact), std::move(bounds)};
}

// A score is off by up to (D + 2) roundings of its products' sizes; the reference m by as much, weights and normalisers
// by that share of themselves, and a sum over n keys by n roundings more.
// log_sums: a reference is a log-sum-exp, whose error is also the sum's.
void check_rows(const AttentionCase& run, const AttentionCase& wide, bool log_sums = false) {
  const AttentionReference reference(wide);
  log_sums |= reference_of(run.spec.score).log_sums;
  const AttentionShape& s = run.spec.shape;
  const double u = run.qkv.tensor().dtype == DType::kBF16 ? rounding_of(DType::kF32) : kSplitRounding;
  AttentionCase expected = wide;
  expected.probe(widest());
  int64_t row = 0;
  reference.for_rows([&](int64_t b, int64_t h, int64_t i) {
    const ReferenceRow plain = reference.row(b, h, i);
    const double score = double(s.D_qk + 2) * u * *std::max_element(plain.sizes.begin(), plain.sizes.end());
    const double share = 2 * score + double(reference.seen(b, i).size() + 7) * rounding_of(DType::kF32);
    const auto near = [&](const TestBuffer& got, const TestBuffer& want, int64_t at, double bound) {
      EXPECT_NEAR(got.at(at), want.at(at), bound) << "row " << row;
    };
    const int64_t inverse = expected.stats.size() / 2 + row;
    near(run.stats, expected.stats, row, score + 1e-6 * std::fabs(expected.stats.at(row)) + (log_sums ? share : 0));
    near(run.stats, expected.stats, inverse, share * std::fabs(expected.stats.at(inverse)));
    near(run.sink_logit_gap, expected.sink_logit_gap, row, share * 4);
    const double stretch = std::max(1.0, reference.stretch());
    near(run.sink_attention, expected.sink_attention, row,
         stretch * (share * std::fabs(expected.sink_attention.at(row)) + score));
    ++row;
  });
}

void check_sums(AttentionCase& run, const Expected& expected) {
  const std::vector<Result> got = results_of(run, values_of(run.out));
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LE(distance(got[i].values, expected.exact[i].values), expected.bounds[i]) << got[i].name;
}

void check_results(AttentionCase& run, const AttentionCase& problem) {
  const Expected expected = expected_of(problem);
  check_sums(run, expected);
  check_rows(run, expected.wide);
}

// ---- tests -------------------------------------------------------------------------------------------------------

class CudaAttention : public testing::TestWithParam<ScoreKind> {
 protected:
  void SetUp() override {
    SLUICE_SKIP_WITHOUT_CUDA();
    backend_ = cuda_under_test();
  }
  Backend& backend() { return *backend_; }

 private:
  std::unique_ptr<Backend> backend_;
};

TEST_P(CudaAttention, F32IsTheCpusWithinRounding) {
  for_problems(GetParam(), DType::kF32, [&](const AttentionCase& problem) {
    AttentionCase run = run_on(backend(), problem, Layout::kVectors);
    check_results(run, problem);
  });
}

TEST_P(CudaAttention, Bf16IsTheCpusWithinRounding) {
  for_problems(GetParam(), DType::kBF16, [&](const AttentionCase& problem) {
    AttentionCase run = run_on(backend(), problem, Layout::kVectors);
    check_results(run, problem);
  });
}

// Nor which thread runs first: a missing barrier would show.
TEST_P(CudaAttention, NeitherLayoutNorThreadOrderChangesABit) {
  for (const DType act : {DType::kF32, DType::kBF16})
    for (const AttentionShape& shape : {AttentionShape{2, 70, 2, 1, 20, 40}, AttentionShape{1, 70, 1, 1, 64, 64}}) {
      SCOPED_TRACE(std::string(name_of(act)) + " " + describe(shape, Slot::kKeyValue));
      AttentionCase problem = smooth_case(GetParam(), shape, Slot::kKeyValue, act, false);
      if (shape.B > 1) problem.pack_documents();
      std::vector<AttentionCase> runs;
      Layout layout = Layout::kVectors;
      for_thread_orders([&] {
        runs.push_back(run_on(backend(), problem, layout));
        layout = Layout::kElements;
      });
      EXPECT_TRUE(same_bits(runs[0], runs[1]));
    }
}

// Values of one sign, so that what sums lose adds up. Sums of fp32 round 512 / 8 times, each by up to 2^-24 and at
// random, and tf32's halves lose 2^-22 of each product: together below 1e-6. Sums that tensor cores truncate would lose
// 4e-6.
TEST(CudaAttentionLong, SumsOverManyKeysKeepTheirAccuracy) {
  SLUICE_SKIP_WITHOUT_CUDA();
  const std::unique_ptr<Backend> backend = cuda_under_test();
  AttentionCase problem = smooth_case(ScoreKind::kSoftmax, {1, 512, 1, 1, 16, 16}, Slot::kNone, DType::kF32, false);
  for (int64_t i = 0; i < problem.qkv.size(); ++i)
    if (i % 48 >= 32) problem.qkv.set(i, 1 + 0.5 * std::fabs(problem.qkv.at(i)));
  const AttentionCase run = run_on(*backend, problem, Layout::kVectors);
  const Values exact = values_of(run_in_f64(problem).out);
  EXPECT_LT(distance(values_of(run.out), exact), 1e-6 * norm_of(exact));
}

// cuDNN leaves a row's log-sum-exp and 1 where our kernels leave its largest score and the inverse of a sum; what they
// say is the same, within check_rows' bounds of both numbers.
void expect_rows_alike(AttentionCase run, const AttentionCase& own) {
  const auto in_one_number = [](AttentionCase& c) {
    const int64_t rows = c.stats.size() / 2;
    for (int64_t row = 0; row < rows; ++row) {
      c.stats.set(row, c.stats.at(row) - std::log(c.stats.at(rows + row)));
      c.stats.set(rows + row, 1);
    }
  };
  AttentionCase wide = run_in_f64(own);
  in_one_number(run), in_one_number(wide);
  check_rows(run, wide, true);
}

TEST(CudaAttentionOfCudnn, IsTheCpusWithinRounding) {
  SLUICE_SKIP_WITHOUT_CUDA();
  if (const std::string reason = cudnn_attention_unavailable_reason(); !reason.empty()) GTEST_SKIP() << reason;
  const auto backend = cudnn_under_test();
  for (const AttentionShape& shape : {AttentionShape{2, 3, 4, 2, 24, 24}, AttentionShape{1, 130, 2, 1, 40, 40},
                                      AttentionShape{2, 65, 1, 1, 64, 64}, AttentionShape{1, 200, 4, 2, 128, 128}}) {
    SCOPED_TRACE(describe(shape, Slot::kNone));
    const AttentionCase problem = smooth_case(ScoreKind::kSoftmax, shape, Slot::kNone, DType::kBF16, false);
    AttentionCase run = run_on(*backend, problem, Layout::kVectors);
    check_sums(run, expected_of(problem));
    expect_rows_alike(run, problem);
    EXPECT_TRUE(same_bits(run, run_on(*backend, problem, Layout::kVectors)));
  }
}

// Wide heads have tilings of their own.
TEST(CudaAttentionWide, ThreadOrderDoesNotChangeABit) {
  SLUICE_SKIP_WITHOUT_CUDA();
  const auto backend = cuda_under_test();
  for (const DType act : {DType::kF32, DType::kBF16})
    for (const int64_t D : {128, 256}) {
      SCOPED_TRACE(std::string(name_of(act)) + " D " + std::to_string(D));
      const AttentionCase problem = smooth_case(ScoreKind::kSoftmax, {1, 70, 1, 1, D, D}, Slot::kKeyValue, act, false);
      std::vector<AttentionCase> runs;
      for_thread_orders([&] { runs.push_back(run_on(*backend, problem, Layout::kVectors)); });
      EXPECT_TRUE(same_bits(runs[0], runs[1]));
    }
}

TEST_P(CudaAttention, AccumulatesTheParameters) {
  for (const DType act : {DType::kF32, DType::kBF16}) {
    AttentionCase problem = smooth_case(GetParam(), {2, 20, 4, 2, 16, 16}, Slot::kKeyValue, act, false);
    AttentionCase once = run_on(backend(), problem, Layout::kVectors);
    const auto parts = problem.parts(), of_one = once.parts();
    std::vector<Values> before;
    for (size_t i = 3; i < parts.size(); ++i) before.push_back(values_of(parts[i].gradient->randomise(30 + i)));
    AttentionCase added = run_on(backend(), problem, Layout::kVectors, true);
    const auto of_sum = added.parts();
    EXPECT_TRUE(once.d_qkv == added.d_qkv);  // never accumulated
    for (size_t i = 3; i < parts.size(); ++i) {
      const Values change = gradient_of(of_one[i]), sum = gradient_of(of_sum[i]), &start = before[i - 3];
      for (size_t at = 0; at < sum.size(); ++at) {  // the sum may be fused with the last product: two roundings
        const double size = std::fabs(start[at]) + std::fabs(change[at]);
        EXPECT_TRUE(near_value(sum[at], start[at] + change[at], DType::kF32, size, 2)) << of_sum[i].name;
      }
    }
  }
}

bool has_nan(const Values& x) {
  return std::any_of(x.begin(), x.end(), [](double value) { return std::isnan(value); });
}
bool all_finite(const Values& x) {
  return std::all_of(x.begin(), x.end(), [](double value) { return std::isfinite(value); });
}

TEST_P(CudaAttention, HugeScoresStayFinite) {
  for (const DType act : {DType::kF32, DType::kBF16})
    for (const double size : {80.0, 1000.0}) {
      AttentionCase problem(GetParam(), {1, 70, 2, 1, 16, 16}, Slot::kKeyValue, act);
      problem.randomise(size);
      AttentionCase run = run_on(backend(), problem, Layout::kVectors);
      for (const TestBuffer* x :
           {&run.out, &run.stats, &run.d_qkv, &run.d_key_bias, &run.d_value_bias, &run.sink_attention})
        EXPECT_TRUE(all_finite(values_of(*x))) << "scores of " << size;
      for (const TestBuffer& x : run.d_learned) EXPECT_TRUE(all_finite(values_of(x))) << "scores of " << size;
    }
}

// A NaN in query 3 stays in its row; one in key or value 3 reaches every later row; one in d_out reaches the gradients.
TEST_P(CudaAttention, NaNComesThrough) {
  constexpr AttentionShape s = {1, 40, 1, 1, 16, 16};
  constexpr int64_t kAt = 3;
  for (const DType act : {DType::kF32, DType::kBF16}) {
    AttentionCase clean(GetParam(), s, Slot::kNone, act);
    clean.randomise();
    for (const int64_t part : {0, 1, 2}) {  // of q, k, v
      AttentionCase problem = clean;
      problem.qkv.set(kAt * 3 * s.D_qk + part * s.D_qk + 7, std::nan(""));
      const AttentionCase run = run_on(backend(), problem, Layout::kVectors);
      const Values out = values_of(run.out);
      for (int64_t row = 0; row < s.T; ++row) {
        const bool nan = has_nan({out.begin() + row * s.D_v, out.begin() + (row + 1) * s.D_v});
        if (row == kAt || (row > kAt && part > 0)) {
          EXPECT_TRUE(nan) << "part " << part << " row " << row;
        } else if (part < 2) {
          EXPECT_FALSE(nan) << "part " << part << " row " << row;
        }
      }
      EXPECT_TRUE(has_nan(values_of(run.d_qkv))) << "part " << part;
    }
    AttentionCase problem = clean;
    problem.d_out.set(kAt * s.D_v + 7, std::nan(""));
    EXPECT_TRUE(has_nan(values_of(run_on(backend(), problem, Layout::kVectors).d_qkv)));
  }
}

std::vector<ScoreKind> all_scores() {
  std::vector<ScoreKind> out;
  ScoreFunctions::for_each([&](auto score) { out.push_back(kind_of<decltype(score)>); });
  return out;
}
std::string name_of_score(const testing::TestParamInfo<ScoreKind>& info) {
  std::string name;
  ScoreFunctions::dispatch(info.param, [&](auto score) { name = score.kName; });
  return name;
}
INSTANTIATE_TEST_SUITE_P(EveryScore, CudaAttention, testing::ValuesIn(all_scores()), name_of_score);

}  // namespace
}  // namespace sluice

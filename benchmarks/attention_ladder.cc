// The ladder of docs/kernels.md: causal softmax attention, forward, from the loop that the formula says to the kernels
// of the program, each rung a change or two from the one before it. Every rung is compared with the first before it is
// timed. Prints the page's table.
//
//   cmake --build --preset release --target attention_ladder && build/release/attention_ladder [ROUNDS]
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/stopwatch.h"
#include "kernels/cpu/isa.h"

namespace {

using namespace sluice;

constexpr int64_t B = 1, T = 1024, H = 4, D = 64, C = H * D;  // [B*T, H*D], heads side by side
const float kScale = 1 / std::sqrt(float(D));

struct Problem {
  std::vector<float> q, k, v, out;
  Problem() : q(B * T * C), k(q.size()), v(q.size()), out(q.size()) {
    uint32_t state = 1;
    for (auto* x : {&q, &k, &v})
      for (float& value : *x) {
        state = state * 1664525u + 1013904223u;
        value = float(state >> 8) / float(1 << 23) - 1;
      }
  }
  const float* row(const std::vector<float>& x, int64_t t, int64_t h) const { return &x[size_t(t * C + h * D)]; }
  float* result(int64_t t, int64_t h) { return &out[size_t(t * C + h * D)]; }
};

// ---- 1: the formula, a row at a time. The compiler may not reorder the sum of a product, so that it stays scalar.

float dot(const float* a, const float* b) {
  float sum = 0;
  for (int64_t d = 0; d < D; ++d) sum += a[d] * b[d];
  return sum;
}

template <class Dot>
void attend_row(Problem& p, int64_t i, int64_t h, std::vector<float>& s, Dot product) {
  float most = -INFINITY, total = 0;
  for (int64_t j = 0; j <= i; ++j) {
    s[size_t(j)] = kScale * product(p.row(p.q, i, h), p.row(p.k, j, h));
    most = std::max(most, s[size_t(j)]);
  }
  for (int64_t j = 0; j <= i; ++j) total += s[size_t(j)] = std::exp(s[size_t(j)] - most);
  float* out = p.result(i, h);
  std::fill(out, out + D, 0.0f);
  for (int64_t j = 0; j <= i; ++j) {
    const float weight = s[size_t(j)] / total;
    const float* v = p.row(p.v, j, h);
    for (int64_t d = 0; d < D; ++d) out[d] += weight * v[d];
  }
}

void formula(Problem& p) {
  std::vector<float> s(T);
  for (int64_t h = 0; h < H; ++h)
    for (int64_t i = 0; i < T; ++i) attend_row(p, i, h, s, dot);
}

// ---- 2: the products' sums in SIMD lanes, which the pragma allows.

float dot_in_lanes(const float* a, const float* b) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t d = 0; d < D; ++d) sum += a[d] * b[d];
  return sum;
}

void lanes(Problem& p) {
  std::vector<float> s(T);
  for (int64_t h = 0; h < H; ++h)
    for (int64_t i = 0; i < T; ++i) attend_row(p, i, h, s, dot_in_lanes);
}

// ---- 3: rows shared among threads, the longest first.

void threads(Problem& p) {
#pragma omp parallel
  {
    std::vector<float> s(T);
#pragma omp for collapse(2) schedule(dynamic, 16)
    for (int64_t h = 0; h < H; ++h)
      for (int64_t back = 0; back < T; ++back) attend_row(p, T - 1 - back, h, s, dot_in_lanes);
  }
}

// ---- 4: tiles of 64 queries and 64 keys, with the softmax as it goes (arXiv 1805.02867, 2205.14135). Queries lie in
// lanes: they are transposed once, scores are [keys, queries], and no sum runs over lanes.

constexpr int64_t kTile = 64;

struct Tile {
  alignas(64) float q[D * kTile];      // [features, queries]
  alignas(64) float s[kTile * kTile];  // [keys, queries]
  alignas(64) float o[D * kTile];      // [features, queries], unnormalised
  alignas(64) float m[kTile], l[kTile], factor[kTile];
};

void scores(Tile& t, const Problem& p, int64_t first_key, int64_t h) {
  for (int64_t j = 0; j < kTile; ++j) {
    float* s = &t.s[j * kTile];
    std::fill(s, s + kTile, 0.0f);
    const float* k = p.row(p.k, first_key + j, h);
    for (int64_t d = 0; d < D; ++d)
#pragma omp simd
      for (int64_t i = 0; i < kTile; ++i) s[i] += k[d] * t.q[d * kTile + i];
  }
}

// Of the tile on the diagonal what is above it has no weight.
void weights(Tile& t, bool diagonal) {
  for (int64_t i = 0; i < kTile; ++i) t.factor[i] = t.m[i];
  for (int64_t j = 0; j < kTile; ++j)
    for (int64_t i = 0; i < kTile; ++i) {
      float& s = t.s[j * kTile + i];
      s = diagonal && j > i ? -INFINITY : s * kScale;
      t.m[i] = std::max(t.m[i], s);
    }
  for (int64_t i = 0; i < kTile; ++i) t.factor[i] = std::exp(t.factor[i] - t.m[i]), t.l[i] *= t.factor[i];
  for (int64_t j = 0; j < kTile; ++j)
#pragma omp simd
    for (int64_t i = 0; i < kTile; ++i) {
      float& s = t.s[j * kTile + i];
      s = std::exp(s - t.m[i]);
      t.l[i] += s;
    }
}

void add_values(Tile& t, const Problem& p, int64_t first_key, int64_t h) {
  for (int64_t d = 0; d < D; ++d) {
    float* o = &t.o[d * kTile];
    for (int64_t i = 0; i < kTile; ++i) o[i] *= t.factor[i];
    for (int64_t j = 0; j < kTile; ++j) {
      const float v = p.row(p.v, first_key + j, h)[d];
#pragma omp simd
      for (int64_t i = 0; i < kTile; ++i) o[i] += v * t.s[j * kTile + i];
    }
  }
}

void tile(Tile& t, Problem& p, int64_t first, int64_t h) {
  for (int64_t i = 0; i < kTile; ++i) {
    for (int64_t d = 0; d < D; ++d) t.q[d * kTile + i] = p.row(p.q, first + i, h)[d];
    t.m[i] = -INFINITY, t.l[i] = 0;
  }
  std::fill(std::begin(t.o), std::end(t.o), 0.0f);
  for (int64_t key = 0; key <= first; key += kTile) {
    scores(t, p, key, h);
    weights(t, key == first);
    add_values(t, p, key, h);
  }
  for (int64_t i = 0; i < kTile; ++i)
    for (int64_t d = 0; d < D; ++d) p.result(first + i, h)[d] = t.o[d * kTile + i] / t.l[i];
}

void tiles(Problem& p) {
#pragma omp parallel for collapse(2) schedule(dynamic)
  for (int64_t h = 0; h < H; ++h)
    for (int64_t back = 1; back <= T / kTile; ++back) {
      static thread_local Tile scratch;
      tile(scratch, p, T - back * kTile, h);
    }
}

// ---- the program's kernels

void program(Problem& p, const IsaKernels& isa) {
  static std::vector<float> stats(2 * B * H * T);
  const auto rows = [](std::vector<float>& x) { return Tensor(x.data(), DType::kF32, {B * T, C}); };
  isa.run(AttentionForward{
      .spec = {.shape = {B, T, H, H, D, D}, .score = ScoreKind::kSoftmax, .constants = {}, .scale = double(kScale)},
      .q = rows(p.q),
      .k = rows(p.k),
      .v = rows(p.v),
      .out = rows(p.out),
      .stats = Tensor(stats.data(), DType::kF32, {2, B, H, T})});
}

struct Rung {
  std::string name;
  std::function<void(Problem&)> run;
  std::vector<double> seconds = {};
};

double difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, double(std::fabs(a[i] - b[i])));
  return most;
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 9;
  std::vector<Rung> rungs = {{"the formula, a row at a time, one thread", formula},
                             {"sums in SIMD lanes", lanes},
                             {"rows shared among threads", threads},
                             {"tiles of 64 x 64, queries in lanes", tiles}};
  for (const IsaKernels* isa : available_isas())
    rungs.push_back({std::string("the program's, ") + isa->name, [isa](Problem& p) { program(p, *isa); }});

  Problem problem;
  formula(problem);
  const std::vector<float> want = problem.out;
  for (Rung& rung : rungs) {
    std::fill(problem.out.begin(), problem.out.end(), NAN);
    rung.run(problem);
    // Values are in [-1, 1]; sums of up to T terms are rounded in different orders.
    if (const double apart = difference(problem.out, want); !(apart < 1e-5)) {
      std::fprintf(stderr, "%s is off by %g\n", rung.name.c_str(), apart);
      return 1;
    }
  }
  // In turns, so that what else the machine does meets all alike.
  for (int round = 0; round < rounds; ++round)
    for (Rung& rung : rungs) {
      const Stopwatch watch;
      rung.run(problem);
      rung.seconds.push_back(watch.seconds());
    }
  const double operations = 2.0 * 2 * B * H * T * (T + 1) / 2 * D;  // of the half that is not masked
  std::printf("T = %ld, %ld heads of %ld, fp32, %d threads\n\n", long(T), long(H), long(D), omp_get_max_threads());
  std::printf("| rung | ms | GFLOP/s | times the first | times the one before |\n|---|---|---|---|---|\n");
  double first = 0, before = 0;
  for (Rung& rung : rungs) {
    std::sort(rung.seconds.begin(), rung.seconds.end());
    const double seconds = rung.seconds[rung.seconds.size() / 2];
    if (first == 0) first = before = seconds;
    std::printf("| %s | %.2f | %.1f | %.1f | %.1f |\n", rung.name.c_str(), 1e3 * seconds, operations / seconds * 1e-9,
                first / seconds, before / seconds);
    before = seconds;
  }
}

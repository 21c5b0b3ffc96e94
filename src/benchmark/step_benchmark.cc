#include "benchmark/step_benchmark.h"

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/philox.h"
#include "base/stopwatch.h"
#include "benchmark/timing.h"
#include "kernels/cpu/peak.h"
#include "train/learner.h"

namespace sluice {
namespace {

constexpr int64_t kTimedSteps = 3;  // op by op, after those that are timed as a whole

template <class Key>
void divide(std::map<Key, OpTime>& times, int64_t steps) {
  for (auto& [key, time] : times) {
    time.calls /= steps;
    time.seconds /= double(steps);
  }
}

// The same product on buffers of its own, as many at once as the device asks for.
double time_alone(Backend& backend, const MatmulShape& s) {
  const int64_t a_rows = s.transpose_a ? s.K : s.M, b_rows = s.transpose_b ? s.N : s.K;
  const auto bytes = [](int64_t rows, int64_t stride, DType type) { return size_t(rows * stride) * size_of(type); };
  Arena a(backend, bytes(a_rows, s.a_stride, s.type)), b(backend, bytes(b_rows, s.b_stride, s.type)),
      out(backend, bytes(s.M, s.out_stride, s.out_type)), bias(backend, bytes(1, s.N, DType::kF32));
  const auto view = [](const Arena& arena, DType type, int64_t rows, int64_t stride, int64_t cols) {
    return arena.at(0, type, {rows, stride}).columns(0, cols);
  };
  backend.run(RandomUniform{a.at(0, s.type, {a_rows, s.a_stride}), 1, uint64_t(Stream::kBench), -1, 1});
  backend.run(RandomUniform{b.at(0, s.type, {b_rows, s.b_stride}), 2, uint64_t(Stream::kBench), -1, 1});
  const Matmul args{.out = view(out, s.out_type, s.M, s.out_stride, s.N),
                    .a = view(a, s.type, a_rows, s.a_stride, s.transpose_a ? s.M : s.K),
                    .b = view(b, s.type, b_rows, s.b_stride, s.transpose_b ? s.K : s.N),
                    .transpose_a = s.transpose_a,
                    .transpose_b = s.transpose_b,
                    .accumulate = s.accumulate,
                    .bias = s.bias ? bias.at(0, DType::kF32, {s.N}) : Tensor{}};
  return median_of_sorted(call_seconds(backend, args, 7));
}

// A product large enough to be bound by arithmetic, on a processor or on a GPU.
double measure_peak(Backend& backend, DType type) {
  const auto rate = [&](int64_t n) {
    const MatmulShape shape{
        .M = n, .N = n, .K = n, .a_stride = n, .b_stride = n, .out_stride = n, .type = type, .out_type = type};
    return shape.operations() / time_alone(backend, shape);
  };
  const double small = rate(1536);
  return small < 20e12 ? small : std::max(small, rate(8192));
}

// What bounds products of this type on a CPU: f64 and f32 multiply-adds, bf16 the fastest of what there is for it.
double register_peak(DType type) {
  const RegisterPeaks peaks = measure_register_peaks(0.2);
  if (type == DType::kF64) return 1e9 * peaks.fma / 2;
  return 1e9 * (type == DType::kBF16 ? std::max({peaks.fma, peaks.bf16_dot, peaks.tiles}) : peaks.fma);
}

// Products of T x T x D_qk a head, one forward and three backward, and of T x T x D_v, one and two; half of them
// masked where rows are causal; 2 operations a multiply-add. Where rows see w keys at most on a side, (T - w)^2 / 2
// pairs of a head are left out there. Cores other than tiles have no such products.
double attention_operations(const Transformer& model, int64_t batch) {
  const int64_t T = model.config().rows();
  double operations = 0;
  for (size_t layer = 0; layer < model.blocks().size(); ++layer) {
    const AttentionConfig& attention = model.config().attention.of(int64_t(layer));
    if (attention.core != "tiles") continue;  // which has heads
    const HeadSizes& sizes = model.blocks()[layer].attention().sizes();
    for (const int64_t reach : attention.core_options().reaches()) {
      const int64_t unseen = reach > 0 ? std::max<int64_t>(T - reach, 0) : 0;
      const int64_t sides = model.config().causal ? 1 : 2;
      operations +=
          double(sides * (T * T - unseen * unseen)) * double(4 * sizes.query_columns() + 3 * sizes.result_columns());
    }
  }
  return double(batch) * operations;
}

}  // namespace

double StepBenchmark::matmul_floor() const {
  double total = 0;
  for (const auto& [shape, time] : matmuls) total += double(time.calls) * alone.at(shape);
  return total;
}

double StepBenchmark::matmul_operations() const {
  double total = 0;
  for (const auto& [shape, time] : matmuls) total += double(time.calls) * shape.operations();
  return total;
}

StepBenchmark benchmark_step(Backend& backend, const Experiment& experiment, int64_t warmup, int64_t steps) {
  StepBenchmark result;
  TimedBackend timed(backend);
  {
    Learner learner(timed, experiment);
    learner.model().initialise(experiment.seed);
    const auto source = make_source(experiment.data, Split::kTrain, experiment.model.context,
                                    experiment.model.vocab_size, experiment.seed);
    const auto step = [&] {
      const Gradients gradients = learner.differentiate(*source, 0);
      learner.update(gradients, experiment.train.optimizer.lr);
      return gradients.loss;
    };
    for (int64_t i = 0; i < warmup; ++i) step();
    for (int64_t i = 0; i < steps; ++i) {
      const Stopwatch watch;
      step();
      result.step_seconds.push_back(watch.seconds());
    }
    timed.measure();
    step();  // what is measured one by one may run another way for the first time
    timed.measure();
    for (int64_t i = 0; i < kTimedSteps; ++i) step();
    result.parameters = learner.model().params().count();
    result.attention_operations = attention_operations(learner.model(), experiment.train.batch);
    result.tokens = learner.tokens();
    result.planned_bytes = learner.bytes();
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    result.peak_resident_bytes = size_t(usage.ru_maxrss) * 1024;
  }
  std::sort(result.step_seconds.begin(), result.step_seconds.end());
  result.ops = timed.ops();
  result.matmuls = timed.matmuls();
  divide(result.ops, kTimedSteps);
  divide(result.matmuls, kTimedSteps);
  for (const auto& [shape, time] : result.matmuls) result.alone[shape] = time_alone(backend, shape);
  result.peak = measure_peak(backend, experiment.act());
  if (backend.traits().host_memory) result.registers = register_peak(experiment.act());
  return result;
}

namespace {

std::string ops_text(const StepBenchmark& r) {
  std::vector<std::pair<double, std::string>> rows;
  double total = 0;
  for (const auto& [name, time] : r.ops) {
    rows.push_back({time.seconds, name});
    total += time.seconds;
  }
  std::sort(rows.rbegin(), rows.rend());
  std::string out = fmt::format("  by op, of {} further steps in which each op is waited for\n", kTimedSteps);
  for (const auto& [seconds, name] : rows)
    out += fmt::format("    {:<22} {:6} calls {:10.2f} ms {:6.1f}%\n", name, r.ops.at(name).calls, 1e3 * seconds,
                       100 * seconds / total);
  return out;
}

std::string matmuls_text(const StepBenchmark& r) {
  std::vector<std::pair<double, const MatmulShape*>> rows;
  for (const auto& [shape, time] : r.matmuls) rows.push_back({time.seconds, &shape});
  std::sort(rows.rbegin(), rows.rend());
  std::string out = "  by matmul (type, rows x columns x summed), in the step and alone\n";
  for (const auto& [seconds, shape] : rows) {
    const double alone = shape->operations() / r.alone.at(*shape);
    out += fmt::format("    {:<30} {:6} calls {:10.2f} ms {:6.0f} alone {:6.0f} GFLOP/s", shape->str(),
                       r.matmuls.at(*shape).calls, 1e3 * seconds,
                       1e-9 * double(r.matmuls.at(*shape).calls) * shape->operations() / seconds, 1e-9 * alone);
    out += r.registers > 0 ? fmt::format(", {:.0f}% of the registers' peak\n", 100 * alone / r.registers) : "\n";
  }
  return out;
}

}  // namespace

std::string to_text(const StepBenchmark& r, const Experiment& experiment) {
  const double step = r.median();
  std::string out = fmt::format("{}: {} parameters, {} x {} tokens, {}, micro-batch {}\n", experiment.name,
                                r.parameters, experiment.train.batch, experiment.model.context,
                                choice_name(experiment.train.precision), experiment.train.micro_batch);
  out += fmt::format("  step           {:10.1f} ms (median of {}; {:.1f} to {:.1f})\n", 1e3 * step,
                     r.step_seconds.size(), 1e3 * r.step_seconds.front(), 1e3 * r.step_seconds.back());
  out += fmt::format("  tokens/s       {:10.0f}\n", double(r.tokens) / step);
  out += fmt::format("  matmuls alone  {:10.1f} ms, {:.0f} GFLOP/s: the whole step runs at {:.0f}% of that\n",
                     1e3 * r.matmul_floor(), 1e-9 * r.matmul_operations() / r.matmul_floor(),
                     100 * r.matmul_floor() / step);
  out += fmt::format(
      "  one large matmul {:8.0f} GFLOP/s: with attention's products the step does {:.0f} GFLOP, {:.0f}% of that "
      "rate\n",
      1e-9 * r.peak, 1e-9 * r.operations(), 100 * r.operations() / step / r.peak);
  out += fmt::format("  memory         {:10.0f} MB planned, {:.0f} MB peak resident\n", 1e-6 * double(r.planned_bytes),
                     1e-6 * double(r.peak_resident_bytes));
  if (r.registers > 0)
    out += fmt::format("  registers' peak {:9.0f} GFLOP/s: the step reaches {:.0f}% of it\n", 1e-9 * r.registers,
                       100 * r.operations() / step / r.registers);
  return out + ops_text(r) + matmuls_text(r);
}

Json to_json(const StepBenchmark& r) {
  Json ops = Json::object(), matmuls = Json::array();
  for (const auto& [name, time] : r.ops) ops[name] = {{"calls", time.calls}, {"seconds", time.seconds}};
  for (const auto& [shape, time] : r.matmuls)
    matmuls.push_back({{"shape", shape.str()},
                       {"calls", time.calls},
                       {"seconds", time.seconds},
                       {"seconds_alone", double(time.calls) * r.alone.at(shape)},
                       {"gflops_alone", 1e-9 * shape.operations() / r.alone.at(shape)}});
  return {{"tokens_per_second", double(r.tokens) / r.median()},
          {"step_seconds", r.median()},
          {"matmul_floor_seconds", r.matmul_floor()},
          {"share_of_matmul_peak", r.matmul_floor() / r.median()},
          {"operations", r.operations()},
          {"peak_operations_per_second", r.peak},
          {"share_of_peak", r.operations() / r.median() / r.peak},
          {"register_peak", r.registers > 0 ? Json(r.registers) : Json()},
          {"planned_bytes", r.planned_bytes},
          {"peak_resident_bytes", r.peak_resident_bytes},
          {"ops", ops},
          {"matmuls", matmuls}};
}

}  // namespace sluice

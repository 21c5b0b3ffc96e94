#include "benchmark/op_benchmark.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/config/config.h"
#include "benchmark/timing.h"
#include "kernels/cpu/isa.h"
#include "kernels/forwarding_backend.h"
#include "kernels/types/bf16.h"
#include "train/learner.h"

namespace sluice {
namespace {

// How far devices may be apart: so many roundings in fp32 of a tensor's largest number, as in the tests of all ops.
constexpr double kAllowedRoundings = 4000;

double number_at(const std::byte* data, DType type, size_t i) {
  switch (type) {
    case DType::kF32: return reinterpret_cast<const float*>(data)[i];
    case DType::kBF16: return to_float(reinterpret_cast<const Bf16*>(data)[i]);
    case DType::kF64: return reinterpret_cast<const double*>(data)[i];
    case DType::kI32: return reinterpret_cast<const int32_t*>(data)[i];
  }
  return NAN;
}

// Copies of an op's tensors in the memory of a backend, each with its stride; those that are one stay one.
class TensorCopies {
 public:
  TensorCopies(Backend& from, Backend& to) : from_(from), to_(to) {}

  // Puts copies in the place of the op's tensors. Where `to` asks for another workspace than the op has, it gets that.
  template <class Op>
  void take(Op& op) {
    if constexpr (HasWorkspace<Op>) {
      const int64_t elements = to_.workspace<Op>(op.sizes());
      workspace_ = op.workspace.data;
      op.workspace.shape = {elements};
      op.workspace.stride = elements;
    }
    op.for_tensors([&](Tensor& tensor) {
      if (tensor) tensor.data = copy_of(tensor);
    });
  }

  double bytes() const {
    double bytes = 0;
    for (const Copy& copy : copies_) bytes += copy.original == workspace_ ? 0 : double(copy.tensor.bytes());
    return bytes;
  }

  // The largest difference from the same tensors elsewhere, as a share of what is allowed; infinite where one is finite
  // and the other is not.
  double difference(const TensorCopies& other) const {
    double most = 0;
    for (size_t i = 0; i < copies_.size(); ++i)
      if (copies_[i].original != workspace_)
        most = std::max(most, difference(copies_[i].tensor, content(i), other.content(i)));
    return most;
  }

 private:
  struct Copy {
    const void* original;
    Tensor tensor;
    Arena memory;
  };

  void* copy_of(const Tensor& tensor) {
    for (const Copy& copy : copies_)
      if (copy.original == tensor.data && copy.tensor.shape == tensor.shape) return copy.tensor.data;
    const int64_t rows = tensor.rows(), stride = std::max(tensor.stride, tensor.cols());
    const size_t element = size_of(tensor.dtype);
    Arena memory(to_, size_t(rows * stride) * element);
    const Tensor whole = memory.at(0, tensor.dtype, {rows, stride});
    if (tensor.data != workspace_) to_.upload(whole, spread(tensor, stride).data());
    Tensor copy = tensor;
    copy.data = whole.data;
    copies_.push_back({tensor.data, copy, std::move(memory)});
    return copy.data;
  }

  // In host memory, rows `stride` elements apart, with zeros between them.
  std::vector<std::byte> spread(const Tensor& tensor, int64_t stride) const {
    std::vector<std::byte> packed(tensor.bytes());
    from_.download(packed.data(), tensor);
    const size_t element = size_of(tensor.dtype), row = size_t(tensor.cols()) * element;
    std::vector<std::byte> out(size_t(tensor.rows() * stride) * element);
    for (int64_t n = 0; n < tensor.rows(); ++n)
      std::memcpy(&out[size_t(n * stride) * element], &packed[size_t(n) * row], row);
    return out;
  }

  std::vector<std::byte> content(size_t i) const {
    std::vector<std::byte> packed(copies_[i].tensor.bytes());
    to_.download(packed.data(), copies_[i].tensor);
    return packed;
  }

  static double difference(const Tensor& like, const std::vector<std::byte>& mine,
                           const std::vector<std::byte>& other) {
    double largest = 0, apart = 0;
    for (size_t i = 0; i < size_t(like.elements()); ++i) {
      const double a = number_at(mine.data(), like.dtype, i), b = number_at(other.data(), like.dtype, i);
      if (std::isfinite(a) != std::isfinite(b)) return INFINITY;
      if (!std::isfinite(a)) continue;
      largest = std::max(largest, std::fabs(b));
      apart = std::max(apart, std::fabs(a - b));
    }
    const double rounding = like.dtype == DType::kBF16 ? 0x1p-8 : like.dtype == DType::kF64 ? 0x1p-53 : 0x1p-24;
    const double arithmetic = like.dtype == DType::kF64 ? 0x1p-53 : 0x1p-24;
    const double allowed = (2 * rounding + kAllowedRoundings * arithmetic) * largest;
    return apart == 0 ? 0 : apart / allowed;
  }

  Backend& from_;
  Backend& to_;
  const void* workspace_ = nullptr;
  std::vector<Copy> copies_;
};

// Runs an op by the kernels of the first instruction set, which use nothing that not every processor has. What no
// instruction set has is run by the CPU backend.
template <class Op>
void run_plainly(Backend& cpu, const Op& op) {
  if constexpr (NotOfAnIsa<Op>) cpu.run(op);
  else available_isas().front()->run(op);
}

template <class Op>
std::string tensors_text(Op op) {
  std::string text;
  op.for_tensors([&](const Tensor& tensor) {
    if (!tensor) return;
    if constexpr (HasWorkspace<Op>)
      if (tensor.data == op.workspace.data) return;
    text += fmt::format("{}{} {}{}", text.empty() ? "" : ", ", name_of(tensor.dtype), tensor.shape.str(),
                        tensor.contiguous() ? "" : fmt::format("/{}", tensor.stride));
  });
  if constexpr (requires { op.note(); })
    if (const std::string note = op.note(); !note.empty()) text += "; " + note;
  return text;
}

// Passes a step's ops on, and times and checks those of one kind on the way.
class OpWatch final : public ForwardingBackend {
 public:
  OpWatch(Backend& inner, int place, int repeats) : ForwardingBackend(inner), place_(place), repeats_(repeats) {}

  void watch() { watching_ = true; }
  const std::vector<OpCalls>& calls() const { return calls_; }

  // Op by op: a record has no parts.
  void replay(const std::string& key, const std::function<void()>& ops) override {
    if (watching_) ops();
    else inner_.replay(key, ops);
  }

  void launch(int place, const void* fields) override {
    if (watching_ && place == place_) Ops::call(place, fields, [&](const auto& op) { look(op); });
    inner_.launch(place, fields);
  }

 private:
  template <class Op>
  void look(const Op& op) {
    const std::string tensors = tensors_text(op);
    const auto same = std::find_if(calls_.begin(), calls_.end(), [&](const auto& c) { return c.tensors == tensors; });
    if (same != calls_.end()) {
      ++same->calls;
      return;
    }
    OpCalls calls{.tensors = tensors, .calls = 1};
    calls.difference = checked(op);
    time(op, calls);
    calls_.push_back(calls);
  }

  // How far it is from the plainest kernels.
  template <class Op>
  double checked(const Op& op) {
    const std::unique_ptr<Backend> cpu = make_cpu_backend();
    Op here = op, there = op;
    TensorCopies mine(inner_, inner_), plain(inner_, *cpu);
    mine.take(here), plain.take(there);
    double numbers = 0;
    if constexpr (HasResult<Op>) {
      typename Op::Result a = inner_.run(here), b{};
      there.result = &b;
      available_isas().front()->launch(Ops::index<Op>(), &there);
      numbers = a == b ? 0 : std::fabs(a - b) / (kAllowedRoundings * 0x1p-24 * std::fabs(b));
    } else {
      inner_.run(here);
      run_plainly(*cpu, there);
    }
    inner_.synchronize();
    const double difference = std::max(numbers, mine.difference(plain));
    if (!(difference <= 1))
      throw RunError("{} is not timed: on {} it is {:.3g} times as far from the plain kernels as it may be ({})",
                     Op::kName, inner_.describe(), difference, tensors_text(op));
    return difference;
  }

  template <class Op>
  void time(const Op& op, OpCalls& calls) {
    Op copy = op;
    TensorCopies copies(inner_, inner_);
    copies.take(copy);
    calls.bytes = copies.bytes();
    calls.seconds = median_of_sorted(call_seconds(inner_, copy, repeats_));
  }

  const int place_, repeats_;
  bool watching_ = false;
  std::vector<OpCalls> calls_;
};

double measure_copy(Backend& backend) {
  constexpr int64_t kElements = int64_t{1} << 24;
  const Arena from(backend, kElements * sizeof(float)), to(backend, kElements * sizeof(float));
  const auto flat = [](const Arena& arena) { return arena.at(0, DType::kF32, {kElements}); };
  const double best = call_seconds(backend, Copy{flat(to), flat(from)}, 5).front();
  return 2.0 * double(kElements) * sizeof(float) / best;
}

int place_of(const std::string& op) {
  for (int place = 0; place < Ops::kCount; ++place)
    if (op == Ops::kNames[place]) return place;
  const std::string near = nearest(op, {std::begin(Ops::kNames), std::end(Ops::kNames)});
  throw UserError("there is no op {}{}; `sluice bench CONFIG` names those of a step", op,
                  near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
}

}  // namespace

OpBenchmark benchmark_op(Backend& backend, const Experiment& experiment, const std::string& op, int repeats) {
  OpWatch watch(backend, place_of(op), repeats);
  OpBenchmark result;
  result.op = op;
  {
    Learner learner(watch, experiment);
    learner.model().initialise(experiment.seed);
    const auto source = make_source(experiment.data, Split::kTrain, experiment.model.context,
                                    experiment.model.vocab_size, experiment.seed);
    const auto step = [&] { learner.update(learner.differentiate(*source, 0), experiment.train.optimizer.lr); };
    step();  // with moments that are not zero
    watch.watch();
    step();
  }
  result.calls = watch.calls();
  if (result.calls.empty())
    throw UserError("no step of this config runs {}; name a config that does, or say with --set what has it", op);
  result.copy_rate = measure_copy(backend);
  return result;
}

std::string to_text(const OpBenchmark& result) {
  std::string text =
      fmt::format("{}, with the tensors of a step: its results are those of the plain kernels\n", result.op);
  for (const OpCalls& calls : result.calls)
    text += fmt::format("  {} calls a step, {:.3f} ms each, {:.1f} GB/s ({:.0f}% of a copy's {:.1f}): {}\n",
                        calls.calls, 1e3 * calls.seconds, calls.bytes / calls.seconds * 1e-9,
                        100 * calls.bytes / calls.seconds / result.copy_rate, result.copy_rate * 1e-9, calls.tensors);
  return text;
}

Json to_json(const OpBenchmark& result) {
  Json calls = Json::array();
  for (const OpCalls& one : result.calls)
    calls.push_back({{"tensors", one.tensors},
                     {"calls", one.calls},
                     {"seconds", one.seconds},
                     {"bytes", one.bytes},
                     {"difference", one.difference}});
  return {{"op", result.op}, {"copy_bytes_per_second", result.copy_rate}, {"calls", calls}};
}

}  // namespace sluice

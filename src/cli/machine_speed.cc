// Measured peaks: what one large product and a plain copy reach, so that a run can be compared with them.
#include <dnnl.hpp>

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>

#include "base/philox.h"
#include "base/stopwatch.h"
#include "cli/machine.h"
#include "kernels/arena.h"

namespace sluice {
namespace {

// The shortest call of `work` among those that fit into `seconds`, after one that warms up.
double best_seconds(const std::function<void()>& work, double seconds) {
  work();
  double best = 1e30, spent = 0;
  while (spent < seconds) {
    const Stopwatch watch;
    work();
    const double took = watch.seconds();
    best = std::min(best, took), spent += took;
  }
  return best;
}

// GB/s read plus written, each thread copying its own part.
double copy_rate(double seconds) {
  constexpr int64_t kBytes = int64_t{192} << 20;
  const auto from = std::make_unique<char[]>(kBytes), to = std::make_unique<char[]>(kBytes);
  const auto call = [&] {
#pragma omp parallel
    {
      const int64_t part = kBytes / omp_get_num_threads(), begin = part * omp_get_thread_num();
      std::memcpy(to.get() + begin, from.get() + begin, size_t(part));
    }
  };
  return 2.0 * double(kBytes) / best_seconds(call, seconds) * 1e-9;
}

// GFLOP/s of a product of square matrices of random numbers, large enough to be bound by arithmetic.
double matmul_rate(Backend& backend, int64_t size, DType type, double seconds) {
  const size_t bytes = size_t(size * size) * size_of(type);
  const Arena a(backend, bytes), b(backend, bytes), out(backend, bytes);
  const auto whole = [&](const Arena& arena) { return arena.at(0, type, {size, size}); };
  for (const Arena* operand : {&a, &b}) backend.run(RandomUniform{whole(*operand), 1, uint64_t(Stream::kBench), -1, 1});
  const auto call = [&] {
    backend.run(Matmul{.out = whole(out), .a = whole(a), .b = whole(b)});
    backend.synchronize();
  };
  return 2.0 * double(size * size * size) / best_seconds(call, seconds) * 1e-9;
}

double device_copy_rate(Backend& backend, double seconds) {
  constexpr int64_t kElements = int64_t{1} << 28;  // 1 GiB each, more than any cache
  const Arena from(backend, kElements * 4), to(backend, kElements * 4);
  const auto call = [&] {
    backend.run(Copy{to.at(0, DType::kF32, {kElements}), from.at(0, DType::kF32, {kElements})});
    backend.synchronize();
  };
  return 2.0 * 4 * double(kElements) / best_seconds(call, seconds) * 1e-9;
}

}  // namespace

MachineSpeed measure_device(Backend& backend, double seconds) {
  MachineSpeed speed;
  constexpr int64_t kSize = 8192;
  speed.f32_matmul = matmul_rate(backend, kSize, DType::kF32, seconds);
  speed.bf16_matmul = matmul_rate(backend, kSize, DType::kBF16, seconds);
  speed.copy = device_copy_rate(backend, seconds);
  return speed;
}

MachineSpeed measure_machine(double seconds) {
  MachineSpeed speed;
  constexpr int64_t kSize = 1536;
  const std::unique_ptr<Backend> backend = make_cpu_backend();
  speed.peaks = measure_register_peaks(seconds);
  speed.f32_matmul = matmul_rate(*backend, kSize, DType::kF32, seconds);
  speed.bf16_matmul = matmul_rate(*backend, kSize, DType::kBF16, seconds);
  speed.copy = copy_rate(seconds);
  return speed;
}

std::string onednn_instruction_set() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41: return "SSE4.1";
    case dnnl::cpu_isa::avx: return "AVX";
    case dnnl::cpu_isa::avx2: return "AVX2";
    case dnnl::cpu_isa::avx2_vnni: return "AVX2 with VNNI";
    case dnnl::cpu_isa::avx512_core: return "AVX-512";
    case dnnl::cpu_isa::avx512_core_vnni: return "AVX-512 with VNNI";
    case dnnl::cpu_isa::avx512_core_bf16: return "AVX-512 with bf16";
    case dnnl::cpu_isa::avx512_core_amx: return "AVX-512 with AMX";
    default: return fmt::format("code {:#x}", int(dnnl::get_effective_cpu_isa()));
  }
}

}  // namespace sluice

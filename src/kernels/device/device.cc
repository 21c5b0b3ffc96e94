#include "kernels/device/device.h"

#include <fmt/format.h>

#include "base/error.h"
#if SLUICE_WITH_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace sluice {
namespace {

#if SLUICE_WITH_CUDA

std::string why_no_cuda(int index) { return cuda_unavailable_reason(index); }
std::unique_ptr<Backend> make_gpu(int index, bool cudnn) { return make_cuda_backend(index, cudnn); }
std::string why_no_cudnn() { return cudnn_attention_unavailable_reason(); }

#else

std::string why_no_cuda(int) { return "this build has no CUDA: build it with cmake --preset cuda"; }
std::unique_ptr<Backend> make_gpu(int, bool) { return nullptr; }
std::string why_no_cudnn() { return why_no_cuda(0); }

#endif

}  // namespace

std::unique_ptr<Backend> make_backend(const std::string& device, int index, const std::string& attention) {
  const bool cudnn = attention == "cudnn";
  const std::string reason = device == "cpu" ? "device is cpu" : why_no_cuda(index);
  if (device == "cuda" && !reason.empty()) throw UserError("device is cuda, but {}", reason);
  if (cudnn)
    if (const std::string missing = reason.empty() ? why_no_cudnn() : reason; !missing.empty())
      throw UserError("train.attention_backend is cudnn, but {}", missing);
  return reason.empty() ? make_gpu(index, cudnn) : make_cpu_backend();
}

std::string cudnn_unavailable_reason() { return why_no_cudnn(); }

std::string gpu_unavailable_reason() { return why_no_cuda(0); }

std::vector<std::string> gpu_descriptions() {
  std::vector<std::string> lines;
#if SLUICE_WITH_CUDA
  for (const CudaDevice& device : cuda_devices()) {
    std::string line =
        fmt::format("{}, compute capability {}.{}, {} multiprocessors, {:.1f} GiB", device.name, device.major,
                    device.minor, device.multiprocessors, double(device.memory_bytes) / (1 << 30));
    if (device.bandwidth > 0) line += fmt::format(", {:.0f} GB/s", 1e-9 * device.bandwidth);
    lines.push_back(line + fmt::format("; CUDA driver {}, runtime {}", device.driver, device.runtime));
  }
#endif
  return lines;
}

}  // namespace sluice

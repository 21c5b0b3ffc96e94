#include "kernels/device.h"

#include "base/error.h"
#if SLUICE_WITH_CUDA
#include "kernels/cuda/cuda_backend.h"
#endif

namespace sluice {
namespace {

#if SLUICE_WITH_CUDA
std::string why_no_cuda(int index) { return cuda_unavailable_reason(index); }
std::unique_ptr<Backend> make_gpu(int index) { return make_cuda_backend(index); }
#else
std::string why_no_cuda(int) { return "this build has no CUDA: build it with cmake --preset cuda"; }
std::unique_ptr<Backend> make_gpu(int) { return nullptr; }
#endif

}  // namespace

std::unique_ptr<Backend> make_backend(const std::string& device, int index) {
  if (device == "cpu") return make_cpu_backend();
  const std::string reason = why_no_cuda(index);
  if (reason.empty()) return make_gpu(index);
  if (device == "cuda") throw UserError("device is cuda, but {}", reason);
  return make_cpu_backend();
}

}  // namespace sluice

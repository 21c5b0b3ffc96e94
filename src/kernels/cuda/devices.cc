// Why a device cannot be used, and the list of devices (cuda_backend.h).
#include "base/error.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/runtime/runtime.h"

namespace sluice {
namespace {

std::string version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

int driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}
int runtime_version() {
  int version = 0;
  return cudaRuntimeGetVersion(&version) == cudaSuccess ? version : 0;
}

// Why no device at all can be used. CUDA gives one error for a missing driver and for one that is too old.
std::string no_devices_reason(cudaError_t error) {
  const int driver = driver_version(), runtime = runtime_version();
  if (driver == 0) return "this machine has no NVIDIA driver that is loaded";
  if (error == cudaErrorInsufficientDriver)
    return fmt::format("the NVIDIA driver goes up to CUDA {}, this build needs {}: update the driver",
                       version_text(driver), version_text(runtime));
  if (error == cudaErrorNoDevice) return "this process sees no NVIDIA GPU (CUDA_VISIBLE_DEVICES may hide them)";
  return fmt::format("CUDA does not start: {}", cudaGetErrorString(error));
}

// Why the device, which exists, cannot be used.
std::string unusable_reason(int device, const cudaDeviceProp& properties) {
  const std::string gpu =
      fmt::format("GPU {} ({}, compute capability {}.{})", device, properties.name, properties.major, properties.minor);
  if (properties.major < 8) return gpu + " is too old: 8.0 (Ampere) or later is needed";
  if (const cudaError_t error = cudaSetDevice(device); error != cudaSuccess)
    return fmt::format("{} cannot be opened: {}", gpu, cudaGetErrorString(error));
  const cudaError_t error = cuda::kernel_image_status();
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction)
    return fmt::format("this build has no code for {}: configure it with -DCMAKE_CUDA_ARCHITECTURES={}{}-real", gpu,
                       properties.major, properties.minor);
  if (error != cudaSuccess) return fmt::format("{} cannot be used: {}", gpu, cudaGetErrorString(error));
  return "";
}

CudaDevice facts_of(int device) {
  cudaDeviceProp properties;
  cuda::check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  CudaDevice out;
  out.name = properties.name;
  out.major = properties.major;
  out.minor = properties.minor;
  out.multiprocessors = properties.multiProcessorCount;
  out.memory_bytes = properties.totalGlobalMem;
  int kilohertz = 0, bits = 0;
  if (cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, device) == cudaSuccess &&
      cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device) == cudaSuccess)
    out.bandwidth = 2e3 * double(kilohertz) * double(bits) / 8;  // two transfers a clock
  (void)cudaGetLastError();  // a virtual GPU may not say; that is no failure of the next launch
  out.driver = version_text(driver_version());
  out.runtime = version_text(runtime_version());
  return out;
}

}  // namespace

std::string cuda_unavailable_reason(int device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return no_devices_reason(error);
  if (count == 0) return no_devices_reason(cudaErrorNoDevice);
  if (device < 0 || device >= count) return fmt::format("there is no GPU {}, this process sees {}", device, count);
  cudaDeviceProp properties;
  const cudaError_t asked = cudaGetDeviceProperties(&properties, device);
  if (asked != cudaSuccess) return fmt::format("GPU {} does not answer: {}", device, cudaGetErrorString(asked));
  return unusable_reason(device, properties);
}

std::vector<CudaDevice> cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<CudaDevice> out;
  for (int device = 0; device < count; ++device) out.push_back(facts_of(device));
  return out;
}

}  // namespace sluice

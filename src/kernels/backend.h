// Backend: a device that runs the ops of ops.h. CpuBackend and CudaBackend implement it.
//
// Ops are asynchronous on a device: `synchronize` before reading, which downloads and ops with a result do themselves.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "kernels/ops.h"

namespace sluice {

// What those above may know about a device, instead of which one it is.
struct BackendTraits {
  bool host_memory = true;  // tensors lie in the host's memory and ops run at once: it may read and write them itself
  int64_t chunk_bytes = int64_t{64} << 20;  // of logits at a time: what stays in cache, or on a GPU costs few passes
  bool gapless_bf16 = false;                // bf16 products are fast with no gaps between rows alone
  int launches_to_time = 1;                 // so many at once, where waiting for one takes as long as a small op
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Checks the op and runs it; returns its result, if it has one.
  template <class Op>
  auto run(const Op& op) {
    op.check();
    if constexpr (HasWorkspace<Op>) check_workspace(Op::kName, op.workspace, workspace<Op>(op.sizes()));
    return launched(op, [this](int place, const void* fields) { launch(place, fields); });
  }
  // How many f32 elements the op's workspace must have.
  template <class Op>
  int64_t workspace(const typename Op::Sizes& sizes) const {
    return workspace_of(Ops::index<Op>(), &sizes);
  }

  // --- the device
  virtual std::string describe() const = 0;
  virtual BackendTraits traits() const = 0;
  virtual void* allocate(size_t bytes) = 0;  // 64-byte aligned, zeroed
  virtual void release(void* data) = 0;
  virtual size_t allocated_bytes() const = 0;                   // asked for and not yet released
  virtual void upload(const Tensor& to, const void* from) = 0;  // contiguous; host memory
  virtual void download(void* to, const Tensor& from) = 0;      // strided, arrives packed; synchronises
  virtual void synchronize() = 0;
  // Runs `ops`. Whoever calls again with the same key promises the same ops on the same tensors: a device may record
  // them the first time and replay the record. Inside, nothing is uploaded, downloaded, allocated or read on the host.
  virtual void replay(const std::string& key, const std::function<void()>& ops) = 0;
  // For NCCL, which puts work of its own between ops: the queue of these, a cudaStream_t, or null.
  virtual void* stream() const { return nullptr; }

  // --- the ops, by their place in the list, for backends that stand before others; run() is for all else
  virtual void launch(int place, const void* fields) = 0;
  virtual int64_t workspace_of(int place, const void* sizes) const = 0;

 protected:
  static void check_upload(const Tensor& to);
  static void check_workspace(const char* op, const Tensor& workspace, int64_t needed);
};

std::unique_ptr<Backend> make_cpu_backend();

}  // namespace sluice

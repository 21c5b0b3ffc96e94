// CpuBackend: the kernels of the chosen instruction set (isa.h), but for overloads of `on` here: the choice of
// who computes a Matmul (matmul.h), and what no instruction set has. Everything is synchronous. Private to kernels/cpu:
// use make_cpu_backend() of backend.h.
#pragma once

#include <unordered_map>

#include "kernels/backend.h"
#include "kernels/cpu/isa.h"

namespace sluice {

// How many f32 elements of workspace the kernels of an op want: a specialisation for each kind of sizes.
template <class Sizes>
int64_t cpu_workspace(const Sizes& sizes);

class CpuBackend : public Backend {
 public:
  CpuBackend() : isa_(isa_kernels()) {}

  std::string describe() const override;
  BackendTraits traits() const override;
  void* allocate(size_t bytes) override;
  void release(void* data) override;
  size_t allocated_bytes() const override { return allocated_; }
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override {}
  void replay(const std::string&, const std::function<void()>& ops) override { ops(); }

  void launch(int place, const void* fields) override;
  int64_t workspace_of(int place, const void* sizes) const override;

 private:
  void on(const Fill& op);
  void on(const RandomUniform& op);
  void on(const RandomNormal& op);
  void on(const Matmul& op);
  void on(const HeadMatmul& op);
  template <class Op>
  void on(const Op& op) {
    isa_.launch(Ops::index<Op>(), &op);
  }

  const IsaKernels& isa_;
  std::unordered_map<void*, size_t> sizes_;  // of what allocate() gave
  size_t allocated_ = 0;
};

}  // namespace sluice

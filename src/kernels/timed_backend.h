// A backend that times another one's operations: calls and seconds by op, and every matmul's shape.
//
// Until measure() it passes everything through. From then on each op is followed by synchronize(), so that on a device
// the time is the op's own. Ops go by their names in the list. Used by `sluice bench`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace sluice {

struct OpTime {
  int64_t calls = 0;
  double seconds = 0;
};

// One shape of matrix product, as often as it was run.
struct MatmulShape {
  int64_t M = 0, N = 0, K = 0;
  int64_t a_stride = 0, b_stride = 0, out_stride = 0;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false;
  DType type = DType::kF32, out_type = DType::kF32;
  auto operator<=>(const MatmulShape&) const = default;
  double operations() const { return 2.0 * double(M) * double(N) * double(K); }
  std::string str() const;
};

class TimedBackend final : public Backend {
 public:
  explicit TimedBackend(Backend& inner) : inner_(inner) {}

  const std::map<std::string, OpTime>& ops() const { return ops_; }
  const std::map<MatmulShape, OpTime>& matmuls() const { return matmuls_; }
  void measure() {  // again: from the beginning
    measuring_ = true;
    ops_.clear();
    matmuls_.clear();
  }

  std::string describe() const override { return inner_.describe(); }
  BackendTraits traits() const override { return inner_.traits(); }
  void* allocate(size_t bytes) override { return inner_.allocate(bytes); }
  void release(void* data) override { inner_.release(data); }
  size_t allocated_bytes() const override { return inner_.allocated_bytes(); }
  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void synchronize() override { inner_.synchronize(); }
  void* stream() const override { return inner_.stream(); }
  void replay(const std::string& key, const std::function<void()>& ops) override;
  void launch(int place, const void* fields) override;
  int64_t workspace_of(int place, const void* sizes) const override { return inner_.workspace_of(place, sizes); }

 private:
  double timed(const char* name, const std::function<void()>& work);
  void timed_product(const char* name, const Matmul& product, int64_t count, const std::function<void()>& work);

  Backend& inner_;
  bool measuring_ = false;
  std::map<std::string, OpTime> ops_;
  std::map<MatmulShape, OpTime> matmuls_;
};

}  // namespace sluice

// A backend that times another one's operations: calls and seconds by op, and every matmul's shape.
//
// Until measure() it passes everything through. From then on each op is followed by synchronize(), so that on a device
// the time is the op's own. Ops go by their names in the list. Used by `sluice bench`.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kernels/forwarding_backend.h"

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

class TimedBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;

  const std::map<std::string, OpTime>& ops() const { return ops_; }
  const std::map<MatmulShape, OpTime>& matmuls() const { return matmuls_; }
  void measure() {  // again: from the beginning
    measuring_ = true;
    ops_.clear();
    matmuls_.clear();
  }

  void upload(const Tensor& to, const void* from) override;
  void download(void* to, const Tensor& from) override;
  void replay(const std::string& key, const std::function<void()>& ops) override;
  void launch(int place, const void* fields) override;

 private:
  double timed(const char* name, const std::function<void()>& work);
  void timed_product(const char* name, const Matmul& product, int64_t count, const std::function<void()>& work);

  bool measuring_ = false;
  std::map<std::string, OpTime> ops_;
  std::map<MatmulShape, OpTime> matmuls_;
};

}  // namespace sluice

// The checks of one op's fields against what its header states: types, shapes, strides, absent tensors. A mismatch is a
// bug in the caller: std::logic_error that names the op and the tensor and prints what it is and what it should be.
#pragma once

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/types/tensor.h"

namespace sluice {

enum class Layout { kContiguous, kStrided };
enum class Presence { kRequired, kOptional };

constexpr Presence required_if(bool present) { return present ? Presence::kRequired : Presence::kOptional; }

class OpCheck {
 public:
  explicit OpCheck(const char* name) : name_(name) {}

  void require(bool ok, const char* what) const {
    if (!ok) throw std::logic_error(fmt::format("{}: {}", name_, what));
  }

  // The activations' type: that of `tensor`.
  DType activation_type(const char* what, const Tensor& tensor) const;
  void matrix(const char* what, const Tensor& t, DType type, int64_t rows, int64_t cols,
              Layout layout = Layout::kStrided, Presence presence = Presence::kRequired) const;
  void flat(const char* what, const Tensor& t, DType type, int64_t elements,
            Presence presence = Presence::kRequired) const;
  void absent(const char* what, const Tensor& t, const char* why) const;
  void require_present(const char* what, const Tensor& t) const;
  // Of what a kernel follows out of a table of `limit` entries; `indices` are in the host's memory.
  void indices(const char* what, const Tensor& indices, int64_t limit, bool negative_allowed) const;
  // That first keys, in the host's memory or absent, say where documents begin in sequences of T rows: a row's is
  // itself, or that of the row before.
  void documents(const Tensor& first_key, int64_t T) const;
  [[noreturn]] void fail(const char* what, const Tensor& t, const std::string& expected) const;

 private:
  const char* name_;
};

}  // namespace sluice

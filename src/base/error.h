// Errors that carry values.
//
// UserError: the input is wrong (config, file, argument). One sentence: what, where, the limit, the key that
//            sets it. The process exits with code 2.
// RunError:  the run failed although the input was fine (a diverged loss, a full disk). Exit code 1.
// check_*:   internal invariants; a failure is a bug and prints both values.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace sluice {

class UserError : public std::runtime_error {
 public:
  template <class... Args>
  explicit UserError(fmt::format_string<Args...> text, Args&&... args)
      : std::runtime_error(fmt::format(text, std::forward<Args>(args)...)) {}
};

class RunError : public std::runtime_error {
 public:
  template <class... Args>
  explicit RunError(fmt::format_string<Args...> text, Args&&... args)
      : std::runtime_error(fmt::format(text, std::forward<Args>(args)...)) {}
};

template <class A, class B>
void check_eq(const A& a, const B& b, const char* what) {
  if (!(a == b)) throw std::logic_error(fmt::format("{}: {} is not {}", what, a, b));
}

template <class A, class B>
void check_le(const A& a, const B& b, const char* what) {
  if (!(a <= b)) throw std::logic_error(fmt::format("{}: {} exceeds {}", what, a, b));
}

inline void check(bool ok, const char* what) {
  if (!ok) throw std::logic_error(what);
}

}  // namespace sluice

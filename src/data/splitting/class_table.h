// Classes of characters from a generated table (scripts/make_unicode_table.py).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace sluice {

template <class Class>
class ClassTable {
 public:
  // Each entry begins a range that lasts until the next: first character * 4 + class. The entries must outlive it.
  template <size_t kCount>
  constexpr explicit ClassTable(const uint32_t (&ranges)[kCount]) : begin_(ranges), end_(ranges + kCount) {
    for (char32_t character = 0; character < ascii_.size(); ++character) ascii_[character] = look_up(character);
  }
  constexpr Class operator[](char32_t character) const {
    return character < ascii_.size() ? ascii_[character] : look_up(character);
  }

 private:
  constexpr Class look_up(char32_t character) const {
    return Class(std::upper_bound(begin_, end_, uint32_t(character) * 4 + 3)[-1] & 3);
  }

  const uint32_t *begin_, *end_;
  std::array<Class, 128> ascii_{};
};

}  // namespace sluice

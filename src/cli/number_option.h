// Numbers on the command line: each option's own limits, and what is no number ("nan", "1e9" for an integer, "-1" for a
// seed) told in one sentence. CLI11's own ranges let nan pass and read -1 as 2^64 - 1.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>
#include <type_traits>

#include <fmt/format.h>

namespace sluice {

// The number that `text` is as a whole; false if it is none, none that T holds, or not finite.
template <class T>
bool read_number(const std::string& text, T& value) {
  const char* const end = text.data() + text.size();
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto read = std::from_chars(begin, end, value);
  if (read.ec != std::errc() || read.ptr != end || begin == end) return false;
  if constexpr (std::is_floating_point_v<T>) return std::isfinite(value);
  return true;
}

// To be given to CLI::Option::check. An integer option takes an integer type, a double option double.
template <class T>
CLI::Validator between(T least, T most = std::numeric_limits<T>::max()) {
  const bool bounded = most < std::numeric_limits<T>::max();
  const std::string kind = std::is_floating_point_v<T> ? "a number" : "an integer";
  const std::string limits =
      bounded ? fmt::format("{} from {} to {}", kind, least, most) : fmt::format("{} of at least {}", kind, least);
  const auto complaint = [=](std::string& text) -> std::string {
    T value{};
    if (read_number(text, value) && value >= least && value <= most) return "";
    return fmt::format("must be {}, got \"{:.40}\"", limits, text);
  };
  return CLI::Validator(complaint, fmt::format("{} in [{} - {}]", std::is_floating_point_v<T> ? "FLOAT" : "INT", least,
                                               bounded ? fmt::format("{}", most) : "..."));
}

// Any seed: 0 to 2^64 - 1.
inline CLI::Validator any_seed() { return between<uint64_t>(0); }

}  // namespace sluice

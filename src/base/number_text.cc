// Rounding to digits, and the spellings of it (number_text.h).
#include "base/number_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sluice {
namespace {

int exponent_of(double value) { return int(std::floor(std::log10(std::fabs(value)))); }

bool needs_exponent(double value) { return value != 0 && (std::fabs(value) < 1e-3 || std::fabs(value) >= 1e6); }

}  // namespace

double rounded(double value, int digits) {
  if (value == 0 || !std::isfinite(value)) return value;
  const double unit = std::pow(10.0, digits - 1 - std::floor(std::log10(std::fabs(value))));
  return std::isfinite(unit) && unit > 0 ? std::round(value * unit) / unit : value;
}

std::string format_significant(double value, int digits) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  if (value == 0) return "0";
  if (needs_exponent(value)) {
    std::string text = fmt::format("{:.{}e}", value, digits - 1);
    const size_t e = text.find('e');
    return fmt::format("{}e{}", text.substr(0, e), std::stoi(text.substr(e + 1)));
  }
  return fmt::format("{:.{}f}", value, std::max(0, digits - 1 - exponent_of(value)));
}

std::string format_count(double value) {
  if (!std::isfinite(value)) return fmt::format("{}", value);
  std::string text = fmt::format("{:.0f}", value);
  for (ptrdiff_t at = ptrdiff_t(text.size()) - 3; at > (text[0] == '-' ? 1 : 0); at -= 3) text.insert(size_t(at), ",");
  return text;
}

std::string format_with_deviation(double mean, double deviation, int digits) {
  if (digits == 0 && deviation == 0) return format_count(mean);
  if (digits == 0) return fmt::format("{} ± {}", format_count(mean), format_count(deviation));
  if (!std::isfinite(mean + deviation) || needs_exponent(mean) || (mean == 0 && needs_exponent(deviation)))
    return fmt::format("{} ± {}", format_significant(mean, digits), format_significant(deviation, 2));
  // Two digits of the deviation, but no more than one beyond those of the mean itself.
  const int most = mean == 0 ? digits : std::max(0, digits - exponent_of(mean));
  const int decimals = deviation == 0 ? std::max(0, most - 1) : std::clamp(1 - exponent_of(deviation), 0, most);
  return fmt::format("{:.{}f} ± {:.{}f}", mean, decimals, deviation, decimals);
}

}  // namespace sluice

// Numbers as people read them.
#pragma once

#include <string>

namespace sluice {

// To so many significant digits.
double rounded(double value, int digits);

// 4 digits: 2.232, 140.7, 0.07512, 7.512e-5, 0, nan.
std::string format_significant(double value, int digits);
std::string format_count(double value);  // 814,080
// "2.2320 ± 0.0011": two digits of the deviation; with `digits` 0 both are counts.
std::string format_with_deviation(double mean, double deviation, int digits);

}  // namespace sluice

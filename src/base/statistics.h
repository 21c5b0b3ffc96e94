// Small statistics on the host, in double precision.
#pragma once

#include <cstdint>
#include <span>

namespace sluice {

struct Mean {
  double sum = 0;
  int64_t count = 0;
  void add(double x) { sum += x, ++count; }
  double value() const { return count ? sum / double(count) : 0.0; }
};

// A quantity at one position and elsewhere.
struct SinkAndRest {
  Mean sink, rest;
  void add(bool at_sink, double x) { (at_sink ? sink : rest).add(x); }
  double ratio() const { return sink.value() / rest.value(); }
};

// Of all elements of a tensor, whatever its shape.
struct ElementStatistics {
  double infinity_norm = 0;  // the largest |x|
  double kurtosis = 0;       // E[(x - mean)^4] / E[(x - mean)^2]^2: 3 for a normal distribution
  int64_t largest = 0;       // where the largest |x| is
};
ElementStatistics element_statistics(std::span<const float> x);

// The median of |x|: the mean of the middle two for an even number. NaN if an x is.
double median_magnitude(std::span<const float> x);

double norm(std::span<const float> x);

}  // namespace sluice

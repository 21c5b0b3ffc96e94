// Where the grids of simulated quantization lie (arXiv 2306.12929, section 2): uniform ones of 2^bits points, symmetric
// about 0 for weights, and for inputs from the least to the greatest value, 0 among the points.
//
//   weights  scale = m / (2^(bits-1) - 1), integers -2^(bits-1) .. 2^(bits-1) - 1, m the largest |w|, or that of a
//   hundred
//            fractions of it whose grid has the least squared error
//   inputs   scale = (high - low) / (2^bits - 1) with low <= 0 <= high, zero point round(-low / scale)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace sluice {

struct Range {
  double least = 0, greatest = 0;
  bool operator==(const Range&) const = default;
};

// The points scale * i for the integers low <= i <= high.
struct Grid {
  double scale = 1, low = 0, high = 0;
  int64_t zero_point() const { return int64_t(-low); }  // of the unsigned integers 0 .. high - low
  Range ends() const { return {scale * low, scale * high}; }
};

Grid symmetric_grid(double largest, int bits);
Grid asymmetric_grid(const Range& range, int bits);

// What putting values on a grid does to them.
struct GridError {
  double error = 0, signal = 0;    // sums of squares: of the differences, of the values
  int64_t clipped = 0, count = 0;  // values beyond the last points by more than half a step; all
  void add(const GridError& other);
  double clipped_share() const { return count ? double(clipped) / double(count) : 0; }
  double relative() const;  // the root of error / signal
};
// The same for any number of threads.
GridError grid_error(std::span<const float> x, const Grid& grid);

// largest * k / 100 of that k = 1 .. 100 whose symmetric grid has the least squared error; of equals the greatest.
double best_largest(std::span<const float> x, double largest, int bits);

// range = momentum * range + (1 - momentum) * batch, beginning with the first batch.
class RunningRange {
 public:
  explicit RunningRange(double momentum) : momentum_(momentum) {}
  void add(const Range& batch);
  const Range& range() const { return range_; }

 private:
  double momentum_;
  Range range_;
  bool any_ = false;
};

// The values below which `percent` and 100 - `percent` of `count` values lie, interpolated between neighbours. It keeps
// these ends of the distribution alone, 2 (1 - percent / 100) `count` values, or twice that for a moment.
class PercentileRange {
 public:
  PercentileRange(double percent, int64_t count);
  void add(std::span<const float> values);
  Range range() const;  // after all `count` were added

 private:
  struct Tail {
    float sign;                 // -1: the values' negatives are kept
    std::vector<float> values;  // the greatest so far, in any order
    float least;                // what a value must exceed
    double interpolated(size_t kept, double fraction) const;
  };
  void trim(Tail& tail) const;

  int64_t count_, seen_ = 0;
  size_t kept_;  // of each tail
  double fraction_;
  Tail high_, low_;
};

}  // namespace sluice

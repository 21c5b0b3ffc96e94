// Random numbers by position, in blocks of four that threads share out (random.h).
#include "kernels/cpu/random.h"

#include <algorithm>

#include "base/philox.h"
#include "kernels/types/bf16.h"

namespace sluice {
namespace {

constexpr int64_t kSpan = 4096;  // elements of one piece of work; whole blocks of four

void put(const Tensor& out, int64_t i, double value) {
  const int64_t at = i / out.cols() * out.stride + i % out.cols();
  switch (out.dtype) {
    case DType::kF32: out.as<float>()[at] = float(value); break;
    case DType::kBF16: out.as<Bf16>()[at] = to_bf16(float(value)); break;
    case DType::kF64: out.as<double>()[at] = value; break;
    case DType::kI32: out.as<int32_t>()[at] = int32_t(value); break;
  }
}

// body(first, end) over the elements, threaded.
template <class Body>
void for_elements(int64_t n, Body body) {
#pragma omp parallel for schedule(static) if (n > kSpan)
  for (int64_t first = 0; first < n; first += kSpan) body(first, std::min(n, first + kSpan));
}

// Element i becomes value(words of its block of four, i % 4).
template <class Value>
void fill_random(const Tensor& out, uint64_t seed, uint64_t stream, Value value) {
  for_elements(out.elements(), [&](int64_t first, int64_t end) {
    for (int64_t block = first; block < end; block += 4) {
      const Random4 words = philox(seed, stream, uint64_t(block / 4));
      for (int64_t i = block; i < std::min(end, block + 4); ++i) put(out, i, value(words, int(i - block)));
    }
  });
}

}  // namespace

void cpu_fill(const Tensor& out, double value) {
  for_elements(out.elements(), [&](int64_t first, int64_t end) {
    for (int64_t i = first; i < end; ++i) put(out, i, value);
  });
}

void cpu_random_uniform(const Tensor& out, uint64_t seed, uint64_t stream, double low, double high) {
  fill_random(out, seed, stream, [=](const Random4& words, int which) {
    return low + (high - low) * double(uniform24(words.word[which]));
  });
}

void cpu_random_normal(const Tensor& out, uint64_t seed, uint64_t stream, double mean, double deviation) {
  fill_random(out, seed, stream, [=](const Random4& words, int which) {
    const int pair = which / 2 * 2;
    return mean + deviation * double(normal_from(words.word[pair], words.word[pair + 1], which % 2));
  });
}

}  // namespace sluice

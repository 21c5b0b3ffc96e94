// Rows by their numbers: a copy each.
#include "kernels/ops/stages/gather_rows.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {

template <>
void on(const GatherRows& op) {
  const int64_t rows = op.out.rows() / op.sequences, from = op.x.rows() / op.sequences;
  const int32_t* index = static_cast<const int32_t*>(op.index.data);
  const size_t size = size_of(op.x.dtype), bytes = size_t(op.x.cols()) * size;
  for_rows(op.out.rows(), op.x.cols(), [&](int64_t n) {
    char* const to = static_cast<char*>(op.out.data) + size_t(n * op.out.stride) * size;
    if (index[n] < 0) {
      std::memset(to, 0, bytes);
      return;
    }
    const int64_t source = n / rows * from + index[n];
    std::memcpy(to, static_cast<const char*>(op.x.data) + size_t(source * op.x.stride) * size, bytes);
  });
}

}  // namespace sluice::SLUICE_ISA

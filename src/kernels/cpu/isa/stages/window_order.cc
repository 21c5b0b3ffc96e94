// The order of rows in a permutation's slots: a walk over the slots, which is the same for all sequences, and for every
// row one over its window.
#include "kernels/ops/stages/window_order.h"

#include "kernels/cpu/isa/rows.h"

namespace sluice::SLUICE_ISA {
namespace {

// One sequence's part of each plane.
struct Planes {
  int32_t *place, *first, *begin, *end, *length, *row, *slot;
  SLUICE_INLINE Planes(const Tensor& order, int64_t T, int64_t b) {
    const int64_t N = order.elements() / kOrderPlanes;
    const auto at = [&](OrderPlane plane) { return static_cast<int32_t*>(order.data) + int64_t(plane) * N + b * T; };
    place = at(OrderPlane::kPlace), first = at(OrderPlane::kFirst), begin = at(OrderPlane::kBegin);
    end = at(OrderPlane::kEnd), length = at(OrderPlane::kLength), row = at(OrderPlane::kRow);
    slot = at(OrderPlane::kSlot);
  }
};

SLUICE_INLINE void fill_slots(const WindowOrder& op, const Planes& to) {
  int64_t row = 0;
  for (uint64_t slot = 0; slot < op.permutation.size; ++slot) {
    const int64_t place = int64_t(op.permutation(slot));
    if (place >= op.T) continue;
    to.place[row] = int32_t(place);
    to.row[place] = int32_t(row++);
    to.slot[place] = int32_t(slot);
  }
  int64_t begin = 0, end = 0;
  for (int64_t i = 0; i < op.T; ++i) {
    const int64_t slot = to.slot[to.place[i]];
    while (to.slot[to.place[begin]] + op.reach <= slot) ++begin;
    while (end < op.T && to.slot[to.place[end]] < slot + op.reach) ++end;
    to.begin[i] = int32_t(begin);
    to.end[i] = int32_t(end);
  }
}

SLUICE_INLINE void copy_slots(const Planes& from, const Planes& to, int64_t T) {
  for (const auto plane : {&Planes::place, &Planes::begin, &Planes::end, &Planes::row, &Planes::slot})
    std::memcpy(to.*plane, from.*plane, size_t(T) * sizeof(int32_t));
}

SLUICE_INLINE void fill_row(const Planes& planes, const int32_t* first_key, int64_t i) {
  const int32_t place = planes.place[i], first = first_key ? first_key[place] : 0;
  int32_t length = 0;
  for (int64_t j = planes.begin[i]; j < planes.end[i]; ++j)
    length += int32_t(planes.place[j] <= place) & int32_t(planes.place[j] >= first);
  planes.first[i] = first;
  planes.length[i] = length;
}

}  // namespace

template <>
void on(const WindowOrder& op) {
  const int64_t N = op.order.elements() / kOrderPlanes;
  const Planes first(op.order, op.T, 0);
  fill_slots(op, first);
  for (int64_t b = 1; b < N / op.T; ++b) copy_slots(first, Planes(op.order, op.T, b), op.T);
  const int32_t* documents = static_cast<const int32_t*>(op.first_key.data);
  for_rows(N, 2 * op.reach, [&](int64_t n) {
    const int64_t b = n / op.T;
    fill_row(Planes(op.order, op.T, b), documents ? documents + b * op.T : nullptr, n % op.T);
  });
}

}  // namespace sluice::SLUICE_ISA

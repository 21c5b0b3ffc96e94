// Examples of ops, for the tests that walk the list (op_list_test.cc). Every op has one, an ExampleBase that is made
// known by SLUICE_OP_EXAMPLE, in op_examples_helper.cc or in the file of the op's own tests. Without one the tests do
// not link.
//
// An example owns its buffers and makes the op from tensors, so that a device can be given copies. Tensors that may be
// strided have rows `gap` elements more than whole apart. What the op overwrites starts as NaN; workspaces are the
// test's.
#pragma once

#include "kernels/device_parity.h"

namespace sluice {

class ExampleBase {
 public:
  static constexpr int64_t T = 7, H = 3, D = 16, C = H * D, V = 37;

  // N: rows, a multiple of T.
  ExampleBase(DType act, int64_t gap, int64_t N) : act(act), acc(accumulator_of(act)), gap(gap), N(N) {}

  const DType act, acc;
  const int64_t gap, N;
  std::vector<TestBuffer> buffers;
  std::vector<size_t> results;  // those that the op overwrites wholly

  // How far devices may be apart, in roundings of 1 in fp32.
  double slack() const { return 4000; }

 protected:
  // Each adds a buffer and returns its place: rows of activations, or flat ones of another type.
  size_t given(int64_t cols) { return add(TestBuffer(act, N, cols, cols + gap)); }
  size_t given_flat(DType type, Shape shape) { return add(TestBuffer(type, shape)); }
  size_t written(int64_t cols) { return overwritten(given(cols)); }
  size_t written_flat(DType type, Shape shape) { return overwritten(given_flat(type, shape)); }
  size_t positive(DType type, Shape shape) {
    const size_t place = given_flat(type, shape);
    TestBuffer& x = buffers[place];
    for (int64_t i = 0; i < x.size(); ++i) x.set(i, std::fabs(x.at(i)) + 0.1);
    return place;
  }
  size_t indices(int64_t limit) {
    const size_t place = given_flat(DType::kI32, {N});
    buffers[place].randomise_indices(place, limit);
    return place;
  }
  // The tensors as they are here: for ops whose inputs are another op's results.
  Tensors here() const { return Tensors(buffers.begin(), buffers.end()); }

 private:
  size_t add(TestBuffer buffer) {
    buffers.push_back(buffer.randomise(buffers.size() + 1));
    return buffers.size() - 1;
  }
  size_t overwritten(size_t place) {
    results.push_back(place);
    poison(buffers[place]);
    return place;
  }
};

// An example with its op's type alone.
template <class Op>
struct OpExample {
  std::vector<TestBuffer> buffers;
  std::vector<size_t> results;
  double slack;
  std::function<Op(const Tensors&)> op;
};

template <class Op>
OpExample<Op> example_of(DType act, int64_t gap, int64_t N);

}  // namespace sluice

// EXAMPLE is an ExampleBase with op(tensors), which returns an OP.
#define SLUICE_OP_EXAMPLE(OP, EXAMPLE)                                                                           \
  template <>                                                                                                    \
  OpExample<OP> example_of(DType act, int64_t gap, int64_t N) {                                                  \
    const EXAMPLE example(act, gap, N);                                                                          \
    return {example.buffers, example.results, example.slack(), [=](const Tensors& t) { return example.op(t); }}; \
  }

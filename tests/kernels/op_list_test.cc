// What every op of the list must do, whatever it computes: say what is wrong with it, write all of its results and
// nothing else, take strided tensors, give the same bits on any number of threads, agree on all devices, be timed under
// its name. A new op is tested by its example (op_example.h); what it computes has a test of its own.
#include <set>

#include "kernels/op_example.h"
#include "kernels/timed_backend.h"

namespace sluice {
namespace {

constexpr int64_t kSmall = 14, kLarge = 343;  // rows; the large ones are shared among threads

// Runs the op with a workspace full of NaN; its result, or 0.
template <class Op>
double run_alone(Backend& backend, Op op) {
  Arena memory;
  if constexpr (HasWorkspace<Op>) {
    const int64_t elements = backend.workspace<Op>(op.sizes());
    memory = Arena(backend, size_t(elements) * sizeof(float));
    op.workspace = memory.at(0, DType::kF32, {elements});
    backend.run(Fill{op.workspace, NAN});
  }
  if constexpr (HasResult<Op>) return backend.run(op);
  backend.run(op);
  return 0;
}

struct Outcome {
  std::vector<TestBuffer> buffers;
  double result = 0;
  bool operator==(const Outcome&) const = default;
};

// The example's buffers after its op ran on the CPU.
template <class Op>
Outcome outcome_of(const OpExample<Op>& example) {
  Outcome out;
  out.buffers = after(cpu_backend(), example.buffers,
                      [&](Backend& on, const Tensors& t) { out.result = run_alone(on, example.op(t)); });
  return out;
}

template <class Op>
std::string message_of(const Op& op) {
  try {
    cpu_backend().run(op);
  } catch (const std::logic_error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

// body.operator()<Op>(act) for every op and type.
template <class Body>
void for_ops(std::initializer_list<DType> types, Body body) {
  for (const DType act : types)
    Ops::for_each([&]<class Op>() {
      SCOPED_TRACE(std::string(Op::kName) + " " + name_of(act));
      body.template operator()<Op>(act);
    });
}
constexpr std::initializer_list<DType> kEveryType = {DType::kF32, DType::kBF16, DType::kF64};

TEST(OpList, EveryOpHasANameOfItsOwn) {
  const std::set<std::string> names(std::begin(Ops::kNames), std::end(Ops::kNames));
  EXPECT_EQ(names.size(), size_t(Ops::kCount));
  int place = 0;
  Ops::for_each([&]<class Op>() { EXPECT_EQ(Ops::index<Op>(), place++) << Op::kName; });
}

TEST(OpList, EveryOpSaysWhatIsMissing) {
  Ops::for_each([]<class Op>() {
    const std::string message = message_of(Op{}), name = Op::kName;
    EXPECT_EQ(message.substr(0, name.size() + 2), name + ": ") << message;
  });
}

TEST(OpList, AWorkspaceThatIsTooSmallIsRefused) {
  Ops::for_each([]<class Op>() {
    if constexpr (HasWorkspace<Op>) {
      const OpExample<Op> example = example_of<Op>(DType::kF32, 0, kSmall);
      Op op = example.op(Tensors(example.buffers.begin(), example.buffers.end()));
      std::vector<float> memory(size_t(cpu_backend().workspace<Op>(op.sizes())) - 1);
      op.workspace = Tensor(memory.data(), DType::kF32, {int64_t(memory.size())});
      const std::string start = std::string(Op::kName) + ": the workspace has ";
      EXPECT_EQ(message_of(op).substr(0, start.size()), start);
    }
  });
}

TEST(OpList, ResultsAreWrittenWhole) {
  for_ops(kEveryType, []<class Op>(DType act) {
    OpExample<Op> example = example_of<Op>(act, 5, kSmall);
    const Outcome poisoned = outcome_of(example);
    for (const size_t place : example.results) {
      for (int64_t i = 0; i < example.buffers[place].size(); ++i) example.buffers[place].set(i, 1);
      for (int64_t i = 0; i < example.buffers[place].size(); ++i)
        ASSERT_FALSE(std::isnan(poisoned.buffers[place].at(i))) << "buffer " << place << ", element " << i;
    }
    EXPECT_TRUE(outcome_of(example) == poisoned) << "depends on what was there";
    for (const TestBuffer& buffer : poisoned.buffers) EXPECT_TRUE(buffer.untouched()) << "written out of bounds";
  });
}

// Whether a tensor of the op's lies in the buffer.
template <class Op>
bool names(Op op, const TestBuffer& buffer) {
  const Tensor whole = buffer.tensor();
  const char* begin = whole.as<char>();
  const char* end = begin + size_t(whole.rows() * whole.stride) * size_of(whole.dtype);
  bool found = false;
  op.for_tensors([&](const Tensor& t) { found |= t && t.as<char>() >= begin && t.as<char>() < end; });
  return found;
}

// What for_tensors() leaves out does not matter.
TEST(OpList, EveryOpNamesItsTensors) {
  for_ops(kEveryType, []<class Op>(DType act) {
    const OpExample<Op> example = example_of<Op>(act, 3, kSmall);
    const Op op = example.op(Tensors(example.buffers.begin(), example.buffers.end()));
    OpExample<Op> changed = example;
    int named = 0;
    for (size_t place = 0; place < example.buffers.size(); ++place) {
      TestBuffer& buffer = changed.buffers[place];
      if (names(op, example.buffers[place])) ++named;
      else
        for (int64_t i = 0; i < buffer.size(); ++i) buffer.set(i, buffer.tensor().dtype == DType::kI32 ? 0 : NAN);
    }
    EXPECT_GT(named, 0);
    const Outcome want = outcome_of(example), found = outcome_of(changed);
    EXPECT_EQ(found.result, want.result);
    for (size_t place = 0; place < example.buffers.size(); ++place)
      EXPECT_TRUE(!names(op, example.buffers[place]) || found.buffers[place] == want.buffers[place])
          << "buffer " << place;
  });
}

TEST(OpList, StridesDoNotChangeABit) {
  for_ops(kEveryType, []<class Op>(DType act) {
    const Outcome whole = outcome_of(example_of<Op>(act, 0, kSmall));
    const Outcome strided = outcome_of(example_of<Op>(act, 5, kSmall));
    EXPECT_EQ(strided.result, whole.result);
    for (size_t place = 0; place < whole.buffers.size(); ++place)
      for (int64_t i = 0; i < whole.buffers[place].size(); ++i)
        ASSERT_EQ(strided.buffers[place].at(i), whole.buffers[place].at(i)) << "buffer " << place << ", element " << i;
  });
}

TEST(OpList, ThreadsDoNotChangeABit) {
  for_ops(kEveryType, []<class Op>(DType act) {
    const OpExample<Op> example = example_of<Op>(act, 3, kLarge);
    expect_same_with_any_threads([&] { return outcome_of(example); });
  });
}

TEST(OpList, EveryDeviceAgrees) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_ops({DType::kF32, DType::kBF16}, []<class Op>(DType act) {
    for (const int64_t gap : {0, 5}) {
      const OpExample<Op> example = example_of<Op>(act, gap, kSmall);
      std::vector<double> numbers;
      expect_parity(
          example.buffers, [&](Backend& on, const Tensors& t) { numbers.push_back(run_alone(on, example.op(t))); },
          example.slack);
      for (const double number : numbers) EXPECT_NEAR(number, numbers.front(), 1e-3 * (1 + std::fabs(number)));
    }
  });
}

TEST(OpList, EveryOpIsTimedUnderItsName) {
  TimedBackend timed(cpu_backend());
  Ops::for_each([&]<class Op>() {
    const OpExample<Op> example = example_of<Op>(DType::kF32, 0, kSmall);
    after(timed, example.buffers, [&](Backend& on, const Tensors& t) {
      timed.measure();
      run_alone(on, example.op(t));
    });
    const auto found = timed.ops().find(Op::kName);
    ASSERT_NE(found, timed.ops().end()) << Op::kName;
    EXPECT_EQ(found->second.calls, 1) << Op::kName;
    EXPECT_GT(found->second.seconds, 0) << Op::kName;
  });
}

}  // namespace
}  // namespace sluice

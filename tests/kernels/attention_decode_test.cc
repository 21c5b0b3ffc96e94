// A decoder's attention, for every registered score function and every instruction set, against the last row of the
// plain reference; cached rows beyond the length are NaN and must not be read.
#include "kernels/attention_decode_case.h"

namespace sluice {
namespace {

TEST(AttentionDecode, IsTheLastRowOfThePlainFormula) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      for_decode_problems(score, act, [&](DecodeCase& problem) {
        isa.run(problem.args());
        problem.check_output();
      });
    });
  });
}

// One sequence of a thousand keys is cut into chunks, whoever works on them.
TEST(AttentionDecode, ThreadsDoNotChangeABit) {
  for (const DType act : kActivationTypes)
    expect_same_with_any_threads([&] {
      DecodeCase problem(ScoreKind::kSoftmax, {1, 1100, 4, 2, 20, 20}, Slot::kKeyValue, act, 1024);
      available_isas().back()->run(problem.args());
      return std::vector<TestBuffer>{problem.out};
    });
}

TEST(AttentionDecode, NaNComesThrough) {
  for_scores([](ScoreKind score) {
    for_kernels([&](const IsaKernels& isa, DType act) {
      for (const int64_t part : {0, 1, 2}) {  // of q, k, v
        DecodeCase problem(score, {1, 70, 1, 1, 20, 20}, Slot::kNone, act, 66);
        problem.spoil(part);
        isa.run(problem.args());
        EXPECT_TRUE(std::isnan(problem.out.at(7))) << "part " << part;
      }
    });
  });
}

TEST(AttentionDecode, RefusesLengthsBeyondTheCache) {
  const auto backend = make_cpu_backend();
  for (const int64_t length : {0, 5}) {
    DecodeCase problem(ScoreKind::kSoftmax, {1, 4, 1, 1, 16, 16}, Slot::kNone, DType::kF32, 4);
    AttentionDecode args = problem.args();
    args.length = length;
    EXPECT_THROW(backend->run(args), std::logic_error) << length;
  }
}

}  // namespace
}  // namespace sluice

// A decoder's attention on the CUDA backend, against the same plain reference and bounds as the CPU's: both sum in f32.
#include "kernels/attention_decode_case.h"
#include "kernels/device_parity.h"

namespace sluice {
namespace {

// Runs the step on the device and brings the output back.
void run_on_device(DecodeCase& problem) {
  const AttentionDecode host = problem.args();
  const HeadSizes heads = host.spec.shape.heads();
  problem.workspace =
      TestBuffer(DType::kF32, 1, cuda_backend().workspace<AttentionDecode>({host.spec.shape, host.q.dtype}));
  poison(problem.workspace);
  std::vector<TestBuffer> buffers = {
      problem.cache, problem.q, problem.problem.key_bias, problem.problem.value_bias, problem.out, problem.workspace};
  buffers.insert(buffers.end(), problem.problem.learned.begin(), problem.problem.learned.end());
  const std::vector<TestBuffer> results = after(cuda_backend(), buffers, [&](Backend& backend, const Tensors& t) {
    AttentionDecode args = host;
    args.k = t[0].columns(0, heads.key_columns());
    args.v = t[0].columns(heads.key_columns(), heads.value_columns());
    args.q = t[1];
    if (args.key_bias) args.key_bias = t[2];
    if (args.value_bias) args.value_bias = t[3];
    args.out = t[4];
    args.workspace = t[5];
    for (size_t i = 6; i < t.size(); ++i) args.learned.at[i - 6] = t[i];
    backend.run(args);
  });
  for (const TestBuffer& buffer : results) EXPECT_TRUE(buffer.untouched());
  problem.out = results[4];
}

TEST(CudaAttentionDecode, IsTheLastRowOfThePlainFormula) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_scores([](ScoreKind score) {
    for_device_types([&](DType act) {
      for_decode_problems(score, act, [&](DecodeCase& problem) {
        std::vector<TestBuffer> outputs;
        for_thread_orders([&] {
          run_on_device(problem);
          problem.check_output();
          outputs.push_back(problem.out);
        });
        EXPECT_TRUE(outputs.front() == outputs.back()) << "not the same bits again";
      });
    });
  });
}

TEST(CudaAttentionDecode, NaNComesThrough) {
  SLUICE_SKIP_WITHOUT_CUDA();
  for_scores([](ScoreKind score) {
    for_device_types([&](DType act) {
      for (const int64_t part : {0, 1, 2}) {  // of q, k, v
        DecodeCase problem(score, {1, 70, 1, 1, 20, 20}, Slot::kNone, act, 66);
        problem.spoil(part);
        run_on_device(problem);
        EXPECT_TRUE(std::isnan(problem.out.at(7))) << "part " << part;
      }
    });
  });
}

}  // namespace
}  // namespace sluice

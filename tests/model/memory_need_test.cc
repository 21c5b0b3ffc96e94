// What would not fit is told before it is allocated: with the largest buffer and the keys that set its size.
#include "model/memory_need.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error_text.h"
#include "base/machine_memory.h"
#include "model/transformer.h"

namespace sluice {
namespace {

ModelConfig tiny() {
  ModelConfig config;
  config.vocab_size = 100, config.context = 16, config.layers = 2, config.heads = 2, config.width = 8;
  config.resolve();
  return config;
}

MemoryNeed need_of(const ModelConfig& config, TransformerOptions options) {
  const auto backend = make_cpu_backend();
  options.allocate = false;
  return Transformer(*backend, config, options).memory_need();
}

TEST(MemoryNeed, IsWhatIsAllocated) {
  const auto backend = make_cpu_backend();
  for (const DType act : {DType::kF32, DType::kBF16, DType::kF64}) {
    for (const bool training : {false, true}) {
      TransformerOptions options;
      options.act = act, options.max_batch = 3, options.training = training;
      const Transformer model(*backend, tiny(), options);
      EXPECT_EQ(model.memory_need().parameters, model.params().bytes()) << name_of(act) << training;
      EXPECT_EQ(model.memory_need().buffers, model.arena_bytes()) << name_of(act) << training;
    }
  }
}

TEST(MemoryNeed, NamesTheLargestAndItsKeys) {
  TransformerOptions options;
  options.max_batch = 1000, options.batch_key = "train.micro_batch";
  ModelConfig wide = tiny(), words = tiny();
  wide.mlp_width = 4096;
  expect_contains(
      user_error_of([&] { require_memory(need_of(wide, options), 1 << 20); }),
      {"buffer block", "mlp", "train.micro_batch, model.context or model.mlp_width", "0.00 GiB are available"});
  words.vocab_size = 1 << 20, words.width = 64;
  options.max_batch = 1;
  expect_contains(user_error_of([&] { require_memory(need_of(words, options), 1 << 20); }),
                  {"parameter ", "[1048576,64]", "model.vocab_size or model.width"});
  words.width = 2;
  expect_contains(user_error_of([&] { require_memory(need_of(words, options), 1 << 20); }),
                  {"buffer head.logits [16,1048576]", "lower model.vocab_size"});
}

TEST(MemoryNeed, FitsOrDoesNotToTheByte) {
  MemoryNeed need;
  need.parameters = 600, need.buffers = 400;
  EXPECT_EQ(user_error_of([&] { require_memory(need, 1000); }), "");
  EXPECT_EQ(user_error_of([&] { require_memory(need, 0); }), "") << "nothing is known";
  EXPECT_NE(user_error_of([&] { require_memory(need, 999); }), "");
  EXPECT_EQ(user_error_of([&] { require_memory(need, 2000, 2); }), "");
  EXPECT_NE(user_error_of([&] { require_memory(need, 1999, 2); }), "");
}

// The largest values that a config may have: no sum wraps around to something small.
TEST(MemoryNeed, SizesBeyondAnyMachineStayLarge) {
  ModelConfig config;
  config.vocab_size = 1 << 24, config.context = 1 << 20, config.layers = 20, config.heads = 1024,
  config.width = 1 << 16;
  config.mlp_width = 1 << 18, config.mlp = MlpKind::kSwiglu, config.norm = Norm::kRmsNorm;
  config.resolve();
  TransformerOptions options;
  options.max_batch = 1 << 24, options.batch_key = "train.micro_batch";
  const MemoryNeed need = need_of(config, options);
  EXPECT_GT(need.buffers, uint64_t{1} << 48);
  EXPECT_GT(need.bytes(), need.buffers);
  EXPECT_NE(user_error_of([&] { require_memory(need, uint64_t{1} << 45); }), "");
}

TEST(MachineMemory, IsKnownAndNotMoreThanTheMachines) {
  const uint64_t total = memory_in("MemTotal") + memory_in("SwapTotal"), available = available_memory();
  EXPECT_GT(available, 0u);
  EXPECT_LE(available, total);
}

// oneDNN's AMX products take no gaps between rows; our own like rows of whole cache lines.
TEST(MemoryNeed, LogitsHaveGapsUnlessProductsWantNone) {
  const auto backend = make_cpu_backend();
  for (const DType act : {DType::kF32, DType::kBF16}) {
    ModelConfig config = tiny();
    config.vocab_size = 33;
    const Transformer model(*backend, config, {.act = act});
    const bool gapless = act == DType::kBF16 && backend->traits().gapless_bf16;
    EXPECT_EQ(model.plan().buffer(model.plan().find("head.logits")).shape, (Shape{16, gapless ? 33 : 64}))
        << name_of(act);
  }
}

}  // namespace
}  // namespace sluice

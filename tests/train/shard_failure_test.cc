// A shard that is cut while a run trains on it: the run fails with one sentence, and what it has learned is saved.
#include <gtest/gtest.h>

#include "data/llmc_shard.h"
#include "data/shards/shard.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

class ShardFailureTest : public testing::Test {
 protected:
  ShardFailureTest() { write_shard("a.bin"); }

  void write_shard(const std::string& name) const {
    std::vector<uint16_t> tokens(40000);
    for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = uint16_t((i * i / 7) % 60);
    write_llmc_shard<uint16_t>(runs_.path(name), tokens);
  }
  TinyRuns::Overrides overrides() const {
    return {fmt::format(R"(data={{"type":"tokens","train_shards":["{}"]}})", runs_.path("a.bin")),
            "log.eval_every=0",
            "log.probe_every=0",
            "log.map_positions=0",
            "log.checkpoint_every=0",
            "train.steps=12"};
  }

  TinyRuns runs_;
};

TEST_F(ShardFailureTest, TheStepsDoneAreSaved) {
  ASSERT_EQ(runs_.train("straight", overrides()), 0);
  HookedBackend backend;
  backend.on_gradients = [&](int64_t call, const Tensor&) {
    if (call == 7) std::filesystem::resize_file(runs_.path("a.bin"), 1024);
  };
  const std::string message = message_of<ShardFailed>([&] { runs_.train("cut", overrides(), backend); });
  EXPECT_NE(message.find("a.bin"), std::string::npos) << message;
  EXPECT_NE(message.find("cut or replaced"), std::string::npos) << message;
  EXPECT_EQ(list_checkpoints(runs_.path("cut/checkpoints")), std::vector<int64_t>{7});
  EXPECT_EQ(runs_.json("cut", "info.json")["status"], "failed");

  write_shard("a.bin");
  ASSERT_EQ(runs_.train("cut", overrides()), 0);
  EXPECT_TRUE(runs_.weights("cut", 12) == runs_.weights("straight", 12));
  EXPECT_TRUE(runs_.optimizer("cut", 12) == runs_.optimizer("straight", 12));
}

// What was measured before the failure is not measured again, and the rest is not left out.
TEST_F(ShardFailureTest, MeasurementsThatFailedAreMadeLater) {
  for (const char* every : {"12", "4"}) {
    write_shard("a.bin"), write_shard("b.bin");
    TinyRuns::Overrides all = overrides();
    all[0] = fmt::format(R"(data={{"type":"tokens","train_shards":["{}"],"validation_shards":["{}"]}})",
                         runs_.path("a.bin"), runs_.path("b.bin"));
    all.push_back(std::string("log.eval_every=") + every);
    all.push_back(std::string("log.probe_every=") + every);
    const std::string straight = std::string("straight") + every, cut = std::string("cut") + every;
    ASSERT_EQ(runs_.train(straight, all), 0);
    HookedBackend backend;
    backend.on_gradients = [&](int64_t call, const Tensor&) {
      if (call == 7) std::filesystem::resize_file(runs_.path("b.bin"), 1024);
    };
    EXPECT_THROW(runs_.train(cut, all, backend), ShardFailed);
    write_shard("b.bin");
    ASSERT_EQ(runs_.train(cut, all), 0);
    EXPECT_EQ(runs_.metrics(cut, ""), runs_.metrics(straight, "")) << every;
    EXPECT_TRUE(runs_.weights(cut, 12) == runs_.weights(straight, 12));
    EXPECT_FALSE(runs_.trainer_state(cut, 12).contains("measured"));
  }
}

}  // namespace
}  // namespace sluice

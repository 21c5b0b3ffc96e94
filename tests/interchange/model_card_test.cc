// What an exported folder says to people, and to generate().
#include <gtest/gtest.h>

#include "base/files/files.h"
#include "interchange/export.h"
#include "runs/load_model.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

class Card : public testing::Test {
 protected:
  Card() {
    runs_.train("run", {"train.steps=0", "train.schedule.type=constant", "train.schedule.warmup=0",
                        "log.map_positions=0", "model.attention=vga", "name=a | b"});
  }

  void export_run(const ExportOptions& options) {
    std::vector<std::string> damaged;
    Checkpoint checkpoint = open_checkpoint(runs_.path("run"), damaged);
    const ModelConfig model = stored_experiment(checkpoint).model;
    checkpoint.state.step = 3;  // as if
    checkpoint.state.config["data"]["train_shards"] = {"secret/x.bin"};
    export_checkpoint(checkpoint, model, runs_.path("out"), options);
    card_ = runs_.file("out", "README.md");
    generation_ = runs_.json("out", "generation_config.json");
  }
  bool says(const std::string& words) const { return card_.find(words) != std::string::npos; }

  TinyRuns runs_;
  std::string card_;
  Json generation_;
};

TEST_F(Card, SaysWhatTheModelIsAndHowItIsLoaded) {
  export_run({});
  EXPECT_TRUE(card_.starts_with("---\nlibrary_name: transformers\n")) << card_;
  for (const char* words : {"# a   b", "Value-State Gated Attention", "arXiv 2510.09017", "gate: reads value", "- vga",
                            "67 tokens, 32 tokens", "| trained | 3 steps, 576 tokens, precision fp32 |",
                            "trust_remote_code=True", "none in this folder", "\"attention\""})
    EXPECT_TRUE(says(words)) << words << card_;
  for (const char* words : {"secret", "AutoTokenizer.from_pretrained", "began with token"})
    EXPECT_FALSE(says(words)) << words;
  EXPECT_FALSE(generation_.contains("eos_token_id"));
  EXPECT_EQ(runs_.json("out", "config.json")["auto_map"]["AutoModel"], "modeling_sluice.SluiceModel");
}

TEST_F(Card, SaysWhatTheTokenizerDoes) {
  const auto tokenizer = load_tokenizer("bytes", "test");
  export_run({.trained = {.first = 10}, .tokenizer = tokenizer.get(), .tokenizer_path = "bytes"});
  EXPECT_TRUE(says("every sequence began with token 10, which the tokenizer puts in front")) << card_;
  EXPECT_TRUE(says("AutoTokenizer.from_pretrained(DIR, trust_remote_code=True)"));
  EXPECT_EQ(generation_["eos_token_id"], 256);
  EXPECT_EQ(generation_["pad_token_id"], 256);
}

TEST_F(Card, HasTheFiguresOfTheCheckpointsStepAndNoLaterOnes) {
  const std::string later = R"({"kind":"eval","step":5,"loss":1.25,"perplexity":3.49})";
  write_file_atomic(runs_.path("run/metrics.jsonl"), R"({"kind":"eval","step":0,"loss":2.5,"perplexity":null}
{"kind":"probe","step":0,"layer":0,"head":0,"sink_attention":0.125}
{"kind":"probe","step":0,"layer":0,"head":1,"sink_attention":0.75}
not json
[[[{"kind":3}]]]
)" + later + "\n");
  write_file_atomic(runs_.path("run/info.json"), std::string(100000, '['));
  export_run({});
  EXPECT_TRUE(says("| loss on held-out data | 2.5000 (step 0) |")) << card_;
  EXPECT_TRUE(says("| strongest attention to position 0 of any head | 0.7500 (step 0) |")) << card_;
  EXPECT_FALSE(says("1.25"));
  EXPECT_FALSE(says("perplexity"));
}

}  // namespace
}  // namespace sluice

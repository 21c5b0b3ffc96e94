// Configs in layers: what is given is never dropped without a word, whichever layer and order it comes in.
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "data/temp_folder.h"
#include "experiment/experiment.h"

namespace sluice {
namespace {

// Layers called 1, 2, ... from below, and overrides on top.
ExperimentLayers layered(const std::vector<std::string>& layers, const std::vector<std::string>& overrides = {}) {
  ExperimentLayers out;
  for (size_t i = 0; i < layers.size(); ++i) out.add(Json::parse(layers[i]), std::to_string(i + 1) + ".json");
  out.add_overrides(overrides);
  return out;
}

std::string merged(const std::vector<std::string>& layers, const std::vector<std::string>& overrides = {}) {
  return layered(layers, overrides).json().dump();
}

Json resolved(const std::vector<std::string>& layers, const std::vector<std::string>& overrides = {}) {
  return layered(layers, overrides).parse().dump();
}

std::string error_of(const std::vector<std::string>& layers, const std::vector<std::string>& overrides = {}) {
  return user_error_of([&] { resolved(layers, overrides); });
}

Json optimizer(const std::vector<std::string>& layers, const std::vector<std::string>& overrides = {}) {
  return resolved(layers, overrides)["train"]["optimizer"];
}

Json attention(const std::vector<std::string>& layers, const std::vector<std::string>& overrides = {}) {
  return resolved(layers, overrides)["model"]["attention"];
}

TEST(ExperimentLayers, ObjectsMergeAndTheRestIsReplaced) {
  EXPECT_EQ(merged({R"({"train":{"steps":1,"batch":2},"l":[1,2]})", R"({"train":{"batch":3},"l":[5]})"}),
            R"({"train":{"steps":1,"batch":3},"l":[5]})");
  EXPECT_EQ(merged({R"({"a":1})", R"({"a":{"x":1}})"}), R"({"a":{"x":1}})");
}

TEST(ExperimentLayers, NullTakesAKeyBack) {
  EXPECT_EQ(
      merged({R"({"seed":1,"train":{"steps":5,"batch":2}})", R"({"seed":null,"train":{"steps":null},"name":null})"}),
      R"({"train":{"batch":2}})");
  EXPECT_EQ(merged({R"({"train":{"steps":5,"batch":2}})"}, {"train.steps=null"}), R"({"train":{"batch":2}})");
}

// A part of attention that a model does not have stands in no dump; it is named and changed like any typed group.
TEST(ExperimentLayers, ATypedGroupMayBeOneThatDumpsLeaveOut) {
  const std::string fixed = R"({"model":{"attention":{"value_residual":{"type":"fixed","own":0.25}}}})";
  const Json wanted = {{"type", "fixed"}, {"own", 0.25}, {"first", 0.5}};
  EXPECT_EQ(attention({fixed})["value_residual"], wanted);
  EXPECT_FALSE(attention({"{}"}).contains("value_residual"));
  Json learned = wanted;
  learned["type"] = "learned";
  EXPECT_EQ(attention({fixed, R"({"model":{"attention":{"value_residual":"learned"}}})"})["value_residual"], learned);
  EXPECT_EQ(attention({fixed}, {"model.attention.value_residual.type=learned"})["value_residual"], learned);
}

TEST(ExperimentLayers, AStringForATypedGroupIsItsType) {
  EXPECT_EQ(merged({R"({"model":{"attention":"vga"}})", R"({"model":{"attention":{"site":"source"}}})"}),
            R"({"model":{"attention":{"type":"vga","site":"source"}}})");
  EXPECT_EQ(merged({R"({"model":{"attention":{"type":"vga","site":"source"}}})", R"({"model":{"attention":"vga"}})"}),
            R"({"model":{"attention":{"type":"vga","site":"source"}}})");
  EXPECT_EQ(error_of({R"({"train":{"steps":5}})", R"({"train":"adamw"})"}),
            "2.json: train must be an object, got the string \"adamw\"");
}

TEST(ExperimentLayers, WhatTheNewTypeHasStays) {
  for (const char* type : {"adamw", "sgd", "muon"}) {
    for (const bool type_first : {false, true}) {
      std::vector<std::string> set = {"train.optimizer.lr=0.02", std::string("train.optimizer.type=") + type};
      if (type_first) std::swap(set[0], set[1]);
      const Json json = optimizer({"{}"}, set);
      EXPECT_EQ(json["lr"], 0.02) << type;
      EXPECT_EQ(json["type"], type);
    }
    const Json below = optimizer({R"({"train":{"optimizer":{"lr":6e-4,"weight_decay":0.0}}})",
                                  fmt::format(R"({{"train":{{"optimizer":{{"type":"{}"}}}}}})", type)});
    EXPECT_EQ(below["lr"], 6e-4) << type;
    EXPECT_EQ(below["weight_decay"], 0.0) << type;
  }
  EXPECT_EQ(
      optimizer({R"({"train":{"optimizer":{"type":"sgd","lr":3e-4}}})", R"({"train":{"optimizer":"muon"}})"})["lr"],
      3e-4);
  for (const char* type : {"constant", "cosine", "linear", "wsd"})
    EXPECT_EQ(resolved({R"({"train":{"steps":100,"schedule":{"type":"linear","warmup":50}}})"},
                       {std::string("train.schedule.type=") + type})["train"]["schedule"]["warmup"],
              50);
  EXPECT_EQ(attention({R"({"model":{"attention":{"key_bias":true}}})",
                       R"({"model":{"attention":{"type":"softmax"}}})"})["key_bias"],
            true);
  EXPECT_EQ(attention({R"({"model":{"attention":{"type":"vga","key_bias":true}}})"},
                      {"model.attention=input_gated"})["key_bias"],
            true);
  const Json vga = attention({R"({"model":{"attention":{"type":"input_gated","site":"source","grain":"element"}}})"},
                             {"model.attention=vga"});
  EXPECT_EQ(vga["gate"]["reads"], "value");
  EXPECT_EQ(vga["gate"]["site"], "source");
  EXPECT_EQ(vga["gate"]["grain"], "element");
}

TEST(ExperimentLayers, WhatTheNewTypeLacksIsAnErrorWithBothPlaces) {
  expect_contains(
      error_of({R"({"train":{"optimizer":{"type":"sgd","momentum":0.5}}})"}, {"train.optimizer.type=adamw"}),
      {"train.optimizer.momentum applies only when train.optimizer.type is \"sgd\"", "train.optimizer.momentum: 1.json",
       "train.optimizer.type: --set train.optimizer.type=adamw"});
  expect_contains(error_of({R"({"train":{"optimizer":{"betas":[0.8,0.9]}}})", R"({"train":{"optimizer":"sgd"}})"}),
                  {"train.optimizer.betas", "betas: 1.json", "train.optimizer.type: 2.json"});
  expect_contains(error_of({"{}"}, {"train.optimizer.momentum=0.5", "train.optimizer.type=adamw"}),
                  {"momentum: --set train.optimizer.momentum=0.5", "type: --set train.optimizer.type=adamw"});
  expect_contains(
      error_of({R"({"model":{"attention":{"type":"vga","site":"source"}}})", R"({"model":{"attention":"softmax"}})"}),
      {"model.attention.gate.site applies only when", "model.attention.site: 1.json", "model.attention.type: 2.json"});
  expect_contains(error_of({R"({"data":{"type":"bigram_backcopy","triggers":5}})", R"({"data":"random"})"}),
                  {"data.triggers", "1.json", "2.json"});
  EXPECT_EQ(error_of({R"({"train":{"optimizer":{"betas":[0.8,0.9]}}})",
                      R"({"train":{"optimizer":{"type":"sgd","betas":null}}})"}),
            "");
}

TEST(ExperimentLayers, WhatTheNewTypeDecidesOtherwiseIsAnErrorWithBothPlaces) {
  expect_contains(
      error_of({R"({"model":{"attention":{"type":"custom","gate":{"reads":"hidden"}}}})"}, {"model.attention=vga"}),
      {"model.attention.gate.reads (1.json) contradicts model.attention.type = \"vga\" (--set model.attention=vga)",
       "makes model.attention.gate.reads \"value\""});
  expect_contains(error_of({R"({"model":{"attention":{"type":"custom","score":"sigmoid"}}})",
                            R"({"model":{"attention":"softmax"}})"}),
                  {"model.attention.score", "(1.json)", "\"softmax\" (2.json)"});
  // Beside the type a key is a change of it, in whichever order.
  for (const bool first : {false, true}) {
    std::vector<std::string> set = {"model.attention.type=vga", "model.attention.gate.reads=hidden"};
    if (first) std::swap(set[0], set[1]);
    EXPECT_EQ(attention({"{}"}, set)["gate"]["reads"], "hidden");
  }
  EXPECT_EQ(attention({"{}"}, {"model.attention.key_bias=true", "model.attention.type=softmax"})["key_bias"], true);
}

// A run's config.json names every key; another type on top of it is that type and not the former one by another name.
TEST(ExperimentLayers, ResolvedConfigsTakeAnotherType) {
  for (const char* from : {"softmax", "vga", "sigmoid", "key_bias", "sink_logit", "gated_attention"}) {
    const Json whole = resolved({"{}"}, {std::string("model.attention=") + from});
    for (const char* to : {"softmax", "vga", "input_gated", "relu", "clipped_softmax"}) {
      const std::string set = std::string("model.attention=") + to;
      EXPECT_EQ(attention({whole.dump()}, {set}).dump(), attention({"{}"}, {set}).dump()) << from << " to " << to;
    }
  }
  const Json sgd = optimizer({resolved({"{}"}).dump()}, {"train.optimizer.type=sgd", "train.optimizer.momentum=0.5"});
  EXPECT_EQ(sgd["momentum"], 0.5);
}

TEST(ExperimentLayers, OverridesAreOneLayer) {
  const ExperimentLayers twice = layered({"{}"}, {"train.steps=1", "seed=3", "train.steps=2", "seed=3"});
  EXPECT_EQ(twice.parse().train.steps, 2);
  EXPECT_EQ(twice.notes(), (std::vector<std::string>{"--set train.steps=2 counts, and not --set train.steps=1"}));
  const ExperimentLayers types = layered({"{}"}, {"train.optimizer=sgd", "train.optimizer.type=muon"});
  EXPECT_EQ(types.parse().train.optimizer.type, "muon");
  EXPECT_EQ(types.notes().size(), 1u);
  expect_contains(error_of({"{}"}, {"train.steps=1", "train.steps.x=2"}), {"contradict each other"});
  EXPECT_EQ(resolved({"{}"}, {"train.steps=7", "train.steps=7"})["train"]["steps"], 7);
  EXPECT_EQ(merged({R"({"train":{"steps":1,"batch":2}})"}, {"train.steps=100"}),
            R"({"train":{"steps":100,"batch":2}})");
  EXPECT_EQ(merged({"{}"}, {"train.optimizer.betas=[0.9, 0.95]"}), R"({"train":{"optimizer":{"betas":[0.9,0.95]}}})");
  EXPECT_EQ(merged({"{}"}, {"train.optimizer.lr=nan"}), R"({"train":{"optimizer":{"lr":"nan"}}})");
}

TEST(ExperimentLayers, NullAndEmptyObjectsAreNoLoopholes) {
  for (const bool first : {false, true}) {
    std::vector<std::string> set = {"train.optimizer.type=muon", "train.optimizer=null"};
    if (first) std::swap(set[0], set[1]);
    EXPECT_EQ(optimizer({R"({"train":{"optimizer":{"lr":0.5}}})"}, set)["type"], "muon");
    EXPECT_EQ(optimizer({R"({"train":{"optimizer":{"lr":0.5}}})"}, set)["lr"], 3e-4);
  }
  EXPECT_NE(error_of({"{}"}, {"nonsense={}"}), "");
  EXPECT_NE(error_of({"{}"}, {R"(a={"b":{}})"}), "");
  EXPECT_EQ(error_of({"{}"}, {"train.optimizer={}"}), "");
}

TEST(ExperimentLayers, AStringIsTakenAsItStands) {
  for (const char* name : {"4711", "7e10", "0123", "true", "null", "1e999", "a=b", "-1", "[x"})
    EXPECT_EQ(resolved({"{}"}, {std::string("name=") + name})["name"], name);
  EXPECT_EQ(resolved({"{}"}, {"name=\"7\""})["name"], "7");
  EXPECT_NE(error_of({"{}"}, {"name="}), "");
  EXPECT_EQ(resolved({"{}"}, {"train.steps=1e2"})["train"]["steps"], 100);
  EXPECT_EQ(resolved({R"({"model":{"norm":"rmsnorm"}})"}, {"model.norm=null"})["model"]["norm"], "layernorm");
}

TEST(ExperimentLayers, AValueThatIsNoJsonIsToldWithItsPlaceInTheOption) {
  EXPECT_EQ(error_of({"{}"}, {"train.steps=[1"}),
            "--set train.steps: the value \"[1\" is not valid JSON at character 3: the text ends too early (a bracket "
            "or a quote is "
            "not closed)");
  expect_contains(error_of({"{}"}, {"train.optimizer={\"lr\":\n1,}"}),
                  {"--set train.optimizer: the value", "at line 2, character 3"});
  EXPECT_EQ(error_of({"{}"}, {"train.optimizer.lr=1e400"}),
            "--set train.optimizer.lr=1e400: this number is too large for a double");
  EXPECT_EQ(error_of({"{}"}, {"train.optimizer.lr=-1e400"}),
            "--set train.optimizer.lr=-1e400: this number is too large for a double");
  EXPECT_EQ(resolved({"{}"}, {"name=1e400"})["name"], "1e400") << "a name may be anything";
}

TEST(ExperimentLayers, WordsOfOtherProgramsAreUnderstood) {
  expect_contains(error_of({"{}"}, {"device=gpu"}), {"did you mean \"cuda\"?"});
  expect_contains(error_of({"{}"}, {"train.precision=bfloat16"}), {"did you mean \"bf16\"?"});
}

// The config.json of a run as the base of another, or given itself: the new run is not called as the old one.
TEST(ExperimentLayers, ARunsOwnNameIsNotInherited) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.file("a"));
  folder.write("a/config.json", resolved({R"({"name":"a","seed":3})"}).dump());
  folder.write("named.json", R"({"name":"given"})");
  folder.write("of_run.json", R"({"base":"a/config.json"})");
  folder.write("of_named.json", R"({"base":"named.json"})");
  const auto name = [&](const char* file, const std::vector<std::string>& set = {}, const std::string& out = "") {
    return load_experiment(folder.file(file), set, out).name;
  };
  EXPECT_EQ(name("of_run.json"), "of_run");
  EXPECT_EQ(load_experiment(folder.file("of_run.json"), {}).seed, 3u);
  EXPECT_EQ(name("of_named.json"), "given");
  EXPECT_EQ(name("a/config.json"), "a");
  EXPECT_EQ(name("a/config.json", {}, folder.file("a/")), "a");
  EXPECT_EQ(name("a/config.json", {}, folder.file("b/")), "b");
  EXPECT_EQ(name("a/config.json", {"name=c"}, folder.file("b")), "c");
  EXPECT_EQ(name("named.json", {}, folder.file("b")), "given");
}

TEST(ExperimentLayers, AFolderIsNoConfig) {
  const TempFolder folder;
  std::filesystem::create_directories(folder.file("a/checkpoints/step_00000001"));
  const auto problem = [&](const std::string& path) { return user_error_of([&] { load_experiment(path, {}); }); };
  EXPECT_EQ(problem(folder.file("a")),
            folder.file("a") + " is a folder, and a config is asked for, which is a JSON file");
  folder.write("a/config.json", "{}");
  folder.write("a/checkpoints/step_00000001/state.json", "{}");
  expect_contains(problem(folder.file("a")),
                  {"is a run's folder", "sluice train " + folder.file("a/config.json") + " --out " + folder.file("a")});
  expect_contains(problem(folder.file("a/checkpoints/step_00000001")), {"is a checkpoint", "--resume"});
}

TEST(ExperimentLayers, RefusesWhatIsNoAssignment) {
  for (const char* text : {"steps", "=1", ".a=1", "a.=1", "a..b=1", ""})
    EXPECT_EQ(error_of({"{}"}, {text}),
              fmt::format("--set takes key=value with a dotted key, such as train.steps=100, got \"{}\"", text));
  EXPECT_EQ(
      error_of({"{}"}, {"train.optimizer.betas=[0.9,"}),
      "--set train.optimizer.betas: the value \"[0.9,\" is not valid JSON at character 6: the text ends too early (a "
      "bracket or a quote is not closed)");
}

TEST(ExperimentLayers, ErrorsNameThePlaceOfTheirKeys) {
  EXPECT_EQ(error_of({R"({"train":{"steps":-1}})", R"({"seed":1})"}),
            "1.json: train.steps is -1, but must be at least 0");
  EXPECT_EQ(error_of({R"({"train":{"stepz":-1}})", R"({"train":{"steps":1}})"}),
            "1.json: unknown config key train.stepz; did you mean train.steps?");
  EXPECT_EQ(error_of({R"({"sed":1})"}), "1.json: unknown config key sed; did you mean seed?");
  EXPECT_EQ(error_of({"{}"}, {"train.steps=-1"}), "train.steps is -1, but must be at least 0");
  // A key behind an index begins with a dot, as it stands in the message.
  const std::string pattern = error_of({R"({"model":{"attention":["softmax",{"score":{"type":"nope"}}]}})"});
  EXPECT_NE(pattern.find("model.attention[1]"), std::string::npos) << pattern;
  EXPECT_NE(pattern.find("nope"), std::string::npos) << pattern;
  std::string many;
  for (int i = 0; i < 20000; ++i) many += fmt::format("{}\"k{}\":1", i ? "," : "", i);
  expect_contains(error_of({"{\"model\":{" + many + "}}"}), {"1.json: it has 20001 keys", "10000"});
}

}  // namespace
}  // namespace sluice

// Config fields: strict parsing, conditions, shorthands, the dump that reads back to itself, schema and reference.
#include "base/config/config.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error_text.h"

namespace sluice {

enum class Colour { kRed, kBlue };
template <>
struct ChoiceNames<Colour> {
  static constexpr Choice<Colour> kAll[] = {{"red", Colour::kRed}, {"blue", Colour::kBlue}};
};

namespace {

struct Optimizer {
  std::string type = "adamw";
  double lr = 3e-4, momentum = 0.9;
  std::vector<double> betas = {0.9, 0.95};
  bool nesterov = false;
  double dampening = 0.5;

  void describe(Fields& f) {
    f.add("type", type, "the update rule").one_of({"adamw", "sgd"});
    f.add("lr", lr, "peak learning rate").above(0);
    f.add("betas", betas, "decay of the moments").range(0, INFINITY).below(1).exactly(2).when("type", {"adamw"});
    f.add("momentum", momentum, "of SGD").range(0, INFINITY).below(1).when("type", {"sgd"});
    f.add("nesterov", nesterov, "look ahead").when("type", {"sgd"});
    f.add("dampening", dampening, "of the look-ahead").range(0, 1).when("nesterov", {"true"});
  }
};

struct Gate {
  std::string site = "none";
  bool bias = false;
  void describe(Fields& f) {
    f.add("site", site, "where it acts").one_of({"none", "source", "output"});
    f.add("bias", bias, "learned bias");
  }
};

struct Config {
  std::string name = "run";
  uint64_t seed = 42;
  int64_t layers = 12, offset = 0;
  std::vector<std::string> files, tasks;
  Gate gate;
  Optimizer optimizer;

  void describe(Fields& f) {
    f.add("name", name, "of the run");
    f.add("seed", seed, "of everything random");
    f.add("layers", layers, "transformer blocks").range(1, 1000);
    f.add("offset", offset, "any integer");
    f.add("files", files, "inputs | outputs");
    f.add("tasks", tasks, "what to run").one_of({"train", "eval"});
    // A preset names the gate: "vga" is site output, {"type": "vga", "site": "source"} changes it.
    f.add_group("gate", gate, "the gate", [](const Json& json, const std::string& path) {
      Json full = json;
      if (!full.contains("type")) return full;
      if (full["type"] != "vga") throw UserError("{}.type is {}, but must be \"vga\"", path, full["type"].dump());
      full.erase("type");
      if (!full.contains("site")) full["site"] = "output";
      return full;
    });
    f.add_group("optimizer", optimizer, "the optimizer");
  }
};

Config parsed(const std::string& text) {
  Config config;
  Fields fields;
  config.describe(fields);
  fields.parse(Json::parse(text), "");
  return config;
}

std::string error_in(const std::string& text) {
  return user_error_of([&] { parsed(text); });
}

Json dumped(Config& config) {
  Fields fields;
  config.describe(fields);
  return fields.dump();
}

TEST(Config, WhatIsNotNamedKeepsItsDefault) {
  const Config config = parsed(R"({"optimizer": {"lr": 1}})");
  EXPECT_EQ(config.layers, 12);
  EXPECT_EQ(config.optimizer.lr, 1.0);
  EXPECT_EQ(config.optimizer.betas, (std::vector<double>{0.9, 0.95}));
}

TEST(Config, ReadsEveryKind) {
  const Config config =
      parsed(R"({"name": "x", "seed": 18446744073709551615, "layers": 3, "offset": -9223372036854775808,
      "files": ["a", "b"], "tasks": ["eval"], "optimizer": {"type": "sgd", "lr": 0.5, "nesterov": true, "dampening": 0}})");
  EXPECT_EQ(config.name, "x");
  EXPECT_EQ(config.seed, UINT64_MAX);
  EXPECT_EQ(config.layers, 3);
  EXPECT_EQ(config.offset, INT64_MIN);
  EXPECT_EQ(config.files, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(config.optimizer.nesterov);
  EXPECT_EQ(config.optimizer.dampening, 0.0);
}

TEST(Config, AnEnumIsItsValuesNames) {
  struct Painted {
    Colour colour = Colour::kBlue;
    void describe(Fields& f) { f.add("colour", colour, "of what is painted"); }
  };
  const auto colour_of = [](const char* json) {
    Painted painted;
    Fields fields;
    painted.describe(fields);
    fields.parse(Json::parse(json), "");
    EXPECT_EQ(fields.dump()["colour"], choice_name(painted.colour));
    return painted.colour;
  };
  EXPECT_EQ(colour_of("{}"), Colour::kBlue);
  EXPECT_EQ(colour_of(R"({"colour": "red"})"), Colour::kRed);
  expect_contains(user_error_of([&] { colour_of(R"({"colour": "rod"})"); }),
                  {"colour is \"rod\", but must be one of", "did you mean \"red\"?"});
  EXPECT_EQ(user_error_of([&] { colour_of(R"({"colour": 1})"); }), "colour must be a string, got the number 1");
  EXPECT_EQ(Json(Colour::kRed), "red") << "not a number";
}

TEST(Config, WholeNumbersMayBeWrittenAsFloats) {
  EXPECT_EQ(parsed(R"({"layers": 1e2})").layers, 100);
  EXPECT_EQ(parsed(R"({"seed": 7.0})").seed, 7u);
}

TEST(Config, UnknownKeysNameTheNearestRealOne) {
  EXPECT_EQ(error_in(R"({"layer": 3})"), "unknown config key layer; did you mean layers?");
  EXPECT_EQ(error_in(R"({"optimizer": {"momemtum": 3}})"),
            "unknown config key optimizer.momemtum; did you mean optimizer.momentum?");
  EXPECT_EQ(error_in(R"({"lr": 3})"), "unknown config key lr; did you mean optimizer.lr?");
  EXPECT_EQ(error_in(R"({"gate": {"zzz": 3}})"), "unknown config key gate.zzz; gate has \"site\", \"bias\"");
}

TEST(Config, WrongTypesSayExpectedAndGot) {
  EXPECT_EQ(error_in(R"({"layers": "twelve"})"), "layers must be an integer, got the string \"twelve\"");
  EXPECT_EQ(error_in(R"({"layers": 1.5})"), "layers must be an integer, got the number 1.5");
  EXPECT_EQ(error_in(R"({"layers": true})"), "layers must be an integer, got true");
  EXPECT_EQ(error_in(R"({"name": 7})"), "name must be a string, got the number 7");
  EXPECT_EQ(error_in(R"({"files": "a"})"), "files must be a list of strings, got the string \"a\"");
  EXPECT_EQ(error_in(R"({"files": ["a", 1]})"), "files[1] must be a string, got the number 1");
  EXPECT_EQ(error_in(R"({"optimizer": {"lr": null}})"), "optimizer.lr must be a number, got null");
  EXPECT_EQ(error_in(R"({"optimizer": {"lr": {}}})"), "optimizer.lr must be a number, got an object");
  EXPECT_EQ(error_in(R"({"optimizer": 3})"), "optimizer must be an object, got the number 3");
  EXPECT_EQ(error_in(R"({"optimizer": {"type": "sgd", "nesterov": 1}})"),
            "optimizer.nesterov must be true or false, got the number 1");
  EXPECT_EQ(error_in("[]"), "the config must be an object, got a list");
  EXPECT_EQ(error_in("\"softmax\""), "the config must be an object, got the string \"softmax\"");
}

TEST(Config, NumbersMustFitAndStayInRange) {
  EXPECT_EQ(error_in(R"({"layers": 0})"), "layers is 0, but must be at least 1 and at most 1000");
  EXPECT_EQ(error_in(R"({"seed": -1})"), "seed is -1, but must be at least 0");
  EXPECT_EQ(error_in(R"({"offset": 9223372036854775808})"),
            "offset is 9223372036854775808, which does not fit in a 64-bit integer");
  EXPECT_EQ(error_in(R"({"seed": 18446744073709551616})"),
            "seed is 1.8446744073709552e+19, which does not fit in a 64-bit integer");
  EXPECT_EQ(error_in(R"({"optimizer": {"lr": 0}})"), "optimizer.lr is 0, but must be above 0");
  EXPECT_EQ(error_in(R"({"optimizer": {"betas": [0.9, 1.0]}})"),
            "optimizer.betas[1] is 1.0, but must be at least 0 and below 1");
  EXPECT_EQ(error_in(R"({"optimizer": {"betas": [0.9]}})"), "optimizer.betas has 1 elements, but must have 2");
}

TEST(Config, ChoicesAreListedAndTheNearestNamed) {
  EXPECT_EQ(error_in(R"({"optimizer": {"type": "adam"}})"),
            "optimizer.type is \"adam\", but must be one of \"adamw\", \"sgd\"; did you mean \"adamw\"?");
  EXPECT_EQ(error_in(R"({"tasks": ["train", "nothing"]})"),
            "tasks[1] is \"nothing\", but must be one of \"train\", \"eval\"");
}

TEST(Config, AKeyOfAnotherTypeIsRefused) {
  EXPECT_EQ(error_in(R"({"optimizer": {"momentum": 0.5}})"),
            "optimizer.momentum applies only when optimizer.type is \"sgd\", but it is \"adamw\"");
  // The order of keys in the file does not matter.
  EXPECT_EQ(parsed(R"({"optimizer": {"momentum": 0.5, "type": "sgd"}})").optimizer.momentum, 0.5);
  EXPECT_EQ(error_in(R"({"optimizer": {"type": "sgd", "dampening": 0.1}})"),
            "optimizer.dampening applies only when optimizer.nesterov is \"true\", but it is false");
}

TEST(Config, ABareStringIsShortForTheType) {
  EXPECT_EQ(parsed(R"({"optimizer": "sgd"})").optimizer.type, "sgd");
  EXPECT_EQ(error_in(R"({"optimizer": "sdg"})"),
            "optimizer.type is \"sdg\", but must be one of \"adamw\", \"sgd\"; did you mean \"sgd\"?");
}

TEST(Config, ExpandRewritesPresets) {
  EXPECT_EQ(parsed(R"({"gate": "vga"})").gate.site, "output");
  EXPECT_EQ(parsed(R"({"gate": {"type": "vga", "site": "source"}})").gate.site, "source");
  EXPECT_EQ(parsed(R"({"gate": {"site": "source"}})").gate.site, "source");
  EXPECT_EQ(error_in(R"({"gate": "vgb"})"), "gate.type is \"vgb\", but must be \"vga\"");
  EXPECT_EQ(error_in(R"({"gate": {"type": "vga", "sites": "source"}})"),
            "unknown config key gate.sites; did you mean gate.site?");
}

TEST(Config, TheDumpHoldsWhatAppliesAndReadsBackToItself) {
  Config adamw;
  EXPECT_EQ(dumped(adamw)["optimizer"].dump(), R"({"type":"adamw","lr":0.0003,"betas":[0.9,0.95]})");
  for (const char* text : {"{}", R"({"gate": "vga", "optimizer": {"type": "sgd", "nesterov": true}})",
                           R"({"seed": 18446744073709551615, "optimizer": {"lr": 0.1}})"}) {
    Config first = parsed(text);
    const std::string once = dumped(first).dump();
    Config second = parsed(once);
    EXPECT_EQ(dumped(second).dump(), once);
  }
}

TEST(Config, SchemaHoldsTypesLimitsDefaultsAndConditions) {
  Config config;
  Fields fields;
  config.describe(fields);
  const Json schema = file_schema(fields);
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["additionalProperties"], false);
  const Json& properties = schema["properties"];
  EXPECT_EQ(properties["base"]["type"], "string");
  EXPECT_EQ(properties["layers"].dump(),
            R"({"type":"integer","minimum":1,"maximum":1000,"default":12,"description":"transformer blocks"})");
  EXPECT_EQ(properties["tasks"]["items"].dump(), R"({"type":"string","enum":["train","eval"]})");
  const Json& optimizer = properties["optimizer"]["anyOf"];
  EXPECT_EQ(optimizer[0].dump(), R"({"type":"string","enum":["adamw","sgd"],"description":"the update rule"})");
  EXPECT_EQ(optimizer[1]["properties"]["lr"].dump(),
            R"({"type":"number","exclusiveMinimum":0.0,"default":0.0003,"description":"peak learning rate"})");
  EXPECT_EQ(optimizer[1]["properties"]["betas"]["minItems"], 2);
  EXPECT_EQ(optimizer[1]["allOf"][1].dump(),
            R"({"if":{"properties":{"type":{"not":{"enum":["sgd"]}}},"required":["type"]},)"
            R"("then":{"properties":{"momentum":false}}})");
  EXPECT_EQ(optimizer[1]["allOf"][3]["if"]["properties"]["nesterov"].dump(), R"({"not":{"enum":[true]}})");
}

TEST(Config, ShortcutsAreInTheSchemaAndAllowedOnlyBeforeExpansion) {
  Fields fields;
  std::string site = "none";
  fields.add("site", site, "where");
  fields.add_shortcut("type", {{"type", "string"}, {"enum", {"vga"}}}, "a preset");
  EXPECT_EQ(fields.schema()["properties"]["type"].dump(),
            R"({"type":"string","enum":["vga"],"description":"a preset"})");
  EXPECT_EQ(user_error_of([&] { fields.parse(Json::parse(R"({"type": "vga"})"), "gate"); }), "");
}

TEST(Config, ReferenceIsOneTableAGroup) {
  Config config;
  Fields fields;
  config.describe(fields);
  const std::string text = fields.reference("");
  EXPECT_NE(text.find("| `layers` | integer | `12` | ≥ 1, ≤ 1000 | transformer blocks |\n"), std::string::npos) << text;
  EXPECT_NE(text.find("| `files` | list of strings | `[]` |  | inputs \\| outputs |\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\n## `optimizer`\n"), std::string::npos);
  EXPECT_NE(text.find("| `momentum` | number | `0.9` | ≥ 0, < 1 | of SGD (only when `type` is `sgd`) |\n"),
            std::string::npos)
      << text;
}

TEST(Config, NearestFindsTyposAndLongerNames) {
  const std::vector<std::string> keys = {"layers", "heads", "batch", "lr", "width"};
  EXPECT_EQ(nearest("layesr", keys), "layers");
  EXPECT_EQ(nearest("Heads", keys), "heads");
  EXPECT_EQ(nearest("batch_size", keys), "batch");
  EXPECT_EQ(nearest("n_layers", keys), "layers");
  EXPECT_EQ(nearest("dropout", keys), "");
  EXPECT_EQ(nearest("id", keys), "");
  EXPECT_EQ(nearest("", keys), "");
}

}  // namespace
}  // namespace sluice

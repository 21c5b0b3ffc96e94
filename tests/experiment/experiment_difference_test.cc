// Which keys make two configs different experiments.
#include "experiment/experiment_difference.h"

#include <gtest/gtest.h>

#include "base/error_text.h"
#include "experiment/experiment.h"

namespace sluice {
namespace {

Json resolved(const Json& changes) {
  Experiment experiment;
  Fields fields;
  experiment.describe(fields);
  fields.parse(changes, "");
  return fields.dump();
}

void collect(const Fields& fields, const std::string& path, std::vector<std::string>& changeable,
             std::vector<std::string>& paths) {
  for (const auto& field : fields.list()) {
    const std::string name = path + field->name;
    if (field->of_the_work) changeable.push_back(name);
    if (field->is_path) paths.push_back(name);
    if (field->group) collect(*field->group, name + ".", changeable, paths);
  }
}

TEST(ExperimentDifference, OnlyHowTheWorkIsDoneMayChange) {
  Experiment experiment;
  Fields fields;
  experiment.describe(fields);
  std::vector<std::string> changeable, paths;
  collect(fields, "", changeable, paths);
  EXPECT_EQ(changeable, (std::vector<std::string>{"name", "device", "train.steps", "train.micro_batch",
                                                  "train.recompute", "train.attention_backend", "train.zero",
                                                  "train.bucket_mb", "train.rank_timeout", "log"}));
  EXPECT_EQ(paths, (std::vector<std::string>{"data.train_shards", "data.validation_shards", "data.sources.shards",
                                             "data.tokenizer"}));
}

TEST(ExperimentDifference, NamesTheFirstKeyThatMakesADifference) {
  const Json one = resolved({{"seed", 1}});
  EXPECT_FALSE(experiment_difference(
      one,
      resolved({{"seed", 1}, {"name", "other"}, {"train", {{"steps", 7}, {"zero", 1}}}, {"log", {{"every", 3}}}})));
  const auto found = experiment_difference(one, resolved({{"seed", 1}, {"train", {{"steps", 7}, {"batch", 3}}}}));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->key, "train.batch");
  EXPECT_EQ(found->current, 3);
}

TEST(ExperimentDifference, AKeyThatWasNotThereYetHadItsDefault) {
  Json stored = resolved(Json::object());
  stored["train"].erase("grad_clip");
  stored["model"].erase("rope_scaling");
  EXPECT_FALSE(experiment_difference(stored, resolved(Json::object())));
  const auto found = experiment_difference(stored, resolved({{"train", {{"grad_clip", 9}}}}));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->key, "train.grad_clip");
}

// Of two lists the element and its key, or where they are not alike the types: no list is printed whole.
TEST(ExperimentDifference, OfPatternsSaysWhatDiffersAndWhere) {
  const auto model = [](const Json& attention) { return resolved({{"model", {{"attention", attention}}}}); };
  const auto refusal = [&](const Json& stored, const Json& current) {
    return user_error_of([&] { check_same_model(model(stored), model(current), "it"); });
  };
  const Json pattern = {"vga", {{"type", "softmax"}, {"repeat", 3}}};
  EXPECT_EQ(refusal(pattern, pattern), "");
  EXPECT_EQ(refusal(pattern, {"vga", {{"type", "softmax"}, {"repeat", 2}}}),
            "it is of another model: model.attention[1].repeat is 3 there, but 2 in this config");
  EXPECT_EQ(refusal(pattern, {{{"type", "vga"}, {"site", "source"}}, {{"type", "softmax"}, {"repeat", 3}}}),
            "it is of another model: model.attention[0].gate.site is \"output\" there, but \"source\" in this config");
  EXPECT_EQ(refusal(pattern, {"vga", {{"type", "softmax"}, {"repeat", 3}, {"window", 8}}}),
            "it is of another model: model.attention[1].window is the default there, but 8 in this config");
  EXPECT_EQ(refusal(pattern, {"vga", "softmax", "relu"}),
            "it is of another model: model.attention is [\"vga\", \"softmax\" x 3] there, but [\"vga\", \"softmax\", "
            "\"relu\"] in this config");
  EXPECT_EQ(refusal("vga", pattern),
            "it is of another model: model.attention is \"vga\" there, but [\"vga\", \"softmax\" x 3] in this config");
}

TEST(ExperimentDifference, AKeyThatAnElementDoesNotHaveYetHadItsDefault) {
  const Json current = resolved({{"model", {{"attention", {"sigmoid", "softmax"}}}}});
  Json stored = current;
  stored["model"]["attention"][0]["score"].erase("bias");
  const auto found = experiment_difference(stored, current);
  EXPECT_TRUE(!found || found->key == "model.attention[0].score.bias");
}

TEST(ExperimentDifference, FilesMayLieElsewhere) {
  const auto mixture = [](const std::string& folder, double weight) {
    return resolved({{"data",
                      {{"type", "tokens"},
                       {"sources",
                        {{{"shards", {folder + "/web_*.bin"}}, {"weight", weight}},
                         {{"shards", {folder + "/code_*.bin"}}, {"weight", 1}}}},
                       {"validation_shards", {folder + "/held_out.bin"}}}}});
  };
  EXPECT_NO_THROW(check_same_experiment(mixture("/old", 2), mixture("/new", 2), "it"));
  expect_contains(user_error_of([&] { check_same_experiment(mixture("/old", 2), mixture("/new", 3), "it"); }),
                  {"it is of another experiment", "data.sources"});
}

}  // namespace
}  // namespace sluice

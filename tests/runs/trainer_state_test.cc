// "trainer" in state.json: what is written is read again, in the order that it has always had, and what is none is told
// of.
#include "runs/trainer_state.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

constexpr const char* kText =
    R"({"updates":12,"next_sequence":96,"seconds":1.5,"data":"shards a","held_out":"","guard":{"skipped":3,)"
    R"("skipped_in_a_row":1,"rolled_back":2,"window":[2.5,0.1]}})";

TrainerState read(const Json& json) { return TrainerState::read(json, "a/state.json, trainer"); }

TEST(TrainerStates, AreWrittenAsTheyWereRead) {
  const TrainerState state = read(Json::parse(kText));
  EXPECT_EQ(state.updates, 12);
  EXPECT_EQ(state.next_sequence, 96);
  EXPECT_EQ(state.seconds, 1.5);
  EXPECT_EQ(state.data, "shards a");
  EXPECT_EQ(state.guard, (GuardState{3, 1, 2, {2.5, 0.1}}));
  EXPECT_EQ(state.measured, TrainerState::kAllMeasured);
  EXPECT_EQ(state.json().dump(), kText);
}

TEST(TrainerStates, SayWhichMeasurementsAStepLacks) {
  TrainerState state;
  state.measured = 1;
  EXPECT_EQ(state.json().at("measured"), 1);
  EXPECT_EQ(read(state.json()).measured, 1);
  Json later = state.json();
  later["measured"] = 9;  // of a version that measures more
  EXPECT_EQ(read(later).measured, TrainerState::kAllMeasured);
}

TEST(TrainerStates, OfAnImportHaveNoData) {
  EXPECT_EQ(
      TrainerState().json().dump(),
      R"({"updates":0,"next_sequence":0,"seconds":0.0,"guard":{"skipped":0,"skipped_in_a_row":0,"rolled_back":0,"window":[]}})");
  EXPECT_EQ(read(TrainerState().json()).data, "");
}

TEST(TrainerStates, MayHaveKeysOfALaterVersion) {
  Json json = Json::parse(kText);
  json["mood"] = "good";
  json["guard"]["patience"] = 7;
  EXPECT_EQ(read(json).json().dump(), kText);
}

TEST(TrainerStates, ThatAreNoneAreTold) {
  const auto message = [](const char* pointer, const Json& value) {
    Json json = Json::parse(kText);
    json[Json::json_pointer(pointer)] = value;
    return message_of<UserError>([&] { read(json); });
  };
  EXPECT_EQ(message("/updates", -1), "a/state.json, trainer.updates is -1, but must be at least 0");
  EXPECT_EQ(message("/seconds", "long"), "a/state.json, trainer.seconds must be a number, got the string \"long\"");
  EXPECT_EQ(message("/guard/skipped", "many"),
            "a/state.json, trainer.guard.skipped must be an integer, got the string \"many\"");
  EXPECT_EQ(message("/guard/window", {1.0, nullptr}),
            "a/state.json, trainer.guard.window[1] must be a number, got null");
  EXPECT_NE(message("/guard", 1).find("a/state.json, trainer.guard"), std::string::npos);
  for (const char* key : {"updates", "next_sequence", "seconds", "guard"}) {
    Json json = Json::parse(kText);
    json.erase(key);
    const std::string text = message_of<UserError>([&] { read(json); });
    EXPECT_EQ(text.rfind(std::string("a/state.json, trainer: ") + key + " is missing", 0), 0u) << text;
  }
}

}  // namespace
}  // namespace sluice

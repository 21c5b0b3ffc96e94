// metrics.jsonl: valid lines whatever the values, no torn line after a kill, no step twice after a resume.
#include "runs/metrics_log.h"

#include <cmath>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"
#include "train/failures.h"

namespace sluice {
namespace {

Json line_of(int64_t step) { return {{"kind", "train"}, {"step", step}, {"loss", 1.0 / double(step + 3)}}; }

TEST(MetricsLog, OneObjectALineInTheGivenOrder) {
  const TempFolder folder;
  MetricsLog log(folder.file("metrics.jsonl"));
  log.append({{"kind", "train"}, {"step", 1}, {"loss", 2.5}, {"anything", "a"}});
  log.append({{"kind", "eval"}, {"step", 1}});
  EXPECT_EQ(read_file(folder.file("metrics.jsonl")), "") << "not before flush()";
  log.flush();
  EXPECT_EQ(read_file(folder.file("metrics.jsonl")),
            "{\"kind\":\"train\",\"step\":1,\"loss\":2.5,\"anything\":\"a\"}\n{\"kind\":\"eval\",\"step\":1}\n");
  EXPECT_EQ(log.position(), (MetricsPosition{read_file(folder.file("metrics.jsonl")).size(), 2}));
}

TEST(MetricsLog, NumbersComeBackExactly) {
  const TempFolder folder;
  const double values[] = {1.0 / 3, 5e-324, 1.7976931348623157e308, -0.0, 0.1, double(0.1f), 4.35, 1e23};
  {
    MetricsLog log(folder.file("m"));
    log.append({{"values", values}});
  }
  const Json read = Json::parse(read_file(folder.file("m")));
  for (size_t i = 0; i < std::size(values); ++i) {
    EXPECT_EQ(read["values"][i].get<double>(), values[i]);
    EXPECT_EQ(std::signbit(read["values"][i].get<double>()), std::signbit(values[i]));
  }
}

TEST(MetricsLog, WhatIsNotFiniteOrNotTextStaysValidJson) {
  const TempFolder folder;
  {
    MetricsLog log(folder.file("m"));
    log.append({{"loss", std::nan("")}, {"grad_norm", std::numeric_limits<double>::infinity()}, {"name", "\xff\n"}});
  }
  const std::string text = read_file(folder.file("m"));
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  const Json read = Json::parse(text);
  EXPECT_TRUE(read["loss"].is_null());
  EXPECT_TRUE(read["grad_norm"].is_null());
}

TEST(MetricsLog, ATornLastLineIsCut) {
  const TempFolder folder;
  folder.write("m", "{\"step\":1}\n{\"step\":2}\n{\"st");
  MetricsLog log(folder.file("m"));
  EXPECT_EQ(log.position(), (MetricsPosition{22, 2}));
  log.append({{"step", 3}});
  log.flush();
  EXPECT_EQ(read_file(folder.file("m")), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
}

TEST(MetricsLog, AResumedLogEqualsAnUnbrokenOne) {
  const TempFolder folder;
  {
    MetricsLog straight(folder.file("straight"));
    for (int64_t step = 0; step < 10; ++step) straight.append(line_of(step));
  }
  MetricsPosition checkpoint;
  {
    MetricsLog log(folder.file("broken"));
    for (int64_t step = 0; step < 8; ++step) {
      if (step == 5) checkpoint = log.sync();
      log.append(line_of(step));
    }
  }
  MetricsLog log(folder.file("broken"));
  log.append({{"step", -1}});
  EXPECT_EQ(log.truncate_to(checkpoint), std::nullopt);
  for (int64_t step = 5; step < 10; ++step) log.append(line_of(step));
  log.flush();
  EXPECT_EQ(read_file(folder.file("broken")), read_file(folder.file("straight")));
}

TEST(MetricsLog, AFileThatSomeoneChangedIsKeptAndReported) {
  const TempFolder folder;
  folder.write("m", "{\"step\":1}\n");
  MetricsLog log(folder.file("m"));
  const auto shorter = log.truncate_to({100, 9});
  ASSERT_TRUE(shorter.has_value());
  EXPECT_NE(shorter->find("9 lines (100 bytes), of which 1 (11 bytes)"), std::string::npos) << *shorter;
  EXPECT_EQ(log.position(), (MetricsPosition{11, 1}));

  const auto inside_a_line = log.truncate_to({7, 1});
  EXPECT_TRUE(inside_a_line.has_value());
  EXPECT_EQ(read_file(folder.file("m")), "") << "no part of a line stays";
}

TEST(MetricsLog, AFullDiskLeavesWholeLines) {
  const TempFolder folder;
  MetricsLog log(folder.file("m"));
  log.append(line_of(0));
  log.flush();
  const std::string before = read_file(folder.file("m"));
  {
    const FileSizeLimit limit(100);
    log.append({{"text", std::string(200, 'x')}});
    const std::string message = message_of<RunError>([&] { log.flush(); });
    EXPECT_NE(message.find(folder.file("m")), std::string::npos) << message;
  }
  EXPECT_EQ(read_file(folder.file("m")), before);
}

TEST(MetricsLog, AFolderThatIsNotThereIsTheUsersError) {
  EXPECT_THROW(MetricsLog("/proc/sluice/metrics.jsonl"), UserError);
}

}  // namespace
}  // namespace sluice

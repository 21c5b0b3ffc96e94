// The progress line fits the terminal, whatever its width.
#include "train/progress.h"

#include <gtest/gtest.h>

#include "base/console.h"

namespace sluice {
namespace {

const ProgressFigures kFigures{"softmax", 1200, 15000, 4.12345, 3e-4, 123456, "1h05m left"};

TEST(Progress, AllFieldsWithoutALimit) {
  EXPECT_EQ(progress_line(kFigures, 0),
            "softmax        step  1200/15000  loss 4.1235  lr 3.00e-04     123456 tok/s  1h05m left");
}

TEST(Progress, FieldsGoOneByOne) {
  EXPECT_EQ(progress_line(kFigures, 79), "softmax step 1200/15000  loss 4.1235  lr 3.00e-04  123456 tok/s  1h05m left");
  EXPECT_EQ(progress_line(kFigures, 70), "softmax step 1200/15000  loss 4.1235  123456 tok/s  1h05m left");
  EXPECT_EQ(progress_line(kFigures, 50), "softmax step 1200/15000  loss 4.1235  1h05m left");
  EXPECT_EQ(progress_line(kFigures, 39), "softmax step 1200/15000  loss 4.1235");
  EXPECT_EQ(progress_line(kFigures, 30), "step 1200/15000  loss 4.1235");
  EXPECT_EQ(progress_line(kFigures, 24), "1200/15000  loss 4.1235");
  EXPECT_EQ(progress_line(kFigures, 19), "1200/15000");
  EXPECT_EQ(progress_line(kFigures, 5), "1200…");
}

TEST(Progress, EveryWidthIsKept) {
  ProgressFigures figures = kFigures;
  for (const char* name : {"a", "softmax", "模型模型模型模型",
                           "a-name-that-is-longer-than-the-whole-terminal-is-wide-and-wider", "größer\x1b[2J\n", ""}) {
    figures.name = name;
    for (const char* left : {"", "0s left", "123h59m left"}) {
      figures.time_left = left;
      for (size_t columns = 1; columns <= 120; ++columns) {
        const std::string line = progress_line(figures, columns);
        EXPECT_LE(display_width(line), columns) << line;
        EXPECT_EQ(line, harmless(line));
        EXPECT_FALSE(line.empty());
      }
    }
  }
}

TEST(Progress, Durations) {
  EXPECT_EQ(duration_text(12.4), "12s");
  EXPECT_EQ(duration_text(190), "3m10s");
  EXPECT_EQ(duration_text(7500), "2h05m");
}

}  // namespace
}  // namespace sluice

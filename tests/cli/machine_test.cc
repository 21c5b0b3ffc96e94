// Warnings follow from what the machine has; reading it finds at least what every Linux tells.
#include "cli/machine.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace sluice {
namespace {

Machine two_processors() {
  Machine machine;
  machine.processors = machine.usable_processors = 2;
  return machine;
}

TEST(Machine, NothingToWarnAbout) {
  EXPECT_TRUE(machine_warnings(two_processors(), {300, 2000, 40}, 2).empty());
  EXPECT_TRUE(machine_warnings(two_processors(), {}, 2).empty()) << "rates that were not measured say nothing";
}

TEST(Machine, WarnsOfBf16ThatDoesNotPay) {
  EXPECT_EQ(machine_warnings(two_processors(), {300, 150, 40}, 2),
            std::vector<std::string>{"bf16 matmuls are slower than fp32 here: train with train.precision fp32"});
  EXPECT_TRUE(machine_warnings(two_processors(), {300, 290, 40}, 2).empty());
}

TEST(Machine, WarnsOfTooManyAndTooFewThreads) {
  EXPECT_EQ(machine_warnings(two_processors(), {}, 4),
            std::vector<std::string>{"4 threads share 2 processors, which is slow: set OMP_NUM_THREADS=2"});
  EXPECT_EQ(machine_warnings(two_processors(), {}, 1),
            std::vector<std::string>{"only 1 of 2 processors are used (OMP_NUM_THREADS)"});
  Machine container = two_processors();
  container.quota = 1;
  EXPECT_EQ(machine_warnings(container, {}, 2),
            std::vector<std::string>{
                "this container may use 1.0 processors, but there are 2 threads: set OMP_NUM_THREADS=1"});
}

TEST(Machine, ReadsThisMachine) {
  const Machine machine = read_machine();
  EXPECT_GE(machine.processors, 1);
  EXPECT_GE(machine.usable_processors, 1);
  EXPECT_GT(machine.memory_total, 0u);
  EXPECT_LE(machine.memory_available, machine.memory_total);
}

}  // namespace
}  // namespace sluice

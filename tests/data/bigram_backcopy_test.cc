// The Bigram-Backcopy generator against its definition (arXiv 2410.13835): the copying rule on every position, the
// frequencies, the two published constants (25.5% triggers, best risk 2.23 nats), and reproducibility.
#include "data/sources/bigram_backcopy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"

namespace sluice {
namespace {

constexpr int64_t kContext = 256;

BigramBackcopy make(Split split = Split::kTrain, uint64_t seed = 42, int64_t triggers = 3, int64_t context = kContext) {
  return BigramBackcopy(tiny_shakespeare_statistics(), triggers, split, context, seed);
}

struct Batch {
  std::vector<int32_t> inputs, targets;  // [count, context]
};

Batch fill(const DataSource& source, int64_t first, int64_t count) {
  const size_t size = size_t(count * source.context());
  Batch batch{std::vector<int32_t>(size, -1), std::vector<int32_t>(size, -1)};
  source.fill(first, count, batch.inputs.data(), batch.targets.data());
  return batch;
}

TEST(BigramStatistics, BuiltInTableIsTinyShakespeare) {
  const BigramStatistics s = tiny_shakespeare_statistics();
  ASSERT_EQ(s.size(), 65);
  EXPECT_TRUE(std::is_sorted(s.characters.begin(), s.characters.end()));
  EXPECT_EQ(std::accumulate(s.unigram.begin(), s.unigram.end(), uint64_t{0}), 1115394u);
  EXPECT_EQ(std::accumulate(s.bigram.begin(), s.bigram.end(), uint64_t{0}), 1115393u);
  for (size_t a = 0; a < 65; ++a) {  // every character but the last of the text, a newline, has a successor
    const auto row = s.bigram.begin() + int64_t(a) * 65;
    EXPECT_EQ(std::accumulate(row, row + 65, uint64_t{0}) + (s.characters[a] == '\n'), s.unigram[a]) << a;
  }
}

TEST(BigramStatistics, CountsAText) {
  const BigramStatistics s = count_bigrams("abab\377b", "here");
  EXPECT_EQ(s.characters, "ab\377");
  EXPECT_EQ(s.unigram, (std::vector<uint64_t>{2, 3, 1}));
  EXPECT_EQ(s.bigram, (std::vector<uint64_t>{0, 2, 0, 1, 0, 1, 0, 1, 0}));
  TempFolder folder;
  EXPECT_EQ(count_bigrams_of_file(folder.write("a",
                                               "\xEF\xBB\xBF"
                                               "abab"))
                .characters,
            "ab")
      << "a byte order mark is no text";
}

TEST(BigramStatistics, BadTextsAreRefused) {
  TempFolder folder;
  const auto message = [](const std::string& path) {
    return message_of<UserError>([&] { count_bigrams_of_file(path); });
  };
  const std::string missing = folder.file("none.txt");
  EXPECT_EQ(message(missing), "data.statistics: cannot open " + missing + ": No such file or directory");
  const std::string empty = folder.write("empty.txt", "");
  EXPECT_EQ(message(empty), "data.statistics: " + empty + " is empty, so there is nothing to count");
  EXPECT_NE(message(folder.file("")).find("is a folder"), std::string::npos);
  std::string bytes(256, '\0');
  std::iota(bytes.begin(), bytes.end(), '\0');
  const std::string binary = folder.write("binary", bytes);
  EXPECT_EQ(message(binary),
            "data.statistics: " + binary + " has 256 distinct bytes, more than the limit of 250; is it a text?");
  EXPECT_EQ(count_bigrams_of_file(folder.write("fine.txt", bytes.substr(0, 250))).size(), 250);
}

TEST(BigramBackcopy, TokensAndTriggers) {
  const BigramBackcopy task = make();
  EXPECT_EQ(task.vocab_size_needed(), 67);
  EXPECT_EQ(task.bos(), 65);
  std::string triggers;
  for (const int32_t token : task.triggers()) triggers += task.token_text(token);
  EXPECT_EQ(triggers, "\u2423et");
  EXPECT_EQ(task.token_text(0), "\u21b5");
  EXPECT_EQ(task.token_text(65), "BOS");
  EXPECT_EQ(task.token_text(66), "66");
  EXPECT_EQ(task.token_text(64), "z");
}

TEST(BigramBackcopy, EqualCountsMakeTheSmallerIdATrigger) {
  const BigramBackcopy task(count_bigrams("zyzyxwx", "here"), 2, Split::kTrain, 8, 1);  // x, y and z twice each
  EXPECT_EQ(std::vector<int32_t>(task.triggers().begin(), task.triggers().end()), (std::vector<int32_t>{1, 2}));
}

TEST(BigramBackcopy, CopiesAfterTriggersOnEveryPosition) {
  const BigramBackcopy task = make();
  const int64_t count = 200;
  const Batch batch = fill(task, 0, count);
  for (int64_t row = 0; row < count; ++row) {
    const int32_t* input = batch.inputs.data() + row * kContext;
    const int32_t* target = batch.targets.data() + row * kContext;
    ASSERT_EQ(input[0], task.bos());
    ASSERT_FALSE(task.is_trigger(target[0]));
    for (int64_t i = 0; i < kContext; ++i) {
      if (i > 0) {
        ASSERT_EQ(input[i], target[i - 1]);
      }
      ASSERT_TRUE(target[i] >= 0 && target[i] < 65);
      if (task.is_trigger(input[i])) {
        ASSERT_EQ(target[i], input[i - 1]);
        ASSERT_FALSE(task.is_trigger(target[i])) << "two triggers touch";
      } else {
        ASSERT_GT(task.next_distribution(input[i])[size_t(target[i])], 0) << "a bigram that the text never has";
      }
    }
  }
}

TEST(BigramBackcopy, PublishedConstants) {
  const BigramBackcopy task = make();
  EXPECT_NEAR(task.trigger_share(), 0.255, 0.003);
  EXPECT_NEAR(task.best_possible_bigram_risk(), 2.23, 0.01);

  // The exact values against a million sampled positions.
  const Batch batch = fill(task, 0, 4096);
  double triggers = 0, loss = 0;
  for (size_t i = 0; i < batch.inputs.size(); ++i) {
    const int32_t token = batch.inputs[i];
    triggers += task.is_trigger(token);
    if (!task.is_trigger(token)) loss -= std::log(task.next_distribution(token)[size_t(batch.targets[i])]);
  }
  const double positions = double(batch.inputs.size());
  EXPECT_NEAR(triggers / positions, task.trigger_share(), 0.002);
  EXPECT_NEAR(loss / (positions - triggers), task.best_possible_bigram_risk(), 0.006);
}

// Pearson's chi-square of each row's successors, pooled over the rows: mean = degrees of freedom, variance = 2 x that.
TEST(BigramBackcopy, FrequenciesFollowTheTable) {
  const BigramBackcopy task = make(Split::kTrain, 7);
  const Batch batch = fill(task, 0, 8192);
  std::vector<double> seen(67 * 67), row_total(67);
  for (size_t i = 0; i < batch.inputs.size(); ++i) {
    if (task.is_trigger(batch.inputs[i])) continue;
    ++seen[size_t(batch.inputs[i]) * 67 + size_t(batch.targets[i])];
    ++row_total[size_t(batch.inputs[i])];
  }
  double chi_square = 0, freedom = 0;
  for (int32_t a = 0; a <= task.bos(); ++a) {
    if (task.is_trigger(a)) continue;
    const auto p = task.next_distribution(a);
    EXPECT_NEAR(std::accumulate(p.begin(), p.end(), 0.0), 1, 1e-12) << a;
    int cells = 0;
    for (size_t b = 0; b < 67; ++b) {
      const double expected = row_total[size_t(a)] * p[b];
      if (expected < 5) continue;  // too rare for the statistic
      chi_square += std::pow(seen[size_t(a) * 67 + b] - expected, 2) / expected;
      ++cells;
    }
    freedom += std::max(cells - 1, 0);
  }
  EXPECT_GT(freedom, 500);
  EXPECT_NEAR(chi_square, freedom, 5 * std::sqrt(2 * freedom));
}

TEST(BigramBackcopy, BosIsFollowedByTheUnigramsWithoutTriggers) {
  const BigramStatistics s = tiny_shakespeare_statistics();
  const BigramBackcopy task = make();
  double kept = 0;
  for (int32_t a = 0; a < 65; ++a) kept += task.is_trigger(a) ? 0 : double(s.unigram[size_t(a)]);
  const auto p = task.next_distribution(task.bos());
  for (int32_t a = 0; a < 65; ++a) {
    EXPECT_DOUBLE_EQ(p[size_t(a)], task.is_trigger(a) ? 0 : double(s.unigram[size_t(a)]) / kept);
  }
  EXPECT_THROW(task.next_distribution(66), std::logic_error);
}

TEST(BigramBackcopy, ASequenceDependsOnItsNumberAlone) {
  const BigramBackcopy task = make(), longer = make(Split::kTrain, 42, 3, 300);
  const Batch whole = fill(task, 1000, 12);
  for (int64_t row = 0; row < 12; ++row) {
    const Batch one = fill(task, 1000 + row, 1), more = fill(longer, 1000 + row, 1);
    const auto begin = whole.inputs.begin() + row * kContext;
    EXPECT_TRUE(std::equal(one.inputs.begin(), one.inputs.end(), begin));
    EXPECT_TRUE(std::equal(one.targets.begin(), one.targets.end(), whole.targets.begin() + row * kContext));
    EXPECT_TRUE(std::equal(one.inputs.begin(), one.inputs.end(), more.inputs.begin())) << "context changes the data";
  }
  EXPECT_EQ(fill(make(), 1000, 12).inputs, whole.inputs);
  EXPECT_NE(fill(make(Split::kTrain, 43), 1000, 12).inputs, whole.inputs);
  EXPECT_NE(fill(make(Split::kHeldOut), 1000, 12).inputs, whole.inputs);
  EXPECT_NE(fill(task, int64_t{1} << 40, 12).inputs, fill(task, 0, 12).inputs) << "sequence numbers have 64 bits";
}

// Pinned: a change here changes the data of every published run.
TEST(BigramBackcopy, TheFirstTokensOfSeed42) {
  std::string text;
  const BigramBackcopy task = make();
  const Batch batch = fill(task, 0, 1);
  for (size_t i = 0; i < 64; ++i) text += task.token_text(batch.inputs[i]);
  EXPECT_EQ(text,
            "BOSNI\u2423IZAr!\u21b5PETorer,\u21b5QUCAur\u2423r.\u21b5IOS:\u2423:\u21b5FI\u2423ICatavar'llf\u2423f-l"
            "\u2423lldss\u2423s\u2423");
}

TEST(BigramBackcopy, NoTriggersIsAPlainBigramChain) {
  const BigramBackcopy task = make(Split::kTrain, 42, 0);
  EXPECT_TRUE(task.triggers().empty());
  EXPECT_EQ(task.trigger_share(), 0);
}

// "b" ends the text and appears nowhere else: nothing is known to follow it.
TEST(BigramBackcopy, ADeadEndIsFollowedByTheUnigrams) {
  const BigramBackcopy task(count_bigrams("aaacb", "here"), 1, Split::kTrain, 64, 1);
  const auto p = task.next_distribution(1);
  EXPECT_DOUBLE_EQ(p[0], 0.6);
  EXPECT_DOUBLE_EQ(p[1], 0.2);
  fill(task, 0, 50);
}

TEST(BigramBackcopy, TooManyTriggersAreRefused) {
  EXPECT_EQ(message_of<UserError>([] { BigramBackcopy(count_bigrams("abc", "here"), 3, Split::kTrain, 8, 1); }),
            "data.triggers is 3, but here has only 3 distinct characters and at least one must be no trigger");
}

TEST(BigramBackcopy, IdentityFollowsTheStatisticsNotTheSeed) {
  EXPECT_EQ(make().identity(), make(Split::kHeldOut, 1).identity());
  EXPECT_NE(make().identity(), make(Split::kTrain, 42, 5).identity());
  const BigramBackcopy other(count_bigrams("abcdabdc", "here"), 3, Split::kTrain, 8, 42);
  EXPECT_NE(make().identity(), other.identity());
  EXPECT_EQ(make().describe(),
            "bigram_backcopy: 67 tokens from tiny-shakespeare (built in), triggers \u2423 e t, train split");
}

}  // namespace
}  // namespace sluice

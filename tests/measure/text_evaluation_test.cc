// Scores of texts against the plain way: one sequence at a time, unpadded, softmax of the logits in double.
#include "measure/text_evaluation.h"

#include <cmath>

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temp_folder.h"
#include "model/parity.h"

namespace sluice {
namespace {

using namespace parity;

constexpr int64_t kContext = 24;

// In f64, where sums in another order differ by some 1e-15 of their size.
struct Bench {
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Transformer model{
      *backend,
      model_config({{"vocab_size", 257}, {"context", kContext}, {"layers", 2}, {"heads", 2}, {"width", 16}}),
      {.act = DType::kF64, .max_batch = 3, .training = false}};
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer("bytes", "--tokenizer");

  Bench() {
    model.initialise(5);
    // The initial values predict all tokens about alike; larger ones do not.
    for (size_t i = 0; i < model.params().specs().size(); ++i) {
      const Tensor value = model.params().value(ParamId{int(i)});
      Values values = values_of(value);
      for (double& v : values) v *= 8;
      assign(value, values);
    }
  }

  // The log-likelihoods of tokens [1, size) one by one.
  std::vector<double> plain(const std::vector<int32_t>& tokens) {
    std::vector<double> scores;
    const Pass pass = model.forward({tokens.data(), nullptr, 1, int64_t(tokens.size()) - 1});
    model.for_logits(pass, [&](int64_t first, const Tensor& logits) {
      const Values all = values_of(logits);
      for (int64_t row = 0; row < logits.rows(); ++row) {
        double sum = 0;
        for (int64_t v = 0; v < 257; ++v) sum += std::exp(all[size_t(row * 257 + v)]);
        scores.push_back(all[size_t(row * 257 + tokens[size_t(first + row + 1)])] - std::log(sum));
      }
    });
    return scores;
  }
  std::vector<int32_t> encode(const std::string& text, bool marked = true) {
    std::vector<int32_t> tokens;
    if (marked) tokens.push_back(256);
    tokenizer->encode(text, tokens);
    return tokens;
  }
};

double sum_of(const std::vector<double>& values, size_t begin = 0) {
  double sum = 0;
  for (size_t i = begin; i < values.size(); ++i) sum += values[i];
  return sum;
}

TEST(LogLikelihoods, OfTextsOfAllLengths) {
  Bench bench;
  std::vector<ScoredTokens> texts;
  for (const size_t length : {2, 25, 3, 17, 18, 16, 9, 25}) {
    ScoredTokens text;
    for (size_t i = 0; i < length; ++i) text.tokens.push_back(int32_t((i * i * 31 + length * 7) % 257));
    text.first = 1 + length / 3;
    texts.push_back(text);
  }
  const auto scores = log_likelihoods(bench.model, texts);
  ASSERT_EQ(scores.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const double wanted = sum_of(bench.plain(texts[i].tokens), texts[i].first - 1);
    EXPECT_NEAR(scores[i], wanted, 1e-11 * std::abs(wanted)) << i;
  }
}

TEST(Perplexity, WithoutOverlap) {
  Bench bench;
  const std::vector<std::string> documents = {
      "short", "", std::string("a text that is longer than the context of the model "), "exactly twenty-four byte"};
  PerplexityMeter meter(bench.model, *bench.tokenizer, kContext);
  double nats = 0;
  int64_t tokens = 0;
  for (const std::string& document : documents) {
    meter.add(document);
    const auto all = bench.encode(document);
    for (size_t begin = 0; begin + 1 < all.size(); begin += kContext) {
      const size_t end = std::min(all.size(), begin + kContext + 1);
      nats -= sum_of(bench.plain({all.begin() + int64_t(begin), all.begin() + int64_t(end)}));
      tokens += int64_t(end - begin) - 1;
    }
  }
  const PerplexityResult result = meter.finish();
  EXPECT_EQ(result.documents, 3);
  EXPECT_EQ(result.tokens, tokens);
  EXPECT_EQ(result.tokens, 5 + 52 + 24);
  EXPECT_EQ(result.bytes, 5 + 52 + 24);
  EXPECT_NEAR(result.nats, nats, 1e-11 * nats);
  EXPECT_DOUBLE_EQ(result.per_token(), std::exp(result.nats / double(tokens)));
  EXPECT_DOUBLE_EQ(result.per_byte(), result.per_token());  // a token is a byte
  // An exponential multiplies the rounding of its argument, which is some 15 here.
  EXPECT_NEAR(std::exp2(result.bits_per_byte()), result.per_byte(), 1e-13 * result.per_byte());
}

// Trained with a first token in each window, a model is scored with it: windows hold a token of text less.
TEST(Perplexity, BehindAFirstToken) {
  Bench bench;
  const std::string document = "a text that is longer than the context of the model ";
  for (const int32_t opening : {256, 7}) {  // the end of text itself, and another token, behind which that stands
    PerplexityMeter meter(bench.model, *bench.tokenizer, kContext, opening);
    meter.add(document);
    const auto text = bench.encode(document, opening != 256);
    const size_t marked = opening == 256 ? 0 : 1;
    double nats = 0;
    for (size_t begin = 0; begin < text.size(); begin += kContext) {
      std::vector<int32_t> window{opening};
      window.insert(window.end(), text.begin() + int64_t(begin),
                    text.begin() + int64_t(std::min(begin + kContext, text.size())));
      nats -= sum_of(bench.plain(window), begin == 0 ? marked : 0);
    }
    const PerplexityResult result = meter.finish();
    EXPECT_EQ(result.tokens, int64_t(document.size()));
    EXPECT_EQ(result.bytes, int64_t(document.size()));
    EXPECT_NEAR(result.nats, nats, 1e-11 * nats) << opening;
  }
}

// With a stride of 1 every token sees all the context that there is.
TEST(Perplexity, WithStrides) {
  Bench bench;
  const std::string document = "another text that is longer than the context of this small model";
  const auto all = bench.encode(document);
  for (const size_t stride : {1, 5, 23}) {
    PerplexityMeter meter(bench.model, *bench.tokenizer, int64_t(stride));
    meter.add(document);
    double nats = -sum_of(bench.plain({all.begin(), all.begin() + kContext + 1}));
    for (size_t first = kContext + 1; first < all.size(); first += stride) {
      const size_t begin = first - (kContext + 1 - stride), end = std::min(all.size(), first + stride);
      nats -= sum_of(bench.plain({all.begin() + int64_t(begin), all.begin() + int64_t(end)}), first - begin - 1);
    }
    const PerplexityResult result = meter.finish();
    EXPECT_EQ(result.tokens, int64_t(document.size()));
    EXPECT_NEAR(result.nats, nats, 1e-11 * nats) << stride;
  }
}

TEST(HellaSwag, PicksTheLikeliestEnding) {
  Bench bench;
  std::vector<HellaSwagExample> examples;
  for (int i = 0; i < 40; ++i) {
    HellaSwagExample example{"ctx " + std::to_string(i * 37), {}, size_t(i % 4)};
    for (int e = 0; e < 4; ++e)
      example.endings.push_back(std::string(size_t(1 + (i + e * e) % 5), char('a' + (i * 3 + e * 5) % 26)) +
                                "\xC3\xA9");
    examples.push_back(example);
  }
  examples[7].context = "a context that does not fit and loses its beginning";
  HellaSwagResult wanted;
  for (const HellaSwagExample& example : examples) {
    double best_sum = -1e30, best_mean = -1e30;
    size_t by_sum = 0, by_mean = 0;
    for (size_t e = 0; e < 4; ++e) {
      auto tokens = bench.encode(example.context + " " + example.endings[e], false);
      const size_t scored = example.endings[e].size() + 1;  // bytes
      if (tokens.size() > kContext + 1) tokens.erase(tokens.begin(), tokens.end() - (kContext + 1));
      const double sum = sum_of(bench.plain(tokens), tokens.size() - 1 - scored), mean = sum / double(scored);
      if (sum > best_sum) best_sum = sum, by_sum = e;
      if (mean > best_mean) best_mean = mean, by_mean = e;
    }
    wanted.by_sum += by_sum == example.label;
    wanted.by_token += by_mean == example.label;
  }
  int64_t told = 0;
  const HellaSwagResult result =
      evaluate_hellaswag(bench.model, *bench.tokenizer, examples, -1, [&](int64_t done) { told = done; });
  EXPECT_EQ(told, 40);
  EXPECT_EQ(result.examples, 40);
  EXPECT_EQ(result.by_sum, wanted.by_sum);
  EXPECT_EQ(result.by_token, wanted.by_token);
  EXPECT_EQ(result.by_byte, wanted.by_token);  // a token is a byte
  EXPECT_NE(result.by_sum, result.by_token) << "the two ways never differ, so that mixing them up would not be seen";

  examples[3].endings[1] = std::string(40, 'x');
  EXPECT_NE(message_of<UserError>([&] {
              evaluate_hellaswag(bench.model, *bench.tokenizer, examples, -1, [](int64_t) {});
            }).find("has 41 tokens and 7 before it, but model.context is 24"),
            std::string::npos);
}

TEST(HellaSwag, ReadsThePublicFormat) {
  TempFolder folder;
  const std::string good =
      R"({"ind": 4, "ctx": "A man", "endings": ["runs", "eats", "is", "flies"], "label": 2, "split": "val"})";
  const std::string path =
      folder.write("h.jsonl", good + "\n\n" + R"({"ctx": "B", "endings": ["x", "y"], "label": "1"})" + "\n");
  const auto examples = read_hellaswag(path);
  ASSERT_EQ(examples.size(), 2u);
  EXPECT_EQ(examples[0].context, "A man");
  EXPECT_EQ(examples[0].endings, (std::vector<std::string>{"runs", "eats", "is", "flies"}));
  EXPECT_EQ(examples[0].label, 2u);
  EXPECT_EQ(examples[1].label, 1u);
  EXPECT_EQ(read_hellaswag(path, 1).size(), 1u);
  const auto refused = [&](const std::string& line) {
    return message_of<UserError>([&] { read_hellaswag(folder.write("b.jsonl", good + "\n" + line)); });
  };
  EXPECT_NE(refused(R"({"ctx": "B", "endings": ["x", "y"], "label": ""})").find("line 2: \"label\" is the string \"\""),
            std::string::npos);
  EXPECT_NE(refused(R"({"ctx": "B", "endings": ["x", "y"], "label": 2})").find("names none of the 2 endings"),
            std::string::npos);
  EXPECT_NE(refused(R"({"ctx": "B", "endings": ["x"], "label": 0})").find("line 2: not an example"), std::string::npos);
  EXPECT_NE(refused("{").find("line 2:1:"), std::string::npos);
  EXPECT_NE(message_of<UserError>([&] { read_hellaswag(folder.write("e.jsonl", "\n")); }).find("has no examples"),
            std::string::npos);
}

// A NaN compares as never greater, so that the first ending would win; its perplexity would be "nan".
TEST(TextEvaluation, ALossThatIsNotFiniteIsNoFigure) {
  for (const double value : {std::nan(""), double(INFINITY)}) {
    Bench bench;
    const Tensor gain = bench.model.params().value(bench.model.params().find("final_norm.weight"));
    Values values = values_of(gain);
    values[3] = value;
    assign(gain, values);
    PerplexityMeter meter(bench.model, *bench.tokenizer, kContext);
    EXPECT_THROW(
        {
          meter.add("some text");
          meter.finish();
        },
        RunError);
    const std::vector<HellaSwagExample> examples = {{"A", {"b", "c"}, 0}};
    EXPECT_THROW(evaluate_hellaswag(bench.model, *bench.tokenizer, examples, -1, [](int64_t) {}), RunError);
  }
}

}  // namespace
}  // namespace sluice

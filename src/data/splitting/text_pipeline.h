// What happens to a text before the words reach byte-pair encoding: it is normalized and divided, as the "normalizer"
// and the "pre_tokenizer" of a tokenizer.json say.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/config/json_text.h"
#include "data/splitting/expression.h"

namespace sluice {

class TextPipeline {
 public:
  // What the library does with the matches of an expression. `kRemoved` leaves them out, which is only read the other
  // way round (`inverted`): then what does not match is left out, and a text that has any is refused.
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

  static constexpr std::string_view kGpt2 = "gpt2;";  // description() of GPT-2's own

  void normalize_to_nfc();
  void add_split(std::string_view pattern, ExpressionDialect dialect, Behavior behavior, bool inverted);
  void add_literal_split(std::string_view text, Behavior behavior, bool inverted);
  void add_gpt2_split();
  void put_blank_before();
  const std::string& description() const { return description_; }  // the same for the same words

  bool normalizes() const { return nfc_; }
  bool puts_blank_before() const { return blank_before_; }
  // The text in NFC, or as it is; `copy` is for what changes.
  std::string_view normalized(std::string_view text, std::string& copy) const;
  // Calls on_word for one word after the other.
  void divide(std::string_view text, const std::function<void(std::string_view)>& on_word) const;

 private:
  struct Step {
    std::optional<Expression> expression;  // none: GPT-2's words
    Behavior behavior = Behavior::kIsolated;
    bool inverted = false;
  };
  void divide(size_t step, std::string_view text, const std::function<void(std::string_view)>& on_word) const;
  void split(const Step& step, std::string_view text, const std::function<void(std::string_view)>& on_part) const;

  void add(Expression expression, std::string_view spelled, Behavior behavior, bool inverted);

  std::vector<Step> steps_;
  std::string description_;
  bool nfc_ = false, blank_before_ = false;
};

// The parts of a tokenizer.json; both may be null. `byte_level` becomes whether bytes are what is encoded, not
// characters. Throws Unreadable, which names the part.
TextPipeline read_pipeline(const Json& normalizer, const Json& pre_tokenizer, bool& byte_level);

}  // namespace sluice

// The steps of normalizing and dividing a text, one after the other (text_pipeline.h).
#include "data/splitting/text_pipeline.h"

#include <algorithm>

#include "base/error.h"
#include "data/splitting/gpt2_split.h"
#include "data/splitting/nfc.h"

namespace sluice {

void TextPipeline::normalize_to_nfc() {
  if (!nfc_) description_ += "nfc;";
  nfc_ = true;
}

void TextPipeline::add_split(std::string_view pattern, ExpressionDialect dialect, Behavior behavior, bool inverted) {
  add(Expression(pattern, dialect), fmt::format("{} {}", int(dialect), pattern), behavior, inverted);
}

void TextPipeline::add_literal_split(std::string_view text, Behavior behavior, bool inverted) {
  add(Expression::literal(text), fmt::format("text {}", text), behavior, inverted);
}

void TextPipeline::add(Expression expression, std::string_view spelled, Behavior behavior, bool inverted) {
  // To what is isolated it is the same which parts match.
  const bool isolated = behavior == Behavior::kIsolated;
  description_ +=
      fmt::format("split {} {} {} {};", int(behavior), isolated ? false : inverted, spelled.size(), spelled);
  steps_.push_back({std::move(expression), behavior, inverted});
}

void TextPipeline::add_gpt2_split() {
  description_ += kGpt2;
  steps_.push_back({});
}

void TextPipeline::put_blank_before() {
  description_ += "blank;";
  blank_before_ = true;
}

std::string_view TextPipeline::normalized(std::string_view text, std::string& copy) const {
  return nfc_ ? nfc(text, copy) : text;
}

void TextPipeline::divide(std::string_view text, const std::function<void(std::string_view)>& on_word) const {
  if (text.empty()) return;
  if (blank_before_ && text[0] != ' ') return divide(0, std::string(" ").append(text), on_word);
  divide(0, text, on_word);
}

void TextPipeline::divide(size_t step, std::string_view text,
                          const std::function<void(std::string_view)>& on_word) const {
  if (step == steps_.size()) return on_word(text);
  if (step + 1 == steps_.size()) return split(steps_[step], text, on_word);
  split(steps_[step], text, [&](std::string_view part) { divide(step + 1, part, on_word); });
}

namespace {

struct Part {
  size_t begin, end;
  bool match;
};

// The text in parts that match and parts that do not.
template <class OnPart>
void for_each_part(const Expression& expression, std::string_view text, OnPart&& on_part) {
  Expression::Matches matches(expression, text);
  size_t begin = 0, end = 0, done = 0;
  while (matches.next(begin, end)) {
    if (done < begin) on_part(Part{done, begin, false});
    if (begin < end) on_part(Part{begin, end, true});
    done = end;
  }
  if (done < text.size()) on_part(Part{done, text.size(), false});
}

// Joins each part for which joins(part, the one before) to the one before; backwards: to the one behind.
std::vector<Part> joined(std::vector<Part> parts, TextPipeline::Behavior behavior) {
  using enum TextPipeline::Behavior;
  const bool backwards = behavior == kMergedWithNext;
  if (backwards) std::reverse(parts.begin(), parts.end());
  std::vector<Part> out;
  bool last_match = false, first = true;
  for (const Part& part : parts) {
    const bool joins =
        behavior == kContiguous ? !first && part.match == last_match : !first && part.match && !last_match;
    if (joins) {
      out.back().begin = std::min(out.back().begin, part.begin);
      out.back().end = std::max(out.back().end, part.end);
    } else {
      out.push_back(part);
    }
    last_match = part.match;
    first = false;
  }
  if (backwards) std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

void TextPipeline::split(const Step& step, std::string_view text,
                         const std::function<void(std::string_view)>& on_part) const {
  if (!step.expression) {
    while (!text.empty()) {
      const size_t length = gpt2_word_length(text);
      on_part(text.substr(0, length));
      text.remove_prefix(length);
    }
    return;
  }
  if (step.behavior == Behavior::kIsolated || step.behavior == Behavior::kRemoved) {
    for_each_part(*step.expression, text, [&](const Part& part) {
      if (step.behavior == Behavior::kRemoved && !part.match) {
        throw UserError(
            "the tokenizer's expression {} leaves {} bytes of a text out: such a text cannot be encoded with it",
            step.expression->shown(), part.end - part.begin);
      }
      on_part(text.substr(part.begin, part.end - part.begin));
    });
    return;
  }
  std::vector<Part> parts;
  for_each_part(*step.expression, text, [&](Part part) {
    part.match ^= step.inverted;
    parts.push_back(part);
  });
  for (const Part& part : joined(std::move(parts), step.behavior))
    on_part(text.substr(part.begin, part.end - part.begin));
}

// ---- from JSON ------------------------------------------------------------------------------------------------------

namespace {

std::string type_of(const Json& part, const char* what) {
  const Json type = part.is_object() ? part.value("type", Json()) : Json();
  if (!type.is_string()) throw Unreadable{fmt::format("its {} has no \"type\"", what)};
  return type.get<std::string>();
}

const Json& list_of(const Json& part, const char* what, const char* key) {
  const auto list = part.find(key);
  if (list == part.end() || !list->is_array())
    throw Unreadable{fmt::format("its {} \"Sequence\" has no list \"{}\"", what, key)};
  return *list;
}

bool flag_of(const Json& part, const char* key, bool standard) {
  const auto value = part.find(key);
  if (value == part.end() || value->is_null()) return standard;
  if (!value->is_boolean())
    throw Unreadable{fmt::format("\"{}\" is {} and not true or false", key, value->dump().substr(0, 40))};
  return value->get<bool>();
}

void read_normalizer(const Json& part, TextPipeline& pipeline) {
  if (part.is_null()) return;
  const std::string type = type_of(part, "normalizer");
  if (type == "Sequence") {
    for (const Json& inner : list_of(part, "normalizer", "normalizers")) {
      if (inner.is_object() && inner.value("type", Json()) == "Sequence")
        throw Unreadable{"its normalizers are nested"};
      read_normalizer(inner, pipeline);
    }
  } else if (type == "NFC") {
    pipeline.normalize_to_nfc();
  } else {
    throw Unreadable{fmt::format("its normalizer \"{}\" is not read; NFC is, or none", type)};
  }
}

TextPipeline::Behavior behavior_of(const Json& part) {
  using enum TextPipeline::Behavior;
  const Json name = part.value("behavior", Json());
  if (name == "Isolated") return kIsolated;
  if (name == "Removed") return kRemoved;
  if (name == "MergedWithPrevious") return kMergedWithPrevious;
  if (name == "MergedWithNext") return kMergedWithNext;
  if (name == "Contiguous") return kContiguous;
  throw Unreadable{fmt::format("its pre-tokenizer \"Split\" has the behavior {}", name.dump().substr(0, 40))};
}

void read_split(const Json& part, TextPipeline& pipeline) {
  const Json pattern = part.value("pattern", Json());
  const auto behavior = behavior_of(part);
  const bool inverted = flag_of(part, "invert", false);
  if (behavior == TextPipeline::Behavior::kRemoved && !inverted) {
    throw Unreadable{"its pre-tokenizer \"Split\" removes text (behavior \"Removed\" without \"invert\")"};
  }
  const auto text_of = [&](const char* key) -> std::optional<std::string> {
    const auto text = pattern.is_object() ? pattern.find(key) : pattern.end();
    if (!pattern.is_object() || text == pattern.end() || !text->is_string()) return std::nullopt;
    return text->get<std::string>();
  };
  if (const auto expression = text_of("Regex")) {
    pipeline.add_split(*expression, ExpressionDialect::kRuby, behavior, inverted);
  } else if (const auto literal = text_of("String"); literal && !literal->empty()) {
    pipeline.add_literal_split(*literal, behavior, inverted);
  } else {
    throw Unreadable{"its pre-tokenizer \"Split\" has no \"pattern\" with a \"Regex\" or \"String\""};
  }
}

// `first`: nothing stands before this part.
void read_pre_tokenizer(const Json& part, TextPipeline& pipeline, bool& byte_level, bool first) {
  const std::string type = type_of(part, "pre-tokenizer");
  if (byte_level) throw Unreadable{fmt::format("its pre-tokenizer \"{}\" stands behind \"ByteLevel\"", type)};
  if (type == "ByteLevel") {
    byte_level = true;
    const bool blank = flag_of(part, "add_prefix_space", true);
    if (blank && !first)
      throw Unreadable{"its pre-tokenizer \"ByteLevel\" puts a blank before every word (add_prefix_space)"};
    if (blank) pipeline.put_blank_before();
    if (flag_of(part, "use_regex", true)) pipeline.add_gpt2_split();
  } else if (type == "Split") {
    read_split(part, pipeline);
  } else if (type == "Digits") {
    const bool each = flag_of(part, "individual_digits", false);
    pipeline.add_split("\\p{N}", ExpressionDialect::kRuby,
                       each ? TextPipeline::Behavior::kIsolated : TextPipeline::Behavior::kContiguous, false);
  } else {
    throw Unreadable{
        fmt::format("its pre-tokenizer \"{}\" is not read; ByteLevel, Split, Digits and a Sequence of them are", type)};
  }
}

}  // namespace

TextPipeline read_pipeline(const Json& normalizer, const Json& pre_tokenizer, bool& byte_level) {
  TextPipeline pipeline;
  byte_level = false;
  read_normalizer(normalizer, pipeline);
  if (pre_tokenizer.is_null()) return pipeline;
  if (type_of(pre_tokenizer, "pre-tokenizer") != "Sequence") {
    read_pre_tokenizer(pre_tokenizer, pipeline, byte_level, true);
    return pipeline;
  }
  bool first = true;
  for (const Json& part : list_of(pre_tokenizer, "pre-tokenizer", "pretokenizers")) {
    read_pre_tokenizer(part, pipeline, byte_level, first);
    first = false;
  }
  return pipeline;
}

}  // namespace sluice

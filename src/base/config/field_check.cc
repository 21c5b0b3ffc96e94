// The kind of a value, its limits and its choices (field_check.h).
#include "base/config/field_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "base/config/json_reader.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/utf8.h"

namespace sluice {
namespace {

using Kind = Field::Kind;

// Accepts 1e4 and 3.0, as JSON Schema does, as long as nothing is lost.
bool is_whole(const Json& value) {
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  const double number = value.get<double>();
  return std::trunc(number) == number && std::abs(number) <= 0x1p53;
}

// Of a list.
std::optional<Kind> element_kind(Kind list) {
  if (list == Kind::kNumberList) return Kind::kNumber;
  if (list == Kind::kIntegerList) return Kind::kInteger;
  if (list == Kind::kStringList) return Kind::kString;
  return std::nullopt;
}

const char* expected(Kind kind) {
  switch (kind) {
    case Kind::kInteger: return "an integer";
    case Kind::kNumber: return "a number";
    case Kind::kBoolean: return "true or false";
    case Kind::kString: return "a string";
    case Kind::kNumberList: return "a list of numbers";
    case Kind::kIntegerList: return "a list of integers";
    case Kind::kStringList: return "a list of strings";
    case Kind::kGroup: return "an object";
    case Kind::kGroupList: return "a list of objects";
  }
  throw std::logic_error("unknown field kind");
}

bool has_kind(const Json& value, Kind kind) {
  switch (kind) {
    case Kind::kInteger: return is_whole(value);
    case Kind::kNumber: return value.is_number();
    case Kind::kBoolean: return value.is_boolean();
    case Kind::kString: return value.is_string();
    case Kind::kNumberList:
    case Kind::kIntegerList:
    case Kind::kStringList:
    case Kind::kGroupList: return value.is_array();
    case Kind::kGroup: return value.is_object();
  }
  throw std::logic_error("unknown field kind");
}

std::string limits(const Field& field) {
  const auto low = [&] { return fmt::format("{} {}", field.open_minimum ? "above" : "at least", *field.minimum); };
  const auto high = [&] { return fmt::format("{} {}", field.open_maximum ? "below" : "at most", *field.maximum); };
  if (field.minimum && field.maximum) return low() + " and " + high();
  return field.minimum ? low() : high();
}

void check_limits(const Field& field, const Json& value, const std::string& path) {
  const bool is_signed = field.kind == Kind::kInteger && !field.default_value.is_number_unsigned();
  if (is_signed && value.is_number_unsigned() &&
      value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max())) {
    throw UserError("{} is {}, which does not fit in a 64-bit integer", path, value.dump());
  }
  const double number = value.get<double>();
  // Written so that a NaN fails too, should one ever arrive.
  const bool low_ok = !field.minimum || (field.open_minimum ? number > *field.minimum : number >= *field.minimum);
  const bool high_ok = !field.maximum || (field.open_maximum ? number < *field.maximum : number <= *field.maximum);
  if (!low_ok || !high_ok) throw UserError("{} is {}, but must be {}", path, value.dump(), limits(field));
}

void check_choice(const Field& field, const Json& value, const std::string& path) {
  const auto& word = value.get_ref<const std::string&>();
  if (scan_utf8(word).valid != word.size())
    throw UserError("{} is \"{}\", which is not valid UTF-8", path, excerpt(word, kMostQuoted));
  if (field.choices.empty() || std::count(field.choices.begin(), field.choices.end(), word) > 0) return;
  const std::string near = meant(word, field.choices);
  throw UserError("{} is \"{}\", but must be one of {}{}", path, excerpt(word, kMostQuoted), quoted_list(field.choices),
                  near.empty() ? "" : fmt::format("; did you mean \"{}\"?", near));
}

// One number or string, alone or in a list.
void check_scalar(const Field& field, const Json& value, Kind kind, const std::string& path) {
  check_kind(value, kind, path);
  if (kind == Kind::kInteger || kind == Kind::kNumber) check_limits(field, value, path);
  if (kind == Kind::kString) check_choice(field, value, path);
}

}  // namespace

std::string quoted_list(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += fmt::format("{}\"{}\"", text.empty() ? "" : ", ", word);
  return text;
}

void check_kind(const Json& value, Kind kind, const std::string& path) {
  if (kind == Kind::kInteger && value.is_number_float() && std::abs(value.get<double>()) > 0x1p53)
    throw UserError("{} is {}, which does not fit in a 64-bit integer", path, value.dump());
  if (!has_kind(value, kind)) throw UserError("{} must be {}, got {}", path, expected(kind), shown(value));
}

void check_value(const Field& field, const Json& value, const std::string& path) {
  const std::optional<Kind> element = element_kind(field.kind);
  if (!element) return check_scalar(field, value, field.kind, path);
  check_kind(value, field.kind, path);
  if (field.count && value.size() != *field.count) {
    throw UserError("{} has {} elements, but must have {}", path, value.size(), *field.count);
  }
  for (size_t i = 0; i < value.size(); ++i) check_scalar(field, value[i], *element, fmt::format("{}[{}]", path, i));
}

}  // namespace sluice

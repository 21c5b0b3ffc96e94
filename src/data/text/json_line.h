// The text in a line of JSON lines.
//
// Only the field that is asked for counts: other fields may hold what Python writes and strict JSON does not know (NaN,
// Infinity), numbers of any size, keys twice and any depth. The grammar is checked all the same.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

// Why a document cannot be used.
enum class BadText { kNotJson, kNoObject, kMissing, kNull, kNoString, kSurrogate, kInvalid, kTooLong, kNone };

struct JsonLine {
  BadText fault = BadText::kNone;
  std::string reason;     // of the fault, a sentence without its beginning
  uint64_t replaced = 0;  // surrogates that U+FFFD stands for now
};

// Puts the text of `line` (valid UTF-8, without its end) into `text`. `field` is a key, or keys with dots between for
// objects inside objects; a key that has dots itself is found as well, and before those. A surrogate without its other
// half makes a line bad, or with `replace_surrogates` becomes U+FFFD.
JsonLine read_json_line(std::string_view line, std::string_view field, bool replace_surrogates, std::string& text);

// Whether the line is one JSON object.
bool is_json_object(std::string_view line);

}  // namespace sluice

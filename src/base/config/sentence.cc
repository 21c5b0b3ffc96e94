// The words for each kind of exception, cut to their length (sentence.h).
#include "base/config/sentence.h"

#include <filesystem>
#include <ios>
#include <new>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string_view>
#include <system_error>

#include "base/config/json_reader.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/limits.h"

namespace sluice {
namespace {

constexpr int kFailed = 1, kWrongInput = 2;

// The beginning and the end: where a sentence says what is wrong, and what to do.
std::string cut(const std::string& text) {
  if (text.size() <= kMostMessage) return text;
  size_t tail = text.size() - kMostMessage / 4;
  while (tail < text.size() && (static_cast<unsigned char>(text[tail]) & 0xC0) == 0x80) ++tail;
  return fmt::format("{} [{} bytes in all] ...{}", excerpt(text, kMostMessage / 2), text.size(), text.substr(tail));
}

Sentence of_file_system(const std::filesystem::filesystem_error& error) {
  const bool named = !error.path1().empty();
  const std::string path = named ? excerpt(error.path1().string(), kMostMessage / 2) : "a file";
  return {fmt::format("cannot use {}: {}", path, error.code().message()),
          is_about_the_place(error.code().value()) ? kWrongInput : kFailed};
}

// What prints to a full disk or a closed output throws fmt's error, which does not say where to.
Sentence of_system(const std::system_error& error) {
  const bool printing = std::string_view(error.what()).starts_with("cannot write to file");
  return {fmt::format("{}: {}", printing ? "cannot write to the standard output" : "the system refuses",
                      error.code().message()),
          kFailed};
}

// "[json.exception.type_error.316] invalid UTF-8 byte at index 0: 0xFF"
Sentence of_json(const nlohmann::json::exception& error) {
  if (error.id == 316) return {"a name or text that is to be written is not valid UTF-8", kWrongInput};
  return {"a JSON file has a value of another type than it should have", kWrongInput};
}

Sentence in_words(const std::exception& error) {
  if (dynamic_cast<const UserError*>(&error)) return {error.what(), kWrongInput};
  if (const auto* files = dynamic_cast<const std::filesystem::filesystem_error*>(&error)) return of_file_system(*files);
  if (dynamic_cast<const std::ios_base::failure*>(&error)) return {"reading or writing a file failed", kFailed};
  if (const auto* system = dynamic_cast<const std::system_error*>(&error)) return of_system(*system);
  if (dynamic_cast<const std::bad_alloc*>(&error))
    return {"out of memory: the machine, its container or its limit (ulimit -v) gives no more", kFailed};
  if (dynamic_cast<const std::length_error*>(&error)) return {"out of memory: a size is beyond any memory", kFailed};
  if (const auto* json = dynamic_cast<const nlohmann::json::exception*>(&error)) return of_json(*json);
  return {error.what(), kFailed};
}

}  // namespace

Sentence sentence_of(const std::exception& error) {
  Sentence sentence = in_words(error);
  sentence.text = cut(sentence.text);
  return sentence;
}

}  // namespace sluice

// What there is to say of a text that was read; see document_reader.h.
#include "base/error.h"
#include "data/text/document_reader.h"

namespace sluice {
namespace {

// In the order of BadText: "3 documents were left out (--skip-bad): 2 ..., 1 ...".
constexpr const char* kFaults[] = {"no valid JSON",     "no JSON object",   "without the field", "null for the text",
                                   "no string as text", "a lone surrogate", "no valid UTF-8",    "too long"};
static_assert(std::size(kFaults) == size_t(BadText::kNone));

std::string counted(uint64_t count, const char* one, const char* more) {
  return fmt::format("{} {}", count, count == 1 ? one : more);
}

}  // namespace

uint64_t TextReport::left_out() const {
  uint64_t count = 0;
  for (const uint64_t of_kind : bad) count += of_kind;
  return count;
}

std::vector<std::string> TextReport::notes() const {
  std::vector<std::string> notes;
  if (json_by_content > 0) {
    notes.push_back(
        fmt::format("{} read as JSON lines for what {} first line is ({}{}); --format text takes the lines as text",
                    counted(json_by_content, "file was", "files were"), json_by_content == 1 ? "its" : "their",
                    first_by_content, json_by_content == 1 ? "" : " and others"));
  }
  if (replaced > 0)
    notes.push_back(fmt::format("invalid UTF-8 was replaced in {}", counted(replaced, "place", "places")));
  if (empty > 0) {
    notes.push_back(
        fmt::format("{} passed over", counted(empty, "document without text was", "documents without text were")));
  }
  if (left_out() > 0) {
    std::string kinds;
    for (size_t i = 0; i < bad.size(); ++i) {
      if (bad[i] > 0) kinds += fmt::format("{}{} {}", kinds.empty() ? "" : ", ", bad[i], kFaults[i]);
    }
    notes.push_back(fmt::format("--skip-bad left out {}: {}; the first: {}",
                                counted(left_out(), "document", "documents"), kinds, first_bad));
  }
  return notes;
}

void throw_no_text(const TextReport& report) {
  if (report.left_out() == 0) throw UserError("the input has no text");
  throw UserError("the input has no text but what --skip-bad left out, {}; the first: {}",
                  counted(report.left_out(), "document", "documents"), report.first_bad);
}

}  // namespace sluice

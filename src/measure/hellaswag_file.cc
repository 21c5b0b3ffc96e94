// Examples line by line, each checked (hellaswag_file.h).
#include "measure/hellaswag_file.h"

#include <charconv>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/files/line_reader.h"
#include "base/limits.h"
#include "data/text/text_file.h"

namespace sluice {
namespace {

// The label is a number, or one in a string.
size_t label_of(const Json& label, size_t endings, const std::string& place) {
  int64_t value = -1;
  if (label.is_number_integer()) value = label.get<int64_t>();
  if (label.is_string()) {
    const auto& text = label.get_ref<const std::string&>();
    std::from_chars(text.data(), text.data() + text.size(), value);
  }
  if (value < 0 || value >= int64_t(endings)) {
    throw UserError("{}: \"label\" is {}, which names none of the {} endings (the test set has no labels)", place,
                    shown(label), endings);
  }
  return size_t(value);
}

HellaSwagExample example_of(const Json& json, const std::string& place) {
  const auto refuse = [&] {
    throw UserError("{}: not an example of HellaSwag: it needs \"ctx\", two or more \"endings\" and \"label\"", place);
  };
  if (!json.is_object() || !json.contains("ctx") || !json.contains("endings") || !json.contains("label")) refuse();
  const Json& endings = json["endings"];
  if (!json["ctx"].is_string() || !endings.is_array() || endings.size() < 2) refuse();
  HellaSwagExample example{json["ctx"].get<std::string>(), {}, 0};
  for (const Json& ending : endings) {
    if (!ending.is_string() || ending.get_ref<const std::string&>().empty()) refuse();
    example.endings.push_back(ending.get<std::string>());
  }
  example.label = label_of(json["label"], example.endings.size(), place);
  return example;
}

}  // namespace

std::vector<HellaSwagExample> read_hellaswag(const std::string& path, int64_t examples) {
  TextFile file(path);
  uint64_t bytes = 0;
  const auto read = [&](char* to, size_t size) {
    const size_t got = file.read(to, size);
    bytes += got;
    if (bytes > kMostHellaSwagBytes)
      throw UserError("{} has more than {}, the limit for HellaSwag's examples", path, bytes_text(kMostHellaSwagBytes));
    return got;
  };
  LineReader lines(read, path, kMostHellaSwagLine);
  std::vector<HellaSwagExample> list;
  for (std::string line; (examples == 0 || int64_t(list.size()) < examples) && lines.next(line);) {
    if (line.find_first_not_of(" \t") == line.npos) continue;
    list.push_back(example_of(parse_json(line, lines.place()), lines.place()));
  }
  if (list.empty()) throw UserError("{} has no examples", path);
  return list;
}

}  // namespace sluice

// tiktoken's files of ranks, a line "BASE64 RANK" for each token, and Mistral's tekken.json, which says the same and
// more. A rank is the token's id and says how early its bytes are joined.
#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <span>

#include "base/config/json_text.h"
#include "base/error.h"
#include "data/tokenizers/byte_pair_tokenizer.h"
#include "data/tokenizers/tokenizer_files.h"

namespace sluice {
namespace {

// ---- base64 ----------------------------------------------------------------------------------------------------------

int value_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// Nullopt where it is none.
std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string bytes;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int value = i < text.size() - padding ? value_of(text[i]) : 0;
    if (value < 0) return std::nullopt;
    bits = bits << 6 | uint32_t(value);
    if (i % 4 != 3) continue;
    for (const int shift : {16, 8, 0}) bytes += char(bits >> shift & 0xFF);
    bits = 0;
  }
  bytes.erase(bytes.size() - padding);
  return bytes;
}

// ---- what belongs to a file of ranks and is not in it -----------------------------------------------------------------

struct Special {
  const char* name;
  int64_t id;
};

struct Encoding {
  const char* name;
  int64_t ranks;  // in the published file
  const char* expression;
  bool nfc;
  std::span<const Special>
      special;  // of the published file; a file of other size has the first one or two behind its ranks
};

constexpr const char* kGpt2Words = R"('(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s)";
constexpr const char* kCl100kWords =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s)";
constexpr const char* kO200kWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwenWords =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr Special kGpt2Special[] = {{"<|endoftext|>", 50256}};
constexpr Special kCl100kSpecial[] = {{"<|endoftext|>", 100257},
                                      {"<|fim_prefix|>", 100258},
                                      {"<|fim_middle|>", 100259},
                                      {"<|fim_suffix|>", 100260},
                                      {"<|endofprompt|>", 100276}};
constexpr Special kO200kSpecial[] = {{"<|endoftext|>", 199999}, {"<|endofprompt|>", 200018}};
constexpr Special kLlama3Special[] = {{"<|begin_of_text|>", 128000},   {"<|end_of_text|>", 128001},
                                      {"<|start_header_id|>", 128006}, {"<|end_header_id|>", 128007},
                                      {"<|eot_id|>", 128009},          {"<|reserved_special_token_250|>", 128255}};
constexpr Special kQwenSpecial[] = {
    {"<|endoftext|>", 151643}, {"<|im_start|>", 151644}, {"<|im_end|>", 151645}, {"<|extra_204|>", 151850}};

constexpr Encoding kEncodings[] = {{"r50k_base", 50256, kGpt2Words, false, kGpt2Special},
                                   {"p50k_base", 50280, kGpt2Words, false, kGpt2Special},
                                   {"cl100k_base", 100256, kCl100kWords, false, kCl100kSpecial},
                                   {"o200k_base", 199998, kO200kWords, false, kO200kSpecial},
                                   {"llama3", 128000, kLlama3Words, false, kLlama3Special},
                                   {"qwen", 151643, kQwenWords, true, kQwenSpecial}};

const Encoding* encoding_of(const std::string& path, int64_t ranks) {
  const std::string name = std::filesystem::path(path).filename().string();
  for (const Encoding& encoding : kEncodings) {
    if (name.find(encoding.name) != name.npos) return &encoding;
  }
  for (const Encoding& encoding : kEncodings) {
    if (encoding.ranks == ranks) return &encoding;
  }
  return nullptr;
}

void add_special(std::string name, int64_t id, BytePairFiles& files) {
  AddedToken token{.text = std::move(name)};
  token.special = true;
  files.added.emplace_back(std::move(token), id);
}

// The ids between the special tokens that have names are taken by some that no text and no corpus has.
void add_special(const Encoding& encoding, BytePairFiles& files) {
  if (int64_t(files.tokens.size()) == encoding.ranks) {
    for (const Special& special : encoding.special) add_special(special.name, special.id, files);
    return;
  }
  int64_t next = 0;
  for (const auto& [text, rank] : files.tokens) next = std::max(next, rank + 1);
  for (const Special& special : encoding.special.subspan(0, encoding.special[0].name == kEndOfText ? 1 : 2)) {
    add_special(special.name, next++, files);
  }
}

BytePairFiles rank_files(const std::string& path, const std::string& key) {
  BytePairFiles files{{.path = path, .key = key}};
  files.type = "tiktoken";
  files.library_files = false;
  files.ranked = files.raw = files.ignore_merges = true;
  return files;
}

void add_split(const std::string& expression, BytePairFiles& files) {
  try {
    // As tiktoken: what does not match is left out, and a text that has any is refused.
    files.pipeline.add_split(expression, ExpressionDialect::kRust, TextPipeline::Behavior::kRemoved, true);
  } catch (const Unreadable& part) {
    files.refuse_text(part.what);
  }
}

std::optional<std::pair<std::string, int64_t>> read_line(std::string_view line) {
  const size_t blank = line.find(' ');
  if (blank == line.npos) return std::nullopt;
  const auto bytes = from_base64(line.substr(0, blank));
  const std::string_view number = line.substr(blank + 1);
  int64_t rank = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
  if (!bytes || bytes->empty() || error != std::errc() || end != number.data() + number.size() || rank > INT32_MAX) {
    return std::nullopt;
  }
  return std::pair(*bytes, rank);
}

std::string_view take_line(std::string_view& text) {
  std::string_view line = text.substr(0, text.find('\n'));
  text.remove_prefix(std::min(line.size() + 1, text.size()));
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

}  // namespace

bool is_rank_file(std::string_view content) {
  std::string_view rest = content.substr(0, 4096);
  return read_line(take_line(rest)).has_value();
}

std::unique_ptr<Tokenizer> make_rank_tokenizer(std::string_view content, const std::string& path,
                                               const std::string& key) {
  BytePairFiles files = rank_files(path, key);
  int64_t number = 0;
  while (!content.empty()) {
    ++number;
    const std::string_view line = take_line(content);
    if (line.empty()) continue;
    auto token = read_line(line);
    if (!token) files.refuse("line {} is not a token in base64 and its rank", number);
    files.tokens.push_back(std::move(*token));
  }
  const Encoding* encoding = encoding_of(path, int64_t(files.tokens.size()));
  if (!encoding) {
    std::vector<std::string> names;
    for (const Encoding& one : kEncodings) names.emplace_back(one.name);
    files.refuse(
        "a file of ranks lacks the expression that divides text, and its {} ranks are those of no published one; "
        "put the name of the one it belongs to into the file's name ({})",
        files.tokens.size(), fmt::join(names, ", "));
  }
  if (encoding->nfc) files.pipeline.normalize_to_nfc();
  add_split(encoding->expression, files);
  add_special(*encoding, files);
  choose_ends(files, "");
  return make_byte_pair_tokenizer(std::move(files));
}

// ---- tekken.json -----------------------------------------------------------------------------------------------------

bool is_tekken(const Json& json) {
  const Json config = json.is_object() ? json.value("config", Json()) : Json();
  return config.is_object() && config.contains("pattern") && json.contains("vocab");
}

std::unique_ptr<Tokenizer> make_tekken_tokenizer(const Json& json, const std::string& path, const std::string& key) {
  BytePairFiles files = rank_files(path, key);
  const Json& config = json["config"];
  const auto count = [&](const char* name) {
    const Json value = config.value(name, Json());
    if (!value.is_number_unsigned() || value > (1 << 24)) files.refuse("its config has no count \"{}\"", name);
    return value.get<int64_t>();
  };
  const int64_t special = count("default_num_special_tokens"), size = count("default_vocab_size");
  if (size < special) files.refuse("it has more special tokens ({}) than tokens ({})", special, size);
  if (!config["pattern"].is_string()) files.refuse("its \"pattern\" is no text");
  add_split(config["pattern"].get<std::string>(), files);
  if (!json["vocab"].is_array()) files.refuse("its \"vocab\" is no list");
  for (const Json& token : json["vocab"]) {
    const Json rank = token.is_object() ? token.value("rank", Json()) : Json();
    const Json text = token.is_object() ? token.value("token_bytes", Json()) : Json();
    const auto bytes = text.is_string() ? from_base64(text.get<std::string>()) : std::nullopt;
    if (!rank.is_number_unsigned() || !bytes || bytes->empty())
      files.refuse("a token is {}", token.dump().substr(0, 80));
    if (rank.get<uint64_t>() < uint64_t(size - special))
      files.tokens.emplace_back(*bytes, special + rank.get<int64_t>());
  }
  std::vector<std::string> names = {"<unk>", "<s>", "</s>"};
  if (const Json list = json.value("special_tokens", Json()); list.is_array()) {
    names.clear();
    for (const Json& token : list) {
      const Json text = token.is_object() ? token.value("token_str", Json()) : Json();
      if (!text.is_string()) files.refuse("a special token is {}", token.dump().substr(0, 80));
      names.push_back(text.get<std::string>());
    }
  }
  for (int64_t id = 0; id < special; ++id) {
    add_special(size_t(id) < names.size() ? names[size_t(id)] : fmt::format("<SPECIAL_{}>", id), id, files);
  }
  choose_ends(files, "<s>");
  return make_byte_pair_tokenizer(std::move(files));
}

}  // namespace sluice

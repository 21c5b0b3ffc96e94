// The first bytes of other kinds of file, and how they are told from text (foreign_file.h).
#include "data/text/foreign_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "base/console.h"

namespace sluice {
namespace {

using std::string_view_literals::operator""sv;

struct Magic {
  std::string_view bytes;
  const char* what;
  const char* reader;  // a command that writes the text to its output; null: see `remedy`
  const char* remedy;
  size_t at = 0;
};

constexpr const char* kUnpack = "unpack it and name the folder";
constexpr const char* kExtract = "extract its text to files, or to JSON lines";
constexpr const char* kTakeAway = "take it out of the input";
constexpr const char* kArray =
    "Sluice reads token ids without a header by data.shard_format (array.tofile writes such a file), "
    "and text as text";

// UTF-32 before UTF-16, whose mark begins the same.
constexpr Magic kMagics[] = {
    {"\xFF\xFE\0\0"sv, "text in UTF-32", "iconv -f UTF-32 -t UTF-8", nullptr},
    {"\0\0\xFE\xFF"sv, "text in UTF-32", "iconv -f UTF-32 -t UTF-8", nullptr},
    {"\xFF\xFE"sv, "text in UTF-16", "iconv -f UTF-16 -t UTF-8", nullptr},
    {"\xFE\xFF"sv, "text in UTF-16", "iconv -f UTF-16 -t UTF-8", nullptr},
    {"\xFD"
     "7zXZ\0"sv,
     "packed with xz", "xz -dc", nullptr},
    {"]\0\0"sv, "packed with lzma", "xz -dc --format=lzma", nullptr},
    {"BZh"sv, "packed with bzip2", "bzip2 -dc", nullptr},
    {"\x04\x22\x4D\x18"sv, "packed with lz4", "lz4 -dc", nullptr},
    {"\x02\x21\x4C\x18"sv, "packed with lz4", "lz4 -dc", nullptr},
    {"LZIP\x01"sv, "packed with lzip", "lzip -dc", nullptr},
    {"\x89LZO\0\r\n\x1A\n"sv, "packed with lzop", "lzop -dc", nullptr},
    {"\x1F\x9D"sv, "packed with compress", "gzip -dc", nullptr},
    {"\x1F\xA0"sv, "packed with compress", "gzip -dc", nullptr},
    {"\xFF\x06\0\0sNaPpY"sv, "packed with snappy", nullptr, "unpack it first"},
    {"\x1F\x8B"sv, "packed twice", "gzip -dc", nullptr},  // seen behind the first unpacking only
    {"\x28\xB5\x2F\xFD"sv, "packed twice", "zstd -dc", nullptr},
    {"PK\x03\x04"sv, "a zip archive (or a file made as one, as .docx, .npz and PyTorch's are)", nullptr, kUnpack},
    {"PK\x05\x06"sv, "an empty zip archive", nullptr, kUnpack},
    {"PK\x07\x08"sv, "a zip archive", nullptr, kUnpack},
    {"7z\xBC\xAF\x27\x1C"sv, "a 7z archive", nullptr, kUnpack},
    {"Rar!\x1A\x07"sv, "a rar archive", nullptr, kUnpack},
    {"ustar"sv, "a tar archive", nullptr, kUnpack, 257},
    {"PAR1"sv, "a Parquet file", "scripts/from_parquet", nullptr},
    {"PARE"sv, "an encrypted Parquet file", nullptr, "decrypt it first"},
    {"ARROW1"sv, "an Arrow file", "scripts/from_parquet", nullptr},
    {"\xFF\xFF\xFF\xFF"sv, "an Arrow stream, or other binary data", "scripts/from_parquet", nullptr},
    {"FEA1"sv, "a Feather file", nullptr, "save it as Parquet, which scripts/from_parquet reads"},
    {"Obj\x01"sv, "an Avro file", nullptr, kExtract},
    {"ORC"sv, "an ORC file", nullptr, "save it as Parquet, which scripts/from_parquet reads"},
    {"\x93NUMPY"sv, "a numpy array", nullptr, kArray},
    {"MMIDIDX\0\0"sv, "an index of Megatron's tokens", nullptr, kArray},
    {"\x89HDF\r\n\x1A\n"sv, "an HDF5 file", nullptr, kExtract},
    {"SQLite format 3\0"sv, "an SQLite database", nullptr, kExtract},
    {"%PDF-"sv, "a PDF file", nullptr, kExtract},
    {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, "an older Office document", nullptr, kExtract},
    {"GGUF"sv, "a model in GGUF", nullptr, kTakeAway},
    {"\x89PNG\r\n\x1A\n"sv, "a PNG image", nullptr, kTakeAway},
    {"\xFF\xD8\xFF"sv, "a JPEG image", nullptr, kTakeAway},
    {"\x7F"
     "ELF"sv,
     "a program", nullptr, kTakeAway},
};

bool is_readable(char byte) {
  const auto value = static_cast<unsigned char>(byte);
  return (value >= 0x20 && value < 0x7F) || (value >= '\t' && value <= '\r');
}

// A text may begin with the letters of some of them: their other bytes must not look like text.
bool has_magic(std::string_view opening, const Magic& magic) {
  if (opening.size() < magic.at || !opening.substr(magic.at).starts_with(magic.bytes)) return false;
  return !std::all_of(opening.begin(), opening.begin() + int64_t(std::min<size_t>(opening.size(), 64)), is_readable) ||
         magic.at > 0;
}

// PROTO, a protocol number of 2 to 5, then FRAME or the first value; text has no 0x80 there.
bool is_pickle(std::string_view opening) {
  return opening.size() > 3 && opening[0] == '\x80' && opening[1] >= 2 && opening[1] <= 5;
}

// A length of the header in 8 bytes, then the header.
bool is_safetensors(std::string_view opening) {
  return opening.size() > 10 && opening.substr(5, 3) == "\0\0\0"sv && opening.substr(8, 2) == "{\"";
}

// Which of the bytes at each place modulo `width` are zeros, for a text of ASCII in wider characters: bit i of the
// result for place i, where nearly all are.
unsigned zero_places(std::string_view opening, size_t width) {
  size_t zeros[4] = {}, other = 0;
  const size_t units = opening.size() / width;
  for (size_t i = 0; i < units * width; ++i) zeros[i % width] += opening[i] == 0;
  unsigned places = 0;
  for (size_t place = 0; place < width; ++place) {
    if (zeros[place] * 4 >= units * 3) places |= 1u << place;
    else other += zeros[place];
  }
  return units >= 2 && other * 16 <= units ? places : 0;
}

struct Wide {
  const char* what;
  const char* encoding;
};

Wide wide_text(std::string_view opening) {
  if (opening.size() < 6) return {nullptr, nullptr};
  const unsigned four = zero_places(opening, 4), two = zero_places(opening, 2);
  if (four == 0b1110 || four == 0b1100) return {"text in UTF-32 or numbers of 32 bits", "UTF-32LE"};
  if (four == 0b0111 || four == 0b0011) return {"text in UTF-32 or numbers of 32 bits", "UTF-32BE"};
  if (two == 0b10) return {"text in UTF-16 or numbers of 16 bits", "UTF-16LE"};
  if (two == 0b01) return {"text in UTF-16 or numbers of 16 bits", "UTF-16BE"};
  return {nullptr, nullptr};
}

std::string refusal(const FileOrigin& origin, const std::string& what, const std::string& remedy) {
  return fmt::format("{} is {}, not text: {}", origin.name, what, remedy);
}

std::string detour(const FileOrigin& origin, const std::string& what, const std::string& reader) {
  return fmt::format("{} is {}, which is not read as it is: `{}` reads it", origin.name, what, piped(origin, reader));
}

// What goes through the pipe, and the command behind it.
struct Detour {
  std::string inputs, command;
};

constexpr std::string_view kFromParquet = "scripts/from_parquet";

// Whether the word, behind `former`, stands for the file: it is its name; or for a reader of many files the folder in
// which it lies, or another file of its kind.
bool stands_for(const std::string& word, const std::string& former, const FileOrigin& origin,
                const std::string& reader) {
  namespace fs = std::filesystem;
  if (word == origin.path) return true;
  if (reader != kFromParquet || !origin.unpacked_by.empty() || former.starts_with("--")) return false;
  std::error_code error;
  if (fs::is_directory(word, error)) return origin.path.starts_with((fs::path(word) / "").string());
  return fs::path(word).extension() == fs::path(origin.path).extension() && fs::is_regular_file(word, error);
}

Detour detour_of(const FileOrigin& origin, const std::string& reader) {
  const std::vector<std::string>& words = command_words();
  Detour out{"", "sluice"};
  for (size_t i = 1; i < words.size(); ++i) {
    const bool stands = !origin.path.empty() && stands_for(words[i], words[i - 1], origin, reader);
    const std::string word = shell_word(words[i]);
    if (!stands || out.inputs.empty()) out.command += fmt::format(" {}", stands ? "-" : word);
    if (stands) out.inputs += fmt::format("{}{}", out.inputs.empty() ? "" : " ", word);
  }
  const bool found = origin.path.empty() ? words.size() > 1 : !out.inputs.empty();
  return found ? out : Detour{origin.path.empty() ? "" : shell_word(origin.path), "sluice ... -"};
}

}  // namespace

std::string piped(const FileOrigin& origin, const std::string& reader) {
  const Detour detour = detour_of(origin, reader);
  if (detour.inputs.empty()) return fmt::format("{} | {}", reader, detour.command);
  if (origin.unpacked_by.empty()) return fmt::format("{} {} | {}", reader, detour.inputs, detour.command);
  return fmt::format("{} {} | {} | {}", origin.unpacked_by, detour.inputs, reader, detour.command);
}

std::string foreign_file(std::string_view opening, const FileOrigin& origin) {
  opening = opening.substr(0, kForeignOpening);
  for (const Magic& magic : kMagics) {
    if (!has_magic(opening, magic)) continue;
    return magic.reader ? detour(origin, magic.what, magic.reader) : refusal(origin, magic.what, magic.remedy);
  }
  if (is_pickle(opening)) return refusal(origin, "a Python pickle", kExtract);
  if (is_safetensors(opening)) return refusal(origin, "a safetensors file", kTakeAway);
  if (opening.size() >= 16 && std::all_of(opening.begin(), opening.end(), [](char byte) { return byte == 0; })) {
    return refusal(origin, "nothing but zero bytes where it begins", "it may be damaged");
  }
  const Wide wide = wide_text(opening);
  if (!wide.what) return "";
  return detour(origin, fmt::format("{}, by the zeros in it", wide.what),
                fmt::format("iconv -f {} -t UTF-8", wide.encoding));
}

}  // namespace sluice

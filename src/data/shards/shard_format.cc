// Headers read and written. They are copied out of the bytes field by field, so nothing depends on alignment.
#include "data/shards/shard_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "base/error.h"

namespace sluice {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and used as they are");

namespace {

constexpr char kMagic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'T', 'K'};
constexpr uint32_t kVersion = 1;
constexpr int64_t kHeaderBytes = 256, kLlmcHeaderBytes = 1024;
constexpr size_t kChecksumBlock = 1 << 20;  // bytes read at a time
constexpr size_t kChecksumAt = 48, kNameAt = 56, kNameBytes = size_t(kHeaderBytes) - kNameAt;
constexpr int32_t kLlmcMagic16 = 20240520, kLlmcVersion16 = 1, kLlmcMagic32 = 20240801, kLlmcVersion32 = 7;
constexpr int64_t kLargestVocab16 = int64_t{1} << 16, kLargestVocab32 = int64_t{1} << 31;

// More tokens or documents than any file holds, and few enough to be multiplied by 8.
constexpr uint64_t kMostTokens = uint64_t{1} << 56;

using Header = std::array<std::byte, size_t(kHeaderBytes)>;

template <class T>
T at(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <class T>
void put(Header& header, size_t offset, T value) {
  std::memcpy(header.data() + offset, &value, sizeof value);
}

int64_t round_up_8(int64_t bytes) { return (bytes + 7) / 8 * 8; }

void check_size(const std::string& where, const std::string& contents, int64_t expected, uint64_t file_bytes) {
  if (uint64_t(expected) == file_bytes) return;
  throw UserError("{} is {}: its header counts {}, which makes {} bytes, but it has {}", where,
                  file_bytes < uint64_t(expected) ? "truncated" : "damaged", contents, expected, file_bytes);
}

ShardInfo sluice_info(std::span<const std::byte> header, uint64_t file_bytes, const std::string& where) {
  const auto version = at<uint32_t>(header, 8), token_bytes = at<uint32_t>(header, 12);
  const auto tokens = at<uint64_t>(header, 16), documents = at<uint64_t>(header, 24), vocab = at<uint64_t>(header, 32);
  if (version != kVersion) {
    throw UserError("{} is a shard of version {}, but only version {} can be read", where, version, kVersion);
  }
  if (token_bytes != 2 && token_bytes != 4) {
    throw UserError("{} is damaged: its header says {} bytes a token, not 2 or 4", where, token_bytes);
  }
  const auto largest_vocab = uint64_t(token_bytes == 2 ? kLargestVocab16 : kLargestVocab32);
  if (vocab == 0 || vocab > largest_vocab) {
    throw UserError("{} is damaged: its header says a vocabulary of {}, but {}-byte tokens know 1 to {}", where, vocab,
                    token_bytes, largest_vocab);
  }
  if (tokens > kMostTokens || documents > tokens) {
    throw UserError("{} is damaged: its header counts {} documents of {} tokens", where, documents, tokens);
  }
  ShardInfo info;
  info.token_bytes = token_bytes;
  info.tokens = int64_t(tokens);
  info.tokens_at = kHeaderBytes;
  info.documents = int64_t(documents);
  info.documents_at = round_up_8(kHeaderBytes + info.tokens * info.token_bytes);
  info.vocab_size = int64_t(vocab);
  info.tokenizer_hash = at<uint64_t>(header, 40);
  const char* name = reinterpret_cast<const char*>(header.data()) + kNameAt;
  info.tokenizer_name.assign(name, strnlen(name, kNameBytes));
  info.checksum = at<uint64_t>(header, kChecksumAt);
  check_size(where, fmt::format("{} tokens and {} documents", tokens, documents),
             info.documents_at + 8 * info.documents, file_bytes);
  return info;
}

ShardInfo llmc_info(std::span<const std::byte> header, uint64_t file_bytes, const std::string& where) {
  const auto magic = at<int32_t>(header, 0), version = at<int32_t>(header, 4), count = at<int32_t>(header, 8);
  const int32_t known = magic == kLlmcMagic16 ? kLlmcVersion16 : kLlmcVersion32;
  ShardInfo info;
  info.format = ShardFormat::kLlmc;
  info.token_bytes = magic == kLlmcMagic16 ? 2 : 4;
  if (version != known) {
    throw UserError(
        "{} is a shard of version {}, but of this kind (llm.c, magic {}) only version {} (uint{} tokens) can "
        "be read",
        where, version, magic, known, 8 * info.token_bytes);
  }
  info.tokens = count;
  info.tokens_at = kLlmcHeaderBytes;
  check_size(where, fmt::format("{} tokens", count), kLlmcHeaderBytes + info.tokens * info.token_bytes, file_bytes);
  return info;
}

bool has_own_magic(std::span<const std::byte> opening) {
  return opening.size() >= sizeof kMagic && std::memcmp(opening.data(), kMagic, sizeof kMagic) == 0;
}

bool has_llmc_magic(std::span<const std::byte> opening) {
  if (opening.size() < sizeof(int32_t)) return false;
  const auto magic = at<int32_t>(opening, 0);
  return magic == kLlmcMagic16 || magic == kLlmcMagic32;
}

// A file that says it is llm.c's and has exactly the size that it says.
bool is_whole_llmc(std::span<const std::byte> opening, uint64_t file_bytes) {
  if (!has_llmc_magic(opening) || opening.size() < size_t(kLlmcHeaderBytes)) return false;
  const bool narrow = at<int32_t>(opening, 0) == kLlmcMagic16;
  const auto count = at<int32_t>(opening, 8);
  return at<int32_t>(opening, 4) == (narrow ? kLlmcVersion16 : kLlmcVersion32) && count >= 0 &&
         file_bytes == uint64_t(kLlmcHeaderBytes) + uint64_t(count) * (narrow ? 2 : 4);
}

ShardInfo plain_info(std::span<const std::byte> opening, uint64_t file_bytes, const std::string& where,
                     int64_t token_bytes) {
  constexpr std::string_view kNumpy = "\x93NUMPY";
  if (opening.size() >= kNumpy.size() && std::memcmp(opening.data(), kNumpy.data(), kNumpy.size()) == 0) {
    throw UserError("{} is a numpy array with numpy's header, not tokens alone; array.tofile(FILE) writes those",
                    where);
  }
  if (file_bytes % uint64_t(token_bytes) != 0) {
    throw UserError("{} is truncated: {} bytes are no whole number of uint{} tokens", where, file_bytes,
                    8 * token_bytes);
  }
  ShardInfo info;
  info.format = ShardFormat::kPlain;
  info.token_bytes = token_bytes;
  info.tokens = int64_t(file_bytes) / token_bytes;
  return info;
}

Header header_of(const ShardInfo& info) {
  Header header{};
  std::memcpy(header.data(), kMagic, sizeof kMagic);
  put(header, 8, kVersion);
  put(header, 12, uint32_t(info.token_bytes));
  put(header, 16, uint64_t(info.tokens));
  put(header, 24, uint64_t(info.documents));
  put(header, 32, uint64_t(info.vocab_size));
  put(header, 40, info.tokenizer_hash);
  put(header, kChecksumAt, info.checksum);
  std::memcpy(header.data() + kNameAt, info.tokenizer_name.data(), info.tokenizer_name.size());
  return header;
}

// At most kNameBytes - 1 bytes, not cut inside a UTF-8 character.
std::string fitting_name(std::string name) {
  size_t size = std::min(name.size(), kNameBytes - 1);
  while (size < name.size() && size > 0 && (uint8_t(name[size]) & 0xC0) == 0x80) --size;
  name.resize(size);
  return name;
}

template <class T>
void narrow(std::span<const int32_t> tokens, int64_t vocab_size, std::vector<std::byte>& out) {
  out.resize(tokens.size() * sizeof(T));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t token = tokens[i];
    if (token < 0 || token >= vocab_size) {
      throw std::logic_error(fmt::format("token id {} for a shard whose vocabulary is {}", token, vocab_size));
    }
    const T stored = T(token);
    std::memcpy(out.data() + i * sizeof(T), &stored, sizeof(T));
  }
}

}  // namespace

PlainTokens plain_tokens(const std::string& name) {
  return name == "uint16" ? PlainTokens::kUint16 : name == "uint32" ? PlainTokens::kUint32 : PlainTokens::kHeader;
}

bool opens_like_shard(std::span<const std::byte> opening) { return has_own_magic(opening) || has_llmc_magic(opening); }

ShardInfo read_shard_info(std::span<const std::byte> opening, uint64_t file_bytes, const std::string& where,
                          PlainTokens plain) {
  const auto require = [&](int64_t bytes) {
    if (std::min(uint64_t(opening.size()), file_bytes) >= uint64_t(bytes)) return;
    throw UserError("{} is truncated: {} bytes are fewer than the {} of a shard's header", where, file_bytes, bytes);
  };
  const bool is_sluice = has_own_magic(opening);
  if (plain != PlainTokens::kHeader && !is_sluice && !is_whole_llmc(opening, file_bytes)) {
    return plain_info(opening, file_bytes, where, int64_t(plain));
  }
  require(sizeof kMagic);
  if (is_sluice) {
    require(kHeaderBytes);
    return sluice_info(opening, file_bytes, where);
  }
  if (has_llmc_magic(opening)) {
    require(kLlmcHeaderBytes);
    return llmc_info(opening, file_bytes, where);
  }
  throw UserError(
      "{} is not a token shard: it starts neither with SLUICETK nor with llm.c's {} or {}; for token ids without "
      "a header say of which width they are (data.shard_format, or --shard-format of tokenizer decode: uint16 or "
      "uint32)",
      where, kLlmcMagic16, kLlmcMagic32);
}

namespace {

// The largest of the numbers at odd places and of those at even ones.
template <class T>
std::pair<uint64_t, uint64_t> largest_by_place(std::span<const std::byte> tokens) {
  T largest[2] = {0, 0};
  for (size_t i = 0; i < tokens.size() / sizeof(T); ++i)
    largest[i % 2] = std::max(largest[i % 2], at<T>(tokens, i * sizeof(T)));
  return {largest[1], largest[0]};
}

}  // namespace

// The upper halves of wider ids: nothing but zeros, or few values where the lower halves have many.
std::string width_suspicion(std::span<const std::byte> tokens, int64_t token_bytes) {
  constexpr size_t kFewest = 16;
  constexpr uint64_t kUpper = 64, kLower = 4096;  // 64 * 65536 is more than any vocabulary
  if (tokens.size() < kFewest * size_t(token_bytes)) return "";
  const auto [odd, even] = token_bytes == 2 ? largest_by_place<uint16_t>(tokens) : largest_by_place<uint32_t>(tokens);
  if (even == 0 || (odd > 0 && (odd >= kUpper || even < kLower))) return "";
  const std::string seen = fmt::format("every second of its {}-bit tokens is {}", 8 * token_bytes,
                                       odd == 0 ? "0" : fmt::format("{} or less", odd));
  if (token_bytes == 4)
    return seen + ", so its ids seem to have 64 bits, which no shard has; write them as uint32 or uint16";
  return seen + ", so its ids seem to have 32 bits: that is uint32";
}

uint64_t shard_checksum(uint64_t bytes, const ShardRead& read) {
  check_le(uint64_t(kHeaderBytes), bytes, "the header of a shard");
  Checksum sum;
  std::vector<std::byte> block(kChecksumBlock);
  for (uint64_t at = kHeaderBytes; at < bytes; at += block.size()) {
    const size_t count = size_t(std::min<uint64_t>(block.size(), bytes - at));
    read(at, block.data(), count);
    sum.update(block.data(), count);
  }
  Header header;
  read(0, header.data(), header.size());
  put(header, kChecksumAt, uint64_t{0});
  sum.update(header.data(), header.size());
  return sum.value();
}

uint64_t shard_checksum(std::span<const std::byte> file) {
  return shard_checksum(file.size(), [&](uint64_t offset, std::byte* data, size_t bytes) {
    std::copy_n(file.begin() + std::ptrdiff_t(offset), bytes, data);
  });
}

// ---- ShardWriter ----------------------------------------------------------------------------------------------------

ShardWriter::ShardWriter(std::filesystem::path path, int64_t token_bytes, int64_t vocab_size,
                         std::string tokenizer_name, uint64_t tokenizer_hash)
    : path_(std::move(path)) {
  check(token_bytes == 2 || token_bytes == 4, "a shard's tokens have 2 or 4 bytes");
  check(vocab_size > 0, "a shard's vocabulary is not empty");
  const int64_t largest = token_bytes == 2 ? kLargestVocab16 : kLargestVocab32;
  if (vocab_size > largest) {
    throw UserError("{}: the tokenizer {} has {} tokens, but {}-bit shards hold ids of at most {} tokens{}",
                    path_.string(), tokenizer_name, vocab_size, 8 * token_bytes, largest,
                    token_bytes == 2 ? "; write 32-bit shards" : "");
  }
  info_.token_bytes = token_bytes;
  info_.vocab_size = vocab_size;
  info_.tokenizer_name = fitting_name(std::move(tokenizer_name));
  info_.tokenizer_hash = tokenizer_hash;
  file_ = std::make_unique<FileWriter>(path_.string() + ".part");
  const Header empty{};  // no magic: until finish() this is no shard, whatever its name
  file_->write(empty.data(), empty.size());
}

void ShardWriter::write(const void* data, size_t bytes) {
  file_->write(data, bytes);
  checksum_.update(data, bytes);
}

void ShardWriter::begin_document() { begun_ = true; }

void ShardWriter::append(std::span<const int32_t> tokens) {
  if (tokens.empty()) return;
  check(begun_ || !documents_.empty(), "a shard's first token belongs to a document");
  if (std::exchange(begun_, false)) documents_.push_back(uint64_t(info_.tokens));
  if (info_.token_bytes == 2) narrow<uint16_t>(tokens, info_.vocab_size, narrowed_);
  else narrow<uint32_t>(tokens, info_.vocab_size, narrowed_);
  write(narrowed_.data(), narrowed_.size());
  info_.tokens += int64_t(tokens.size());
}

void ShardWriter::finish() {
  const int64_t end = kHeaderBytes + info_.tokens * info_.token_bytes;
  const std::array<std::byte, 8> zeros{};
  write(zeros.data(), size_t(round_up_8(end) - end));
  write(documents_.data(), documents_.size() * sizeof(uint64_t));
  info_.documents = documents();
  Header header = header_of(info_);  // its checksum is still zero
  checksum_.update(header.data(), header.size());
  info_.checksum = checksum_.value();
  header = header_of(info_);
  file_->overwrite(0, header.data(), header.size());
  const std::filesystem::path aside = path_.string() + ".part";
  file_->finish();
  rename_durably(aside, path_);
}

}  // namespace sluice

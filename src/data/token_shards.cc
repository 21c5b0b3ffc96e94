// See token_shards.h.
#include "data/token_shards.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include <fcntl.h>
#include <glob.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/error.h"
#include "data/permutation.h"

namespace sluice {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and mapped as they are");

namespace {

constexpr int64_t kHeaderBytes = kShardHeaderInts * int64_t(sizeof(int32_t));
constexpr int64_t kOpeningScan = 1 << 20;    // tokens of each shard that are checked against the vocabulary at once
constexpr size_t kIdentityTokens = 1 << 16;  // tokens at each end of a shard that its identity depends on

// The files that `patterns` name, those of one glob in alphabetical order.
std::vector<std::string> expand(const std::vector<std::string>& patterns, const std::string& key) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    if (pattern.find_first_of("*?[") == std::string::npos) {
      paths.push_back(pattern);
      continue;
    }
    glob_t found{};
    const int status = glob(pattern.c_str(), 0, nullptr, &found);
    if (status == 0) paths.insert(paths.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
    globfree(&found);
    if (status != 0) throw UserError("{}: no file matches {}", key, pattern);
  }
  return paths;
}

}  // namespace

Shard::Shard(const std::string& path, const std::string& key) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw UserError("{}: cannot open {}: {}", key, path, std::strerror(errno));
  struct stat status {};
  const bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  bytes_ = regular ? size_t(status.st_size) : 0;
  if (int64_t(bytes_) >= kHeaderBytes) map_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0);
  const int map_error = errno;
  close(file);
  if (!regular) throw UserError("{}: {} is not a file", key, path);
  if (map_ == nullptr) {
    throw UserError("{}: {} is truncated: {} bytes are fewer than the {} of a shard's header", key, path, bytes_,
                    kHeaderBytes);
  }
  if (map_ == MAP_FAILED) throw UserError("{}: cannot map {}: {}", key, path, std::strerror(map_error));
  try {
    check_header(key);
  } catch (...) {
    munmap(map_, bytes_);
    throw;
  }
}

Shard::~Shard() { munmap(map_, bytes_); }

void Shard::check_header(const std::string& key) {
  std::array<int32_t, 3> header;
  std::memcpy(header.data(), map_, sizeof header);
  const auto [magic, version, count] = header;
  if (magic != kShardMagic) {
    throw UserError("{}: {} is not a token shard: it starts with {}, not with {}", key, path_, magic, kShardMagic);
  }
  if (version != kShardVersion) {
    throw UserError("{}: {} is a shard of version {}, but only version {} (uint16 tokens) can be read", key, path_,
                    version, kShardVersion);
  }
  const int64_t expected = kHeaderBytes + int64_t(count) * int64_t(sizeof(uint16_t));
  if (expected != int64_t(bytes_)) {
    throw UserError("{}: {} is {}: its header counts {} tokens, which makes {} bytes, but it has {}", key, path_,
                    int64_t(bytes_) < expected ? "truncated" : "damaged", count, expected, bytes_);
  }
  tokens_ = {reinterpret_cast<const uint16_t*>(static_cast<const char*>(map_) + kHeaderBytes), size_t(count)};
}

TokenShards::TokenShards(const std::vector<std::string>& patterns, std::string key, Split split, int64_t context,
                         int64_t vocab_size, uint64_t seed)
    : DataSource(context), key_(std::move(key)), split_(split), vocab_size_(vocab_size), seed_(seed) {
  if (patterns.empty()) {
    throw UserError("{} names no file, so there are no tokens to {}", key_,
                    split == Split::kTrain ? "train on"
                                           : "evaluate on; where none are wanted, set log.eval_every, "
                                             "log.probe_every and log.map_positions to 0");
  }
  for (const std::string& path : expand(patterns, key_)) {
    shards_.push_back(std::make_unique<Shard>(path, key_));
    const int64_t count = int64_t(shards_.back()->tokens().size());
    largest_token_ = std::max(largest_token_, check_tokens(*shards_.back(), 0, std::min(count, kOpeningScan)));
    first_window_.push_back(first_window_.back() + std::max<int64_t>(count - 1, 0) / context);
    tokens_ += count;
  }
  if (first_window_.back() == 0) {
    throw UserError("{} has {} tokens in {} file(s), and none holds one window of model.context + 1 = {} tokens", key_,
                    tokens_, shards_.size(), context + 1);
  }
}

int64_t TokenShards::check_tokens(const Shard& shard, int64_t start, int64_t count) const {
  const auto tokens = shard.tokens().subspan(size_t(start), size_t(count));
  uint16_t largest = 0;  // a plain loop, so that it is vectorised
  for (const uint16_t token : tokens) largest = std::max(largest, token);
  if (largest >= vocab_size_) {
    const auto bad = std::find_if(tokens.begin(), tokens.end(), [this](uint16_t t) { return t >= vocab_size_; });
    throw UserError("{}: {} has token id {} at position {}, but model.vocab_size is {}", key_, shard.path(), *bad,
                    start + (bad - tokens.begin()), vocab_size_);
  }
  return largest;
}

int64_t TokenShards::window_of(int64_t sequence) const {
  const int64_t windows = sequences_per_epoch(), place = sequence % windows;
  if (split_ == Split::kHeldOut) return place;
  return int64_t(Permutation(uint64_t(windows), seed_, uint32_t(sequence / windows))(uint64_t(place)));
}

void TokenShards::fill(int64_t first_sequence, int64_t count, int32_t* inputs, int32_t* targets) const {
  check(first_sequence >= 0, "sequence numbers start at 0");
  const int64_t length = context();
  for (int64_t row = 0; row < count; ++row) {
    const int64_t window = window_of(first_sequence + row);
    const size_t index =
        size_t(std::upper_bound(first_window_.begin(), first_window_.end(), window) - first_window_.begin()) - 1;
    const Shard& shard = *shards_[index];
    const int64_t start = (window - first_window_[index]) * length;
    check_tokens(shard, start, length + 1);
    const auto first = shard.tokens().begin() + start;
    std::copy(first, first + length, inputs + row * length);
    std::copy(first + 1, first + length + 1, targets + row * length);
  }
}

std::string TokenShards::describe() const {
  return fmt::format("tokens: {} tokens in {} file(s), {} windows of {}, {} split", tokens_, shards_.size(),
                     sequences_per_epoch(), context(), split_name(split_));
}

std::string TokenShards::identity() const {
  XXH64_hash_t hash = 0;
  for (const auto& shard : shards_) {
    const auto tokens = shard->tokens();
    const size_t edge = std::min(tokens.size(), kIdentityTokens);
    for (const auto part : {tokens.first(edge), tokens.last(edge)}) {
      hash = XXH64(part.data(), part.size_bytes(), hash + tokens.size());
    }
  }
  return fmt::format("tokens:{}:{:016x}", tokens_, hash);
}

void write_shard(const std::string& path, std::span<const uint16_t> tokens) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (int64_t(tokens.size()) > kMost) {
    throw UserError("{}: a shard holds at most {} tokens, but {} were given; write several shards", path, kMost,
                    tokens.size());
  }
  std::array<int32_t, kShardHeaderInts> header{kShardMagic, kShardVersion, int32_t(tokens.size())};
  const std::string aside = path + ".part";
  std::ofstream file(aside, std::ios::binary);
  file.write(reinterpret_cast<const char*>(header.data()), kHeaderBytes);
  file.write(reinterpret_cast<const char*>(tokens.data()), std::streamsize(tokens.size_bytes()));
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(aside, path, error);
  if (file && !error) return;
  const int cause = file ? error.value() : errno;
  std::filesystem::remove(aside, error);
  throw RunError("cannot write the token shard {}: {}", path, std::strerror(cause));
}

}  // namespace sluice

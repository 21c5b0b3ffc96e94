// See shard.h.
#include "data/shard.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

namespace sluice {

Shard::Shard(std::string path, const std::string& key, bool plain16) : path_(std::move(path)) {
  const int file = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is not waited for
  if (file < 0) throw UserError("{}: cannot open {}: {}", key, path_, std::strerror(errno));
  struct stat status {};
  const bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  bytes_ = regular ? size_t(status.st_size) : 0;
  void* map = bytes_ > 0 ? mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, file, 0) : nullptr;
  const int map_error = errno;
  close(file);
  if (!regular) throw UserError("{}: {} is not a file", key, path_);
  if (map == MAP_FAILED) throw UserError("{}: cannot map {}: {}", key, path_, std::strerror(map_error));
  map_ = static_cast<const std::byte*>(map);
  try {
    info_ = read_shard_info({map_, std::min(bytes_, kShardHeaderRead)}, bytes_, fmt::format("{}: {}", key, path_),
                            plain16);
  } catch (...) {
    if (map) munmap(map, bytes_);
    throw;
  }
}

Shard::~Shard() {
  if (map_) munmap(const_cast<std::byte*>(map_), bytes_);
}

std::span<const std::byte> Shard::stored(int64_t start, int64_t count) const {
  check_le(start + count, info_.tokens, "the end of a stretch of a shard");
  return {map_ + info_.tokens_at + start * info_.token_bytes, size_t(count * info_.token_bytes)};
}

// Calls use(span of uint16 or uint32).
template <class Use>
auto Shard::with_tokens(int64_t start, int64_t count, const Use& use) const {
  const std::byte* first = stored(start, count).data();
  if (info_.token_bytes == 2) return use(std::span(reinterpret_cast<const uint16_t*>(first), size_t(count)));
  return use(std::span(reinterpret_cast<const uint32_t*>(first), size_t(count)));
}

void Shard::copy(int64_t start, int64_t count, int32_t* out) const {
  with_tokens(start, count, [&](auto tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) out[i] = int32_t(tokens[i]);
  });
}

int64_t Shard::largest(int64_t start, int64_t count) const {
  return with_tokens(start, count, [](auto tokens) {
    typename decltype(tokens)::value_type largest = 0;  // a plain loop, so that it is vectorised
    for (const auto token : tokens) largest = std::max(largest, token);
    return tokens.empty() ? int64_t{-1} : int64_t(largest);
  });
}

void Shard::verify(const std::string& key) const {
  if (info_.format != ShardFormat::kSluice) return;
  const uint64_t found = shard_checksum({map_, bytes_});
  if (found == info_.checksum) return;
  throw UserError("{}: {} is damaged: its checksum is {}, but its header says {}", key, path_, checksum_text(found),
                  checksum_text(info_.checksum));
}

// ---- documents ------------------------------------------------------------------------------------------------------

void Shard::find_documents(int64_t token, bool whole, const std::string& key) {
  if (info_.documents > 0) {
    documents_ = {reinterpret_cast<const uint64_t*>(map_ + info_.documents_at), size_t(info_.documents)};
    return check_documents(key);
  }
  document_token_ = token;
  if (!whole || info_.tokens == 0) return;
  found_.push_back(0);
  add_matches(1, info_.tokens - 1, found_);
  documents_ = found_;
}

bool Shard::has_documents() const {
  constexpr int64_t kBlock = 1 << 20;
  if (info_.documents > 0) return true;
  std::vector<uint64_t> matches;
  for (int64_t start = 0; start < info_.tokens && matches.empty(); start += kBlock) {
    add_matches(start, std::min(kBlock, info_.tokens - start), matches);
  }
  return !matches.empty();
}

void Shard::check_documents(const std::string& key) const {
  const auto unordered = std::adjacent_find(documents_.begin(), documents_.end(), std::greater_equal<>());
  if (documents_.front() == 0 && documents_.back() < uint64_t(info_.tokens) && unordered == documents_.end()) return;
  throw UserError("{}: {} is damaged: its list of document starts does not go from 0 upwards to below its {} tokens", key,
                  path_, info_.tokens);
}

void Shard::add_matches(int64_t start, int64_t count, std::vector<uint64_t>& out) const {
  with_tokens(start, count, [&](auto tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (int64_t(tokens[i]) == document_token_) out.push_back(uint64_t(start) + i);
    }
  });
}

}  // namespace sluice

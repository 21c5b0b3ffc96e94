// Reading with pread, what tells that a file was written to meanwhile, and where documents start (shard.h).
#include "data/shards/shard.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "data/shards/shard_naming.h"

namespace sluice {

namespace {

constexpr int64_t kBlock = 1 << 16;           // tokens read at a time
constexpr size_t kFingerprintEdge = 1 << 16;  // bytes at each end that the fingerprint depends on

// A corpus may have more shards than a process may have open files by default.
int open_for_reading(const char* path) {
  const auto open_once = [&] { return open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); };  // a pipe is not waited for
  const int file = uninterrupted(open_once);
  rlimit limit{};
  if (file >= 0 || errno != EMFILE || getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) {
    return file;
  }
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) errno = EMFILE;
  else return uninterrupted(open_once);
  return -1;
}

}  // namespace

struct Shard::Stamp {
  explicit Stamp(const struct stat& status) : bytes(status.st_size), time(status.st_mtim) {}
  bool operator==(const Stamp& other) const {
    return bytes == other.bytes && time.tv_sec == other.time.tv_sec && time.tv_nsec == other.time.tv_nsec;
  }
  off_t bytes;
  timespec time;
};

Shard::Shard(std::string path, const std::string& key, PlainTokens plain) : path_(std::move(path)) {
  check_is_named(key, path_);
  file_ = open_for_reading(path_.c_str());
  if (file_ < 0)
    throw UserError("{}: cannot open {}: {}{}", key, path_, std::strerror(errno),
                    errno == EMFILE ? " (ulimit -n sets how many; each shard is one)" : "");
  try {
    struct stat status {};
    if (fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) throw UserError("{}: {} is not a file", key, path_);
    bytes_ = size_t(status.st_size);
    stamp_ = std::make_unique<Stamp>(status);
    std::vector<std::byte> opening(std::min(bytes_, kShardHeaderRead));
    read(0, opening.data(), opening.size());
    info_ = read_shard_info(opening, bytes_, fmt::format("{}: {}", key, path_), plain);
    fingerprint_ = fingerprint();
    check_width(key);
  } catch (...) {
    close(file_);
    throw;
  }
}

Shard::~Shard() { close(file_); }

// ---- reading --------------------------------------------------------------------------------------------------------

void Shard::read(uint64_t offset, std::byte* out, size_t bytes) const {
  for (size_t done = 0; done < bytes;) {
    const ssize_t got = pread(file_, out + done, bytes - done, off_t(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw ShardFailed("cannot read {}: {}", path_, std::strerror(errno));
    if (got == 0) throw_cut();
    done += size_t(got);
  }
}

void Shard::throw_cut() const {
  struct stat status {};
  const int64_t bytes = fstat(file_, &status) == 0 ? int64_t(status.st_size) : 0;
  throw ShardFailed("{} has {} bytes now, but had {} when it was opened: it was cut or replaced while it was read",
                    path_, bytes, bytes_);
}

// To be called after reading. A file may get a new time and the same bytes (touch, or a copy of itself); its header,
// which has a checksum of all that follows in Sluice's format, and its edges tell.
void Shard::check_unchanged() const {
  struct stat status {};
  if (fstat(file_, &status) != 0) throw ShardFailed("cannot look at {}: {}", path_, std::strerror(errno));
  const Stamp now(status);
  const std::lock_guard lock(mutex_);
  if (now == *stamp_) return;
  if (size_t(now.bytes) != bytes_) throw_cut();
  if (fingerprint() != fingerprint_)
    throw ShardFailed("{} has other contents than when it was opened: it was replaced while it was read", path_);
  *stamp_ = now;
}

uint64_t Shard::fingerprint() const {
  std::vector<std::byte> edge(std::min(bytes_, kFingerprintEdge));
  Checksum sum;
  for (const uint64_t offset : {uint64_t{0}, uint64_t(bytes_ - edge.size())}) {
    read(offset, edge.data(), edge.size());
    sum.update(edge.data(), edge.size());
  }
  return sum.value();
}

// Nothing in a file without header says how wide its tokens are; with the wrong width it would be another text.
void Shard::check_width(const std::string& key) const {
  constexpr int64_t kScan = 1 << 16;
  if (info_.format != ShardFormat::kPlain) return;
  const std::string suspicion = width_suspicion(stored(0, std::min(kScan, info_.tokens)), info_.token_bytes);
  if (suspicion.empty()) return;
  throw UserError("{}: {} is read as uint{} by data.shard_format (or --shard-format), but {}", key, path_,
                  8 * info_.token_bytes, suspicion);
}

std::vector<std::byte> Shard::stored(int64_t start, int64_t count) const {
  check_le(start + count, info_.tokens, "the end of a stretch of a shard");
  std::vector<std::byte> bytes(size_t(count * info_.token_bytes));
  read(uint64_t(info_.tokens_at + start * info_.token_bytes), bytes.data(), bytes.size());
  check_unchanged();
  return bytes;
}

// Calls use(where they start, span of uint16 or uint32) for the tokens, block by block.
template <class Use>
void Shard::with_tokens(int64_t start, int64_t count, const Use& use) const {
  for (const int64_t end = start + count; start < end;) {
    const int64_t some = std::min(kBlock, end - start);
    const std::vector<std::byte> bytes = stored(start, some);
    if (info_.token_bytes == 2) use(start, std::span(reinterpret_cast<const uint16_t*>(bytes.data()), size_t(some)));
    else use(start, std::span(reinterpret_cast<const uint32_t*>(bytes.data()), size_t(some)));
    start += some;
  }
}

namespace {

template <class Token>
int64_t largest_of(std::span<const Token> tokens) {
  Token largest = 0;  // a plain loop, so that it is vectorised
  for (const Token token : tokens) largest = std::max(largest, token);
  return tokens.empty() ? int64_t{-1} : int64_t(largest);
}

}  // namespace

int64_t Shard::copy(int64_t start, int64_t count, int32_t* out) const {
  int64_t largest = -1;
  with_tokens(start, count, [&](int64_t at, auto tokens) {
    int32_t* const to = out + (at - start);
    for (size_t i = 0; i < tokens.size(); ++i) to[i] = int32_t(tokens[i]);
    largest = std::max(largest, largest_of(tokens));
  });
  return largest;
}

int64_t Shard::largest(int64_t start, int64_t count) const {
  int64_t largest = -1;
  with_tokens(start, count, [&](int64_t, auto tokens) { largest = std::max(largest, largest_of(tokens)); });
  return largest;
}

Shard::TokenAt Shard::find_not_below(int64_t limit, int64_t start, int64_t count) const {
  TokenAt found{-1, -1};
  for (const int64_t end = start + count; start < end && found.position < 0; start += kBlock) {
    with_tokens(start, std::min(kBlock, end - start), [&](int64_t at, auto tokens) {
      const auto first =
          std::find_if(tokens.begin(), tokens.end(), [&](auto token) { return int64_t(token) >= limit; });
      if (first != tokens.end()) found = {at + (first - tokens.begin()), int64_t(*first)};
    });
  }
  if (found.position < 0)
    throw ShardFailed("{} has other tokens than a moment ago: it was replaced while it was read", path_);
  return found;
}

void Shard::verify(const std::string& key) const {
  if (info_.format != ShardFormat::kSluice) return;
  const uint64_t found =
      shard_checksum(bytes_, [&](uint64_t offset, std::byte* out, size_t bytes) { read(offset, out, bytes); });
  if (found == info_.checksum) return;
  throw UserError("{}: {} is damaged: its checksum is {}, but its header says {}", key, path_, checksum_text(found),
                  checksum_text(info_.checksum));
}

// ---- documents ------------------------------------------------------------------------------------------------------

void Shard::find_documents(int64_t token, bool whole, const std::string& key) {
  if (info_.documents > 0) {
    documents_.resize(size_t(info_.documents));
    read(uint64_t(info_.documents_at), reinterpret_cast<std::byte*>(documents_.data()),
         documents_.size() * sizeof(uint64_t));
    return check_documents(key);
  }
  document_token_ = token;
  if (!whole || info_.tokens == 0) return;
  documents_.assign(1, 0);
  add_matches(1, info_.tokens - 1, documents_);
}

bool Shard::has_documents() const {
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
  throw UserError("{}: {} is damaged: its list of document starts does not go from 0 upwards to below its {} tokens",
                  key, path_, info_.tokens);
}

void Shard::add_matches(int64_t start, int64_t count, std::vector<uint64_t>& out) const {
  with_tokens(start, count, [&](int64_t at, auto tokens) {
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (int64_t(tokens[i]) == document_token_) out.push_back(uint64_t(at) + i);
    }
  });
}

}  // namespace sluice

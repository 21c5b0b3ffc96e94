#include "ranks/communicator_files.h"

#include <charconv>
#include <sstream>

#include "base/files/files.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPrefix = "rank_";
constexpr auto kPause = std::chrono::milliseconds(250);

// -1 for another file.
int rank_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return -1;
  int rank = -1;
  const char* const end = name.data() + name.size();
  return std::from_chars(name.data() + kPrefix.size(), end, rank).ptr == end ? rank : -1;
}

bool parse(const std::string& text, RankNews& news) {
  std::istringstream in(text);
  if (!(in >> news.own_error >> news.exit_code)) return false;
  in.get();  // the space before the text
  news.text.assign(std::istreambuf_iterator<char>(in), {});
  return true;
}

}  // namespace

NewsFiles::NewsFiles(fs::path folder, const RankPlace& place) : folder_(std::move(folder)), place_(place) {
  std::error_code ignored;
  fs::remove(file(place.rank), ignored);
}

fs::path NewsFiles::file(int rank) const { return folder_ / fmt::format("{}{}", kPrefix, rank); }

void NewsFiles::send(const RankNews& news) noexcept {
  try {
    create_folders(folder_);
    write_file_atomic(file(place_.rank), fmt::format("{} {} {}", int(news.own_error), news.exit_code, news.text));
  } catch (const std::exception&) {
  }
}

void NewsFiles::receive(std::map<int, RankNews>& news) noexcept {
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return;
  next_look_ = now + kPause;
  try {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder_, error)) {
      const int rank = rank_of(entry.path().filename().string());
      if (rank < 0 || rank >= place_.size || rank == place_.rank || news.contains(rank)) continue;
      RankNews one;
      if (parse(read_file(entry.path()), one)) news[rank] = std::move(one);
    }
  } catch (const std::exception&) {
  }
}

}  // namespace sluice

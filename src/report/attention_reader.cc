// attention/step_*.json: the maps of before and after the training.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "report/run_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// Nothing if the file is not a whole snapshot: its shape is checked here so that nobody else need.
std::optional<RecordedAttention> read_snapshot(const fs::path& file) {
  std::string problem;
  const std::optional<Json> json = try_read_json(file, problem);
  if (!json) return std::nullopt;
  try {
    RecordedAttention out;
    out.step = integer_at(*json, "step");
    out.tokens = json->at("tokens").get<std::vector<std::string>>();
    for (const Json& entry : json->at("maps")) {
      std::optional<RecordedMap> map = read_map(entry, entry.at("weights"), out.tokens.size());
      if (!map) return std::nullopt;
      if (entry.contains("gate")) map->gate = numbers(entry.at("gate"));
      if (!map->gate.empty() && map->gate.size() != out.tokens.size()) return std::nullopt;
      out.maps.push_back(std::move(*map));
    }
    return out;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

void read_attention(RunRecord& run) {
  const fs::path folder = fs::path(run.path) / "attention";
  std::vector<fs::path> files;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    }
  }
  if (files.empty()) {
    run.notes.push_back("attention/ holds no maps");
    return;
  }
  std::sort(files.begin(), files.end());  // steps are zero-padded
  const auto first_readable = [&](auto begin, auto end) {
    std::optional<RecordedAttention> snapshot;
    for (; begin != end && !snapshot; ++begin) {
      snapshot = read_snapshot(*begin);
      const std::string name = begin->filename().string();
      if (!snapshot) run.notes.push_back(fmt::format("attention/{} is malformed", name));
      if (!snapshot || !snapshot->maps.empty()) continue;
      run.notes.push_back(fmt::format("attention/{} has no maps: no layer had attention weights", name));
      snapshot.reset();
    }
    return snapshot;
  };
  run.first_attention = first_readable(files.begin(), files.end());
  if (!run.first_attention) return;
  run.last_attention = first_readable(files.rbegin(), files.rend());
  // A note may have been left from both ends.
  std::sort(run.notes.begin(), run.notes.end());
  run.notes.erase(std::unique(run.notes.begin(), run.notes.end()), run.notes.end());
}

}  // namespace sluice

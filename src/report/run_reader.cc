// Which folder is a run's, its config and info, and what the record of a run answers. The other files' readers are in
// run_files.h. The run folder's layout is in docs/commands.md; see run_reader.h for what is forgiven and what is an
// error.
#include "report/run_reader.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/limits.h"
#include "report/run_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostName = 200;  // bytes, as train allows; a longer one would widen every line of a table

std::string folder_name(const fs::path& path) {
  const fs::path clean = fs::absolute(path).lexically_normal();
  return clean.has_filename() ? clean.filename().string() : clean.parent_path().filename().string();
}

// What `sluice train` writes; a model's folder of another program has a config.json too.
bool is_run(const fs::path& folder) {
  return fs::is_regular_file(folder / "metrics.jsonl") || fs::is_regular_file(folder / "info.json");
}

bool looks_like_run(const fs::path& folder) {
  return fs::is_regular_file(folder / "config.json") || fs::is_regular_file(folder / "metrics.jsonl");
}

// Of a model of the transformers library.
bool is_foreign_config(const fs::path& file) {
  std::string problem;
  const std::optional<Json> json = try_read_json(file, problem);
  return json && (json->contains("model_type") || json->contains("architectures"));
}

void require_run_folder(const std::string& path) {
  if (!fs::exists(path)) throw UserError("{}: no such run folder", path);
  if (!fs::is_directory(path)) throw UserError("{}: not a run folder but a file", path);
  if (!looks_like_run(path))
    throw UserError("{}: not a run folder (neither config.json nor metrics.jsonl is in it)", path);
  if (!is_run(path) && is_foreign_config(fs::path(path) / "config.json"))
    throw UserError(
        "{}: not a run folder, but a model of the transformers library, which becomes one with sluice import", path);
}

void read_config(RunRecord& run) {
  const fs::path file = fs::path(run.path) / "config.json";
  if (!fs::is_regular_file(file)) {
    run.notes.push_back("config.json is missing: the run cannot be grouped with other seeds");
    return;
  }
  run.config = read_json_file(file.string());
  if (!run.config.is_object())
    throw UserError("{}: a JSON object is expected, got {}", file.string(), shown(run.config));
  check_key_count(run.config, file.string());
  const auto name = run.config.find("name");
  if (name != run.config.end() && name->is_string() && !name->get<std::string>().empty())
    run.name = excerpt(name->get<std::string>(), kMostName);
}

void read_info(RunRecord& run) {
  std::string problem;
  if (std::optional<Json> info = try_read_json(fs::path(run.path) / "info.json", problem)) run.info = std::move(*info);
  else run.notes.push_back(fmt::format("info.json is {}: parameters, device and time are unknown", problem));
}

}  // namespace

std::string HeadId::name() const { return fmt::format("L{}H{}", layer, head); }

const TimeSeries* RunRecord::find(const std::string& kind, const std::string& field, int64_t layer,
                                  int64_t head) const {
  const auto found = series.find({kind, field, layer, head});
  return found == series.end() ? nullptr : &found->second;
}

std::optional<double> RunRecord::final_value(const std::string& kind, const std::string& field, int64_t layer,
                                             int64_t head) const {
  const TimeSeries* found = find(kind, field, layer, head);
  if (!found) return std::nullopt;
  return found->values.back();
}

std::vector<HeadId> RunRecord::heads() const {
  std::set<HeadId> found;
  for (const auto& [key, unused] : series) {
    if (key.layer >= 0 && key.head >= 0) found.insert({key.layer, key.head});
  }
  return {found.begin(), found.end()};
}

std::vector<int64_t> RunRecord::layers() const {
  std::set<int64_t> found;
  for (const auto& [key, unused] : series) {
    if (key.layer >= 0) found.insert(key.layer);
  }
  return {found.begin(), found.end()};
}

int64_t RunRecord::last_step() const {
  int64_t last = -1;
  for (const auto& [key, points] : series) last = std::max(last, points.steps.back());
  return last;
}

std::vector<std::string> run_folders(const std::string& path) {
  if (!fs::is_directory(path) || looks_like_run(path)) return {path};
  std::vector<std::string> out;
  std::error_code unreadable;
  for (const auto& entry : fs::directory_iterator(path, unreadable))
    if (is_run(entry.path())) out.push_back(entry.path().string());
  if (out.empty())
    throw UserError("{}: neither a run's folder (config.json, metrics.jsonl) nor a folder of runs", path);
  std::sort(out.begin(), out.end());
  return out;
}

RunRecord read_run(const std::string& path) {
  require_run_folder(path);
  RunRecord run;
  run.path = path;
  run.name = folder_name(path);
  read_config(run);
  read_info(run);
  read_metrics(run);
  read_attention(run);
  read_analyses(run);
  read_quantization(run);
  return run;
}

}  // namespace sluice

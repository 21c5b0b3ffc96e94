// See run_folder.h.
#include "train/run_folder.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json_text.h"
#include "train/checkpoint.h"
#include "train/experiment.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

// What a run consists of; nothing else in the folder is touched.
constexpr std::array kRunEntries = {"config.json", "info.json", "metrics.jsonl", "log.txt", "attention", "analysis",
                                  "checkpoints"};
// Files that may lie elsewhere now: what is in them the trainer compares.
constexpr std::array kPaths = {"/data/train_shards", "/data/validation_shards", "/data/tokenizer"};
constexpr std::array kMayChange = {"name",        "device", "log", "train.steps", "train.micro_batch",
                                   "train.recompute", "train.attention_backend", "train.zero", "train.bucket_mb",
                                   "train.rank_timeout"};

bool may_change(const std::string& key) {
  return std::find(kMayChange.begin(), kMayChange.end(), key) != kMayChange.end();
}

std::string join(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

Json member(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? Json() : *found;
}

// The default of the key at the dotted `path`; null if there is no such key.
Json default_of(const std::string& path) {
  Experiment defaults;
  Fields fields;
  defaults.describe(fields);
  const Fields* group = &fields;
  for (size_t begin = 0; group;) {
    const size_t dot = path.find('.', begin);
    const Field* field = group->find(path.substr(begin, dot - begin));
    if (!field) break;
    if (dot == std::string::npos) return field->default_value;
    group = field->group.get();
    begin = dot + 1;
  }
  return Json();
}

// A key that `stored` lacks was not there yet in the version that wrote it, which did what is the default now.
std::optional<ConfigDifference> difference(const Json& stored, const Json& current, const std::string& path) {
  if (stored == current || may_change(path)) return std::nullopt;
  if (stored.is_null() && current.is_object()) return difference(Json::object(), current, path);
  if (stored.is_null() && current == default_of(path)) return std::nullopt;
  if (!stored.is_object() || !current.is_object()) return ConfigDifference{path, stored, current};
  for (const auto& [key, value] : current.items()) {
    if (auto found = difference(member(stored, key), value, join(path, key))) return found;
  }
  for (const auto& [key, value] : stored.items()) {
    if (current.contains(key)) continue;
    if (auto found = difference(value, Json(), join(path, key))) return found;
  }
  return std::nullopt;
}

std::string in_words(const Json& value) { return value.is_null() ? "not set" : value.dump(); }

std::string steps_text(const std::vector<int64_t>& steps) {
  constexpr size_t kMost = 6;
  if (steps.size() == 1) return fmt::format("a checkpoint at step {}", steps[0]);
  if (steps.size() <= kMost) return fmt::format("checkpoints at steps {}", fmt::join(steps, ", "));
  return fmt::format("{} checkpoints from step {} to {}", steps.size(), steps.front(), steps.back());
}

// Where a former run of the folder would go.
fs::path free_old_folder(const fs::path& run) {
  int number = 1;
  while (fs::exists(run / fmt::format("old{}", number))) ++number;
  return run / fmt::format("old{}", number);
}

// Of the newest checkpoint, whether it is whole or not; 0 without one.
int64_t newest_step(const fs::path& run) {
  const std::vector<int64_t> steps = list_checkpoints(run / "checkpoints");
  return steps.empty() ? 0 : steps.back();
}

// `stored` with the paths of `config` where both have one.
Json with_paths_of(const Json& config, Json stored) {
  for (const char* key : kPaths) {
    const Json::json_pointer path(key);
    if (stored.contains(path) && config.contains(path)) stored[path] = config[path];
  }
  return stored;
}

void write_config(const fs::path& file, const Json& config) { write_file_atomic(file, config.dump(2) + "\n"); }

void create_run_folder(const fs::path& path) {
  if (fs::exists(path) && !fs::is_directory(path)) {
    throw UserError("{} is a file, but a run needs a folder; name another with --out", path.string());
  }
  create_folders(path);
}

}  // namespace

std::optional<ConfigDifference> experiment_difference(const Json& stored, const Json& current) {
  return difference(stored, current, "");
}

void check_same_model(const Json& stored, const Json& current, const std::string& where) {
  const auto found = difference(member(stored, "model"), member(current, "model"), "model");
  if (!found) return;
  throw UserError("{} is of another model: {} is {} there, but {} in this config", where, found->key,
                  in_words(found->stored), in_words(found->current));
}

RunFolder::RunFolder(const fs::path& path, const Json& config, const ResumeOption& resume)
    : path_(path.has_filename() ? path : path.parent_path()) {
  made_ = !fs::exists(path_);
  create_run_folder(path_);
  lock();
  if (resume.mode == ResumeOption::Mode::kNever) {
    move_aside();
  } else {
    check_experiment(config);
  }
  // A run that is longer than it is asked to be stays what it is.
  const auto steps = config.value(Json::json_pointer("/train/steps"), std::numeric_limits<int64_t>::max());
  if (newest_step(path_) > steps) return;
  if (names_other_files(config)) unconfirmed_ = config;
  else write_config(config_file(), config);
}

void RunFolder::confirm_data() const {
  if (!unconfirmed_.is_null()) write_config(config_file(), unconfirmed_);
}

// The lock goes with the process, however it ends; the file stays, empty or with the number of the last process.
void RunFolder::lock() {
  lock_.emplace(path_ / "lock", O_RDWR | O_CREAT);
  if (flock(lock_->descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) throw_file_error("lock", lock_->path(), errno);
    std::string owner(20, '\0');
    owner.resize(lock_->read_at(0, owner.data(), owner.size()));
    throw UserError("{}: another process{} is training in this folder; wait for it, or name another with --out",
                    path_.string(), owner.empty() ? "" : " (" + owner + ")");
  }
  lock_->truncate(0);
  const std::string number = std::to_string(getpid());
  lock_->write(number.data(), number.size());
}

std::string RunFolder::contents() const {
  std::vector<std::string> parts;
  for (const char* name : kRunEntries) {
    if (fs::is_regular_file(path_ / name)) parts.push_back(name);
  }
  const std::vector<int64_t> steps = list_checkpoints(checkpoints_folder());
  if (!steps.empty()) parts.push_back(steps_text(steps));
  return parts.empty() ? "nothing yet" : fmt::format("{}", fmt::join(parts, ", "));
}

void RunFolder::move_aside() {
  std::vector<const char*> entries;
  for (const char* name : kRunEntries) {
    if (fs::exists(path_ / name)) entries.push_back(name);
  }
  if (entries.empty()) return;
  moved_to_ = free_old_folder(path_);
  create_folders(*moved_to_);
  for (const char* name : entries) rename_durably(path_ / name, *moved_to_ / name);
}

// A start that failed before its first line has left nothing to protect.
bool RunFolder::has_results() const {
  std::error_code ignored;
  const bool has_metrics = fs::file_size(metrics_file(), ignored) > 0 && !ignored;
  return has_metrics || !list_checkpoints(checkpoints_folder()).empty();
}

void RunFolder::discard_if_new() const {
  std::error_code ignored;
  if (made_ && !has_results()) fs::remove_all(path_, ignored);
}

bool RunFolder::names_other_files(const Json& config) const {
  if (list_checkpoints(checkpoints_folder()).empty() || !fs::exists(config_file())) return false;
  const Json stored = read_json_file(config_file().string());
  return with_paths_of(config, stored) != stored;
}

// Only a checkpoint tells what the data were.
void RunFolder::check_experiment(const Json& config) const {
  if (!fs::exists(config_file()) || !has_results()) return;
  Json stored = read_json_file(config_file().string());
  if (!list_checkpoints(checkpoints_folder()).empty()) stored = with_paths_of(config, std::move(stored));
  const auto found = experiment_difference(stored, config);
  if (!found) return;
  throw UserError("{} holds another experiment ({}): its {} is {}, but {} is asked for; name another folder with "
                  "--out, or start over with --resume never (what is there moves to {})",
                  path_.string(), contents(), found->key, in_words(found->stored), in_words(found->current),
                  free_old_folder(path_).string());
}

}  // namespace sluice

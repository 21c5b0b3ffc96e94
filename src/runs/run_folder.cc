// Locking, refusing, moving away, in an order that a kill at any place cannot spoil (run_folder.h).
#include "runs/run_folder.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>
#include <string_view>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/aside.h"
#include "experiment/experiment.h"
#include "runs/checkpoint.h"
#include "runs/run_entries.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

std::string steps_text(const std::vector<int64_t>& steps) {
  constexpr size_t kMost = 6;
  if (steps.size() == 1) return fmt::format("a checkpoint at step {}", steps[0]);
  if (steps.size() <= kMost) return fmt::format("checkpoints at steps {}", fmt::join(steps, ", "));
  return fmt::format("{} checkpoints from step {} to {}", steps.size(), steps.front(), steps.back());
}

// Whether `path` is the run itself, or among its checkpoints. A run that was moved to old1 is another one.
bool is_of_run(const fs::path& path, const fs::path& run) {
  const fs::path below = (fs::weakly_canonical(path) / "").parent_path().lexically_relative(fs::weakly_canonical(run));
  return below == "." || (!below.empty() && *below.begin() == "checkpoints");
}

// Of the newest checkpoint, whether it is whole or not; 0 without one.
int64_t newest_step(const fs::path& run) {
  const std::vector<int64_t> steps = list_checkpoints(run / "checkpoints");
  return steps.empty() ? 0 : steps.back();
}

void write_config(const fs::path& file, const Json& config) { write_file_atomic(file, config.dump(2) + "\n"); }

// A path that is not UTF-8 cannot be kept: a start that is killed is then refused, for nothing is where the text says.
std::string how_to_start_over(const fs::path& run) {
  return fmt::format("start over with --resume never (what is there moves to {})", free_old_folder(run).string());
}

void write_origin(const fs::path& file, const Json& origin) {
  write_file_atomic(file, origin.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

void create_run_folder(const fs::path& path) {
  if (fs::exists(path) && !fs::is_directory(path)) {
    throw UserError("{} is a file, but a run needs a folder; name another with --out", path.string());
  }
  create_folders(path);
}

}  // namespace

bool is_run_config(const fs::path& file) {
  const auto config = json_in(file);
  return config && is_resolved_config(*config);
}

std::optional<std::string> training_process(const fs::path& run) {
  const int descriptor =
      uninterrupted([&] { return open((run / "lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); });
  if (descriptor < 0) return std::nullopt;
  const File lock(run / "lock", File::Opened{descriptor});
  if (uninterrupted([&] { return flock(descriptor, LOCK_SH | LOCK_NB); }) == 0 || errno != EWOULDBLOCK)
    return std::nullopt;
  std::string owner(20, '\0');
  owner.resize(lock.read_at(0, owner.data(), owner.size()));
  return owner;
}

RunFolder::RunFolder(const fs::path& path, const Json& config, const ResumeOption& resume)
    : path_(path.has_filename() ? path : path.parent_path()) {
  const bool never = resume.mode == ResumeOption::Mode::kNever;
  made_ = !fs::exists(path_);
  create_run_folder(path_);
  check_is_run(never);
  lock();
  remove_leftovers_of_ours();
  finish_move();
  if (never) move_aside();
  else check_experiment(config);
  if (!never) check_checkpoints_are_there();
  begin_from_other(resume);
  // A run that is longer than it is asked to be stays what it is, unless it is taken back.
  const auto steps = config.value(Json::json_pointer("/train/steps"), std::numeric_limits<int64_t>::max());
  const bool back = resume.mode == ResumeOption::Mode::kFrom && is_of_run(resume.from, path_);
  if (newest_step(path_) > steps && !back) return;
  if (has_checkpoints()) unconfirmed_ = config;
  else write_config(config_file(), config);
}

void RunFolder::confirm() const {
  check_still_ours();
  if (!unconfirmed_.is_null()) write_config(config_file(), unconfirmed_);
}

// ---- whose folder it is ---------------------------------------------------------------------------------------------

// Before the lock: not even that is written into the folder of another program.
void RunFolder::check_is_run(bool never) const {
  std::vector<std::string> others;
  for (const fs::path& entry : entries_of(path_)) {
    if (!is_beginning(entry)) others.push_back(entry.filename().string());
  }
  if (others.empty()) return;
  std::sort(others.begin(), others.end());
  const auto newest = newest_state(checkpoints_folder());
  const bool informed = is_own_info(info_file());
  const fs::path lock = path_ / "lock";
  const bool locked = is_own_lock(lock);
  const bool is_run = newest || (informed && locked) || is_being_moved(path_);
  const bool goes_on = is_run_config(config_file()) && (newest || has_checkpoints() || informed || locked);
  // Moved as it is; or the checkpoints have the config.
  if (goes_on || (is_run && (never || !fs::exists(config_file())))) {
    if (locked || !fs::exists(fs::symlink_status(lock))) return;
    throw UserError("{} is not the lock of a run of Sluice's, and would be overwritten; name another folder with --out",
                    lock.string());
  }
  if (is_run && newest) {
    throw UserError(
        "{} is damaged or no run's config; {}/state.json has it too: move config.json away, and the same command "
        "goes on and writes it again",
        config_file().string(), newest->path.string());
  }
  if (is_run) {
    throw UserError("{} is damaged or no run's config, and there is no checkpoint that has it too; {}",
                    config_file().string(), how_to_start_over(path_));
  }
  constexpr size_t kMost = 4;
  const size_t shown = std::min(others.size(), kMost);
  throw UserError("{} is not empty and holds no run of Sluice's (in it: {}{}); name another folder with --out",
                  path_.string(), fmt::join(others.begin(), others.begin() + std::ptrdiff_t(shown), ", "),
                  others.size() > shown ? ", ..." : "");
}

// The lock goes with the process, however it ends; the file stays, empty or with the number of the last process.
void RunFolder::lock() {
  constexpr int kTries = 10;  // somebody may just look whether it is locked
  lock_.emplace(path_ / "lock", O_RDWR | O_CREAT | O_NOFOLLOW);
  for (int tries = 1; flock(lock_->descriptor(), LOCK_EX | LOCK_NB) != 0; ++tries) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) throw_file_error("lock", lock_->path(), errno);
    if (tries < kTries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      continue;
    }
    std::string owner(20, '\0');
    owner.resize(lock_->read_at(0, owner.data(), owner.size()));
    throw UserError("{}: another process{} is training in this folder; wait for it, or name another with --out",
                    path_.string(), owner.empty() ? "" : " (" + owner + ")");
  }
  check_still_ours();
  lock_->truncate(0);
  const std::string number = std::to_string(getpid());
  lock_->write(number.data(), number.size());
}

void RunFolder::check_still_ours() const {
  struct stat held = {}, there = {};
  const fs::path name = path_ / "lock";
  const bool same = fstat(lock_->descriptor(), &held) == 0 && lstat(name.c_str(), &there) == 0 &&
                    held.st_dev == there.st_dev && held.st_ino == there.st_ino;
  if (same) return;
  throw RunError(
      "the folder {} is no longer the one that this run began in: it was removed, moved or made anew meanwhile; "
      "nothing more is written there",
      path_.string());
}

void RunFolder::remove_leftovers_of_ours() const {
  for (const fs::path& folder : {path_, attention_folder(), analysis_folder()}) remove_leftovers(folder);
}

std::string RunFolder::contents() const {
  std::vector<std::string> parts;
  for (const char* name : {"config.json", "info.json", "metrics.jsonl", "log.txt"}) {
    if (fs::is_regular_file(path_ / name)) parts.push_back(name);
  }
  const std::vector<int64_t> steps = list_checkpoints(checkpoints_folder());
  if (!steps.empty()) parts.push_back(steps_text(steps));
  return parts.empty() ? "nothing yet" : fmt::format("{}", fmt::join(parts, ", "));
}

// ---- starting over --------------------------------------------------------------------------------------------------

// The entries go to old1.moving, which then becomes old1: after a kill the next start moves the rest.
void RunFolder::finish_move() {
  std::vector<fs::path> moving;
  for (const fs::path& entry : entries_of(path_)) {
    const std::string name = entry.filename().string();
    if (is_old_folder(name) && name.ends_with(kMoving)) moving.push_back(entry);
  }
  for (const fs::path& folder : moving) {
    move_entries(folder);
    name_moved(folder);
  }
}

void RunFolder::move_aside() {
  const bool any =
      std::any_of(kRunEntries.begin(), kRunEntries.end(), [&](const char* name) { return is_there(path_ / name); });
  if (!any) return;
  const fs::path moving = free_old_folder(path_).string() + std::string(kMoving);
  create_folders(moving);
  sync_folder(path_);
  move_entries(moving);
  name_moved(moving);
}

void RunFolder::move_entries(const fs::path& to) {
  for (const char* name : kRunEntries) {
    if (is_there(path_ / name) && !is_there(to / name)) rename_durably(path_ / name, to / name);
  }
}

void RunFolder::name_moved(const fs::path& from) {
  std::string name = from.string();
  name.resize(name.size() - kMoving.size());
  const fs::path to = is_there(name) ? free_old_folder(path_) : fs::path(name);
  rename_durably(from, to);
  moved_to_ = to;
}

// ---- beginning from another run -------------------------------------------------------------------------------------

void RunFolder::begin_from_other(const ResumeOption& resume) {
  if (resume.mode != ResumeOption::Mode::kFrom || has_checkpoints() || is_of_run(resume.from, path_)) return;
  if (fs::exists(origin_file())) former_origin_ = read_file(origin_file());
  noted_origin_ = true;
  const Json origin = {{"resume", fs::canonical(resume.from).string()}, {"fresh_optimizer", resume.fresh_optimizer}};
  write_origin(origin_file(), origin);
}

void RunFolder::note_origin(const ResumePoint& point) const {
  Json origin = read_json_file(origin_file().string());
  origin["checkpoint"] = fs::canonical(point.checkpoint.path).string();
  write_origin(origin_file(), origin);
}

ResumeOption RunFolder::resumed_as(const ResumeOption& option) const {
  using Mode = ResumeOption::Mode;
  const auto origin = json_in(origin_file());
  const auto text = [&](const char* key) {
    const bool there = origin && origin->is_object() && origin->contains(key) && (*origin)[key].is_string();
    return there ? (*origin)[key].get<std::string>() : std::string();
  };
  if (option.mode == Mode::kFrom && has_checkpoints() && !is_of_run(option.from, path_) &&
      text("resume") == fs::canonical(option.from).string())
    return {};
  if (option.mode != Mode::kAuto || has_checkpoints() || !fs::exists(origin_file())) return option;
  const std::string from = text("checkpoint").empty() ? text("resume") : text("checkpoint");
  if (from.empty() || !fs::is_directory(from)) {
    throw UserError(
        "{} was begun from {}, where nothing is now: name what to begin from with --resume DIR, or begin from the "
        "initial values with --resume never",
        path_.string(), from.empty() ? "what " + origin_file().string() + " does not say" : from);
  }
  return {Mode::kFrom, from, (*origin).value("fresh_optimizer", Json(false)) == true};
}

// ---- refusals -------------------------------------------------------------------------------------------------------

bool RunFolder::has_checkpoints() const { return !list_checkpoints(checkpoints_folder()).empty(); }

// A start that failed before its first line has left nothing to protect.
bool RunFolder::has_results() const {
  std::error_code ignored;
  const bool has_metrics = fs::file_size(metrics_file(), ignored) > 0 && !ignored;
  return has_metrics || has_checkpoints();
}

void RunFolder::take_back() const {
  try {
    check_still_ours();
    if (noted_origin_ && !made_ && !has_checkpoints()) {
      if (former_origin_.empty()) fs::remove(origin_file());
      else write_file_atomic(origin_file(), former_origin_);
    }
    if (has_results()) return;
  } catch (const std::exception&) {
    return;
  }
  if (!made_) return;
  std::error_code ignored;
  fs::remove_all(attention_folder(), ignored);
  for (const char* name : kRunEntries) fs::remove(path_ / name, ignored);
  fs::remove(path_ / "lock", ignored);
  fs::remove(path_, ignored);
}

// Of config.json, or where that is gone of the newest checkpoint; null if nothing was trained.
Json RunFolder::stored_config() const {
  if (fs::exists(config_file())) return read_json_file(config_file().string());
  const auto newest = newest_state(checkpoints_folder());
  if (newest) return newest->state.config;
  if (has_results()) {
    throw UserError(
        "{} has {}, but no config.json that says of which experiment; name another folder with --out, or {}",
        path_.string(), contents(), how_to_start_over(path_));
  }
  return Json();
}

// Starting over would drop the metrics of saved steps: the checkpoints may lie on a disk that is not mounted.
void RunFolder::check_checkpoints_are_there() const {
  std::error_code unknown;
  const fs::path folder = checkpoints_folder();
  if (fs::is_symlink(folder, unknown) && !fs::exists(folder, unknown)) {
    throw UserError("{} is a link to {}, where nothing is now; put that back, or {}", folder.string(),
                    fs::read_symlink(folder, unknown).string(), how_to_start_over(path_));
  }
  if (has_checkpoints() || !has_results()) return;
  const auto info = json_in(info_file());
  if (!info || !info->is_object() || !info->contains("steps_done") || !info->contains("status")) return;
  const Json &steps = (*info)["steps_done"], &status = (*info)["status"];
  if (!steps.is_number_integer() || steps.get<int64_t>() <= 0 || status == "failed") return;
  throw UserError("{} has the results of {} steps, but no checkpoint of them any more; put {} back, or {}",
                  path_.string(), steps.get<int64_t>(), folder.string(), how_to_start_over(path_));
}

// Only a checkpoint tells what the data were.
void RunFolder::check_experiment(const Json& config) const {
  if (!has_results()) return;
  Json stored = stored_config();
  if (has_checkpoints()) stored = with_paths_of(config, std::move(stored));
  const auto found = experiment_difference(stored, config);
  if (!found) return;
  throw UserError(
      "{} holds another experiment ({}): its {} is {}, but {} is asked for; name another folder with "
      "--out, or {}",
      path_.string(), contents(), found->key, config_value_text(found->stored), config_value_text(found->current),
      how_to_start_over(path_));
}

}  // namespace sluice

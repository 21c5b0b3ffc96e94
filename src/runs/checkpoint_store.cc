// Checkpoints written aside, read back, named, replaced, set aside and removed (checkpoint.h).
#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/files/aside.h"
#include "runs/checkpoint.h"
#include "runs/checkpoint_files.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr const char* kLatestFile = "latest";
constexpr const char* kDamaged = ".damaged";

// The step and the number of "step_00000025.former" (1) or "step_00000025.former2" (2).
std::optional<std::pair<int64_t, int64_t>> former_of(const std::string& name) {
  const size_t mark = name.find(kFormer);
  if (mark == name.npos) return std::nullopt;
  const auto step = checkpoint_step(name.substr(0, mark));
  if (!step || checkpoint_name(*step) != name.substr(0, mark)) return std::nullopt;
  const std::string number = name.substr(mark + std::string_view(kFormer).size());
  if (number.empty()) return std::pair(*step, int64_t{1});
  const auto parsed = checkpoint_step(kStepPrefix + number);
  return parsed ? std::optional(std::pair(*step, *parsed)) : std::nullopt;
}

}  // namespace

CheckpointStore::CheckpointStore(fs::path folder, int64_t keep) : folder_(without_slash(folder)), keep_(keep) {
  create_folders(folder_);
  put_back_formers();
  remove_all_aside(folder_);  // the run's lock is held
}

// Where names cannot be swapped (replace_durably), a save that was killed may have left the checkpoint that it was to
// replace under another name: it is the only one of its step, or of no use any more.
void CheckpointStore::put_back_formers() const {
  std::map<std::pair<int64_t, int64_t>, fs::path> formers;  // by step and number
  std::error_code error;
  fs::directory_iterator entry(folder_, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    std::error_code unknown;
    const auto former = former_of(entry->path().filename().string());
    if (former && fs::is_directory(entry->symlink_status(unknown))) formers[*former] = entry->path();
  }
  for (auto former = formers.rbegin(); former != formers.rend(); ++former) {
    if (rename_to_free(former->second, path_of(former->first.first))) {
      sync_folder(folder_);
      continue;
    }
    const fs::path aside = name_aside(path_of(former->first.first));
    if (move_quietly(former->second, aside)) remove_quietly(aside);
  }
}

fs::path CheckpointStore::path_of(int64_t step) const { return folder_ / checkpoint_name(step); }

fs::path CheckpointStore::save(CheckpointState state, std::span<const NamedTensor> model,
                               std::span<const NamedTensor> optimizer) {
  const fs::path target = path_of(state.step);
  fs::path aside;
  bool replaces = false;  // one of that step, which may then be either
  try {
    aside = create_folder_aside(target);
    write_files(aside, state, model, optimizer);
    verify_checkpoint(aside);
    replaces = fs::exists(target);
    replace_durably(aside, target);
  } catch (const std::exception& error) {
    const std::string cause = named_as_target(error.what(), aside, target);
    if (!aside.empty()) remove_quietly(aside);
    const uint64_t needed = safetensors_bytes(model) + safetensors_bytes(optimizer);
    throw RunError(
        "cannot save the checkpoint {}: {}; it needs {}, and {} are free there; {} checkpoints are as "
        "they were",
        target.string(), cause, bytes_text(needed), bytes_text(free_bytes(folder_)),
        replaces ? "the one of that step is the earlier or the new one, and other" : "earlier");
  }
  try {
    set_latest(state.step);
  } catch (const std::exception& error) {
    throw RunError("the checkpoint {} is saved, but {}", target.string(), error.what());
  }
  remove_old(state.step);
  return target;
}

void CheckpointStore::write_files(const fs::path& target, CheckpointState& state, std::span<const NamedTensor> model,
                                  std::span<const NamedTensor> optimizer) const {
  const SafetensorsMetadata metadata = {{"format", "pt"}};  // without it, transformers refuses to load the file
  FileSums sums;
  sums[kModelFile] = write_safetensors(target / kModelFile, model, metadata);
  sums[kOptimizerFile] = write_safetensors(target / kOptimizerFile, optimizer, metadata);
  state.model_fingerprint = model_fingerprint(model);
  FileWriter writer(target / kStateFile);
  writer.write(state_json(state, sums).dump(2) + "\n");
  writer.finish();
  sync_folder(target);
}

void CheckpointStore::set_latest(int64_t step) const {
  write_file_atomic(folder_ / kLatestFile, checkpoint_name(step) + "\n");
}

// Renamed first, so that a kill in the middle leaves a leftover and not a damaged checkpoint.
void CheckpointStore::remove(int64_t step) const {
  const fs::path aside = name_aside(path_of(step));
  if (move_quietly(path_of(step), aside)) remove_quietly(aside);
}

// What cannot be removed stays: the new checkpoint is safe, and the next save tries again.
void CheckpointStore::remove_old(int64_t newest) const {
  if (keep_ <= 0) return;
  std::vector<int64_t> steps;
  try {
    steps = list_checkpoints(folder_);
  } catch (const std::exception&) {
    return;
  }
  std::erase_if(steps, [&](int64_t step) { return step > newest; });
  for (size_t i = 0; i + size_t(keep_) < steps.size(); ++i) remove(steps[i]);
}

std::optional<ResumePoint> CheckpointStore::resume_point(const ResumeOption& option,
                                                         std::vector<std::string>& damaged) {
  if (option.mode == ResumeOption::Mode::kNever) return std::nullopt;
  if (option.mode == ResumeOption::Mode::kAuto) {
    auto found = find_newest_whole(folder_, damaged);
    if (!found) return std::nullopt;
    return ResumePoint{std::move(*found), true};
  }
  ResumePoint point{open_checkpoint(option.from, damaged)};
  const fs::path& path = point.checkpoint.path;
  point.own = fs::equivalent(fs::absolute(path).parent_path(), folder_);
  point.named = fs::equivalent(path, without_slash(option.from));
  if (option.fresh_optimizer) point.optimizer = OptimizerState::kFresh;
  const std::vector<int64_t> steps = list_checkpoints(folder_);
  if (!point.own && !steps.empty()) {
    throw UserError(
        "--resume {} is another run, but {} already has checkpoints up to step {}; name another --out, or "
        "use --resume auto",
        option.from.string(), folder_.string(), steps.back());
  }
  if (point.own && option.fresh_optimizer) {
    throw UserError("--fresh-optimizer is for a start from another run, but {} is this run's own checkpoint",
                    path.string());
  }
  return point;
}

std::vector<int64_t> CheckpointStore::steps_after(int64_t step) const {
  std::vector<int64_t> steps = list_checkpoints(folder_);
  std::erase_if(steps, [&](int64_t other) { return other <= step; });
  return steps;
}

void CheckpointStore::drop_after(int64_t step) {
  const std::vector<int64_t> newer = steps_after(step);
  for (auto next = newer.rbegin(); next != newer.rend(); ++next) remove(*next);
}

std::vector<fs::path> CheckpointStore::set_aside_after(int64_t step) {
  std::vector<fs::path> names;
  for (const int64_t newer : steps_after(step)) {
    const std::string name = path_of(newer).string() + kDamaged;
    fs::path free = name;
    for (int number = 2; !rename_to_free(path_of(newer), free); ++number) free = name + std::to_string(number);
    names.push_back(free);
  }
  if (!names.empty()) sync_folder(folder_);
  return names;
}

void CheckpointStore::repair(int64_t newest) {
  std::error_code unknown;
  const fs::path latest = folder_ / kLatestFile;
  const std::string name = checkpoint_name(newest) + "\n";
  if (!fs::is_regular_file(latest, unknown) || fs::file_size(latest, unknown) != name.size() ||
      read_file(latest) != name)
    set_latest(newest);
  remove_old(newest);
}

}  // namespace sluice

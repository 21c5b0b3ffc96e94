// Checkpoints found, verified and loaded (checkpoint.h).
#include "runs/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "runs/checkpoint_files.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

bool is_checkpoint_folder(const fs::path& path) {
  return fs::is_directory(path) && (fs::exists(path / kStateFile) || checkpoint_step(path.filename().string()));
}

[[noreturn]] void throw_unreadable(const fs::path& path, const std::string& reason, bool is_place) {
  const std::string text = fmt::format(
      "{}; the checkpoint {} may be whole, so nothing older is taken in its place: mend that, "
      "or name another one",
      reason, path.string());
  if (is_place) throw UserError("{}", text);
  throw RunError("{}", text);
}

}  // namespace

ResumeOption ResumeOption::parse(const std::string& text) {
  if (text == "auto") return {Mode::kAuto, {}};
  if (text == "never") return {Mode::kNever, {}};
  if (!fs::is_directory(text)) throw UserError("--resume {}: neither \"auto\", \"never\" nor a folder", text);
  return {Mode::kFrom, text};
}

std::vector<int64_t> list_checkpoints(const fs::path& folder) {
  std::vector<int64_t> steps;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const auto step = checkpoint_step(name);
    std::error_code unknown;
    const fs::file_status status = entry->symlink_status(unknown);
    if (step && name == checkpoint_name(*step) && (fs::is_directory(status) || fs::is_symlink(status)))
      steps.push_back(*step);
  }
  const bool missing = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  if (error && !missing) throw_file_error("read the folder", folder, error.value());
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string model_fingerprint(std::span<const NamedTensor> model) {
  std::vector<std::string> lines;
  for (const NamedTensor& named : model) {
    lines.push_back(fmt::format("{} {} {}\n", named.name, name_of(named.tensor.dtype), named.tensor.shape.str()));
  }
  std::sort(lines.begin(), lines.end());
  return checksum_text(checksum_of(fmt::format("{}", fmt::join(lines, ""))));
}

Checkpoint verify_checkpoint(const fs::path& path) {
  try {
    FileSums sums;
    Checkpoint out = read_state(path, sums);
    for (const auto& [name, sum] : sums) verify_file(path / name, sum);
    return out;
  } catch (const CheckpointDamaged&) {
    throw;
  } catch (const UserError& error) {  // no permission, a newer format
    throw_unreadable(path, error.what(), true);
  } catch (const RunError& error) {  // the disk does not give it back, too many open files
    throw_unreadable(path, error.what(), false);
  }
}

std::optional<Checkpoint> newest_state(const fs::path& folder) {
  const std::vector<int64_t> steps = list_checkpoints(folder);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    try {
      FileSums sums;
      return read_state(folder / checkpoint_name(*step), sums);
    } catch (const CheckpointDamaged&) {
      continue;
    }
  }
  return std::nullopt;
}

std::optional<Checkpoint> find_newest_whole(const fs::path& folder, std::vector<std::string>& damaged) {
  const std::vector<int64_t> steps = list_checkpoints(folder);
  std::string first_problem;
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    try {
      return verify_checkpoint(folder / checkpoint_name(*step));
    } catch (const CheckpointDamaged& error) {
      damaged.push_back(error.what());
      if (first_problem.empty()) first_problem = error.what();
    }
  }
  if (steps.empty()) return std::nullopt;
  throw UserError("{}: none of the {} checkpoints is whole; the newest: {}", folder.string(), steps.size(),
                  first_problem);
}

Checkpoint open_checkpoint(const fs::path& path, std::vector<std::string>& damaged) {
  const fs::path clean = without_slash(path);
  if (!fs::exists(clean)) throw UserError("{}: no such folder", clean.string());
  if (!fs::is_directory(clean))
    throw UserError("{} is a file, and a run's folder or a checkpoint's is asked for", clean.string());
  if (is_checkpoint_folder(clean)) return verify_checkpoint(clean);
  const fs::path inner = clean / "checkpoints";
  const fs::path folder = fs::is_directory(inner) ? inner : clean;
  if (auto found = find_newest_whole(folder, damaged)) return std::move(*found);
  const bool foreign = fs::exists(clean / "config.json") &&
                       (fs::exists(clean / "model.safetensors") || fs::exists(clean / "model.safetensors.index.json"));
  throw UserError("{}: no checkpoint in it (it should be a run folder with checkpoints/step_..., or one checkpoint){}",
                  clean.string(),
                  foreign ? "; a model of the transformers library becomes a run with sluice import" : "");
}

SafetensorsFile model_file(const Checkpoint& checkpoint) { return SafetensorsFile(checkpoint.path / kModelFile); }

void load_model(const Checkpoint& checkpoint, std::span<const NamedTensor> model) {
  model_file(checkpoint).load_into(model);
}

bool has_optimizer_state(const Checkpoint& checkpoint) {
  return !SafetensorsFile(checkpoint.path / kOptimizerFile).tensors().empty();
}

void load_checkpoint(const Checkpoint& checkpoint, std::span<const NamedTensor> model,
                     std::span<const NamedTensor> optimizer, OptimizerState wanted) {
  const SafetensorsFile weights = model_file(checkpoint);
  const SafetensorsFile moments(checkpoint.path / kOptimizerFile);
  const bool stored = wanted == OptimizerState::kStored && !moments.tensors().empty();
  weights.check_targets(model);
  if (stored) moments.check_targets(optimizer);
  weights.load_into(model);
  if (stored) return moments.load_into(optimizer);
  for (const NamedTensor& named : optimizer) std::memset(named.tensor.data, 0, named.tensor.bytes());
}

}  // namespace sluice

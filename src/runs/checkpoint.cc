// Names, state.json and its checksums; writing aside, reading back, finding the newest whole one (checkpoint.h).
#include "runs/checkpoint.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <system_error>
#include <utility>

#include <sys/stat.h>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/aside.h"
#include "base/files/input_file.h"
#include "base/limits.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kFormat = 1;
constexpr const char* kModelFile = "model.safetensors";
constexpr const char* kOptimizerFile = "optimizer.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kLatestFile = "latest";
constexpr const char* kDamaged = ".damaged";
constexpr const char* kStepPrefix = "step_";
constexpr size_t kMostDigits = 18;  // of a step: fits int64_t

using FileSums = std::map<std::string, FileSum>;

// ---- names ----------------------------------------------------------------------------------------------------------

std::string folder_name(int64_t step) { return fmt::format("{}{:08d}", kStepPrefix, step); }

std::optional<int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const std::string digits = name.substr(std::string(kStepPrefix).size());
  const bool number = !digits.empty() && digits.size() <= kMostDigits &&
                      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  return number ? std::optional(std::stoll(digits)) : std::nullopt;
}

// The step and the number of "step_00000025.former" (1) or "step_00000025.former2" (2).
std::optional<std::pair<int64_t, int64_t>> former_of(const std::string& name) {
  const size_t mark = name.find(kFormer);
  if (mark == name.npos) return std::nullopt;
  const auto step = step_of(name.substr(0, mark));
  if (!step || folder_name(*step) != name.substr(0, mark)) return std::nullopt;
  const std::string number = name.substr(mark + std::string_view(kFormer).size());
  if (number.empty()) return std::pair(*step, int64_t{1});
  const auto parsed = step_of(kStepPrefix + number);
  return parsed ? std::optional(std::pair(*step, *parsed)) : std::nullopt;
}

fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

bool is_checkpoint_folder(const fs::path& path) {
  return fs::is_directory(path) && (fs::exists(path / kStateFile) || step_of(path.filename().string()));
}

// ---- state.json -----------------------------------------------------------------------------------------------------

Json json_of(const CheckpointState& state, const FileSums& sums) {
  Json json;
  json["format"] = kFormat;
  json["step"] = state.step;
  json["model_fingerprint"] = state.model_fingerprint;
  json["metrics"] = {{"bytes", state.metrics.bytes}, {"lines", state.metrics.lines}};
  json["config"] = state.config;
  json["trainer"] = state.trainer;
  for (const auto& [name, sum] : sums) {
    json["files"][name] = {{"bytes", sum.bytes}, {"xxh3", checksum_text(sum.checksum)}};
  }
  json["xxh3"] = checksum_text(checksum_of(json.dump()));
  return json;
}

// Takes the last key off and compares: numbers are dumped with the digits that give the same number back, so that a
// parsed file dumps to what was summed.
void check_own_sum(Json& json, const fs::path& file) {
  if (!json.is_object() || !json.contains("xxh3")) throw CheckpointDamaged("{} has no checksum", file.string());
  const Json stored = json["xxh3"];
  json.erase("xxh3");
  const std::string actual = checksum_text(checksum_of(json.dump()));
  if (stored != actual) {
    throw CheckpointDamaged("{} is damaged: its checksum is {}, but {} was written", file.string(), actual,
                            stored.dump());
  }
}

uint64_t checksum_in(const JsonReader& sum) {
  const std::string& text = sum.text("xxh3");
  uint64_t checksum = 0;
  const char* const end = text.data() + text.size();
  const auto read = std::from_chars(text.data(), end, checksum, 16);
  if (read.ec != std::errc() || read.ptr != end) sum.refuse("xxh3", "a checksum of up to 16 hexadecimal digits");
  return checksum;
}

void check_format(const Json& json, const fs::path& file) {
  const auto format = json.find("format");
  if (format != json.end() && *format == kFormat) return;
  throw UserError("{} has format {}, but this Sluice reads format {}", file.string(),
                  format == json.end() ? "null" : excerpt(format->dump(), kMostQuoted), kFormat);
}

// After the checksum has been found right, a key that is missing or of another type means another program or version.
CheckpointState state_of(const Json& json, const fs::path& file, FileSums& sums) {
  check_format(json, file);
  try {
    const JsonReader reader(json, file.string());
    CheckpointState state;
    state.step = reader.integer("step", 0);
    state.model_fingerprint = reader.text("model_fingerprint");
    state.metrics.bytes = uint64_t(reader.object("metrics").integer("bytes", 0));
    state.metrics.lines = reader.object("metrics").integer("lines", 0);
    state.config = reader.value("config");
    state.trainer = reader.value("trainer");
    for (const char* name : {kModelFile, kOptimizerFile}) {
      const JsonReader sum = reader.object("files").object(name);
      sums[name] = {uint64_t(sum.integer("bytes", 0)), checksum_in(sum)};
    }
    return state;
  } catch (const UserError& error) {
    throw CheckpointDamaged("{} is no checkpoint's state: {}", file.string(), error.what());
  }
}

// Its size. What is not there, or no file at all, is damage; what the system does not let us see is not.
uint64_t size_of(const fs::path& file) {
  struct stat status {};
  if (stat(file.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP) throw CheckpointDamaged("{} is missing", file.string());
    throw_file_error("read", file, errno);
  }
  if (!S_ISREG(status.st_mode)) throw CheckpointDamaged("{} is damaged: it is no regular file", file.string());
  return uint64_t(status.st_size);
}

void verify_file(const fs::path& file, const FileSum& expected) {
  const uint64_t bytes = size_of(file);
  if (bytes != expected.bytes) {
    throw CheckpointDamaged("{} is damaged: it has {} bytes, but {} were written", file.string(), bytes,
                            expected.bytes);
  }
  const uint64_t checksum = checksum_of_file(file);
  if (checksum != expected.checksum) {
    throw CheckpointDamaged("{} is damaged: its checksum is {}, but {} was written", file.string(),
                            checksum_text(checksum), checksum_text(expected.checksum));
  }
}

Json parse_state(const std::string& text, const fs::path& file) {
  try {
    return parse_json(text, file.string());
  } catch (const UserError& error) {
    throw CheckpointDamaged("{}", error.what());
  }
}

Checkpoint read_state(const fs::path& path, FileSums& sums) {
  const fs::path file = path / kStateFile;
  size_of(file);
  Json json = parse_state(read_regular_file(file, kMostConfigBytes, "a checkpoint's state"), file);
  check_own_sum(json, file);
  return {path, state_of(json, file, sums)};
}

[[noreturn]] void throw_unreadable(const fs::path& path, const std::string& reason, bool is_place) {
  const std::string text = fmt::format("{}; the checkpoint {} may be whole, so nothing older is taken in its place: mend that, "
                                       "or name another one", reason, path.string());
  if (is_place) throw UserError("{}", text);
  throw RunError("{}", text);
}

}  // namespace

// ---- finding --------------------------------------------------------------------------------------------------------

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
    const auto step = step_of(name);
    std::error_code unknown;
    const fs::file_status status = entry->symlink_status(unknown);
    if (step && name == folder_name(*step) && (fs::is_directory(status) || fs::is_symlink(status))) steps.push_back(*step);
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
  } catch (const RunError& error) {   // the disk does not give it back, too many open files
    throw_unreadable(path, error.what(), false);
  }
}

std::optional<Checkpoint> newest_state(const fs::path& folder) {
  const std::vector<int64_t> steps = list_checkpoints(folder);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    try {
      FileSums sums;
      return read_state(folder / folder_name(*step), sums);
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
      return verify_checkpoint(folder / folder_name(*step));
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
  if (!fs::is_directory(clean)) throw UserError("{} is a file, and a run's folder or a checkpoint's is asked for", clean.string());
  if (is_checkpoint_folder(clean)) return verify_checkpoint(clean);
  const fs::path inner = clean / "checkpoints";
  const fs::path folder = fs::is_directory(inner) ? inner : clean;
  if (auto found = find_newest_whole(folder, damaged)) return std::move(*found);
  const bool foreign = fs::exists(clean / "config.json") && (fs::exists(clean / "model.safetensors") ||
                                                             fs::exists(clean / "model.safetensors.index.json"));
  throw UserError("{}: no checkpoint in it (it should be a run folder with checkpoints/step_..., or one checkpoint){}",
                  clean.string(), foreign ? "; a model of the transformers library becomes a run with sluice import" : "");
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

// ---- the store ------------------------------------------------------------------------------------------------------

CheckpointStore::CheckpointStore(fs::path folder, int64_t keep)
    : folder_(without_slash(folder)), keep_(keep) {
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

fs::path CheckpointStore::path_of(int64_t step) const { return folder_ / folder_name(step); }

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
    const std::string cause = error.what();
    if (!aside.empty()) remove_quietly(aside);
    const uint64_t needed = safetensors_bytes(model) + safetensors_bytes(optimizer);
    throw RunError("cannot save the checkpoint {}: {}; it needs {}, and {} are free there; {} checkpoints are as "
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
  writer.write(json_of(state, sums).dump(2) + "\n");
  writer.finish();
  sync_folder(target);
}

void CheckpointStore::set_latest(int64_t step) const {
  write_file_atomic(folder_ / kLatestFile, folder_name(step) + "\n");
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
    throw UserError("--resume {} is another run, but {} already has checkpoints up to step {}; name another --out, or "
                    "use --resume auto", option.from.string(), folder_.string(), steps.back());
  }
  if (point.own && option.fresh_optimizer) {
    throw UserError("--fresh-optimizer is for a start from another run, but {} is this run's own checkpoint", path.string());
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
  const std::string name = folder_name(newest) + "\n";
  if (!fs::is_regular_file(latest, unknown) || fs::file_size(latest, unknown) != name.size() || read_file(latest) != name)
    set_latest(newest);
  remove_old(newest);
}

}  // namespace sluice

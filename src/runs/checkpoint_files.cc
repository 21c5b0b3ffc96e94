// state.json written, read and compared with the files that it sums (checkpoint_files.h).
#include "runs/checkpoint_files.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <sys/stat.h>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/error.h"
#include "base/files/input_file.h"
#include "base/limits.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kFormat = 1;
constexpr size_t kMostDigits = 18;  // of a step: fits int64_t

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

Json parse_state(const std::string& text, const fs::path& file) {
  try {
    return parse_json(text, file.string());
  } catch (const UserError& error) {
    throw CheckpointDamaged("{}", error.what());
  }
}

}  // namespace

std::string checkpoint_name(int64_t step) { return fmt::format("{}{:08d}", kStepPrefix, step); }

std::optional<int64_t> checkpoint_step(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const std::string digits = name.substr(std::string(kStepPrefix).size());
  const bool number = !digits.empty() && digits.size() <= kMostDigits &&
                      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  return number ? std::optional(std::stoll(digits)) : std::nullopt;
}

fs::path without_slash(const fs::path& path) { return path.has_filename() ? path : path.parent_path(); }

Json state_json(const CheckpointState& state, const FileSums& sums) {
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

Checkpoint read_state(const fs::path& path, FileSums& sums) {
  const fs::path file = path / kStateFile;
  size_of(file);
  Json json = parse_state(read_regular_file(file, kMostConfigBytes, "a checkpoint's state"), file);
  check_own_sum(json, file);
  return {path, state_of(json, file, sums)};
}

}  // namespace sluice

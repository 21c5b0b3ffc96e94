// The names of a checkpoint's files, and state.json with its checksums (checkpoint.h has the layout).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "runs/checkpoint.h"

namespace sluice {

inline constexpr const char* kModelFile = "model.safetensors";
inline constexpr const char* kOptimizerFile = "optimizer.safetensors";
inline constexpr const char* kStateFile = "state.json";

inline constexpr const char* kStepPrefix = "step_";
std::string checkpoint_name(int64_t step);                        // "step_00001000"
std::optional<int64_t> checkpoint_step(const std::string& name);  // of such a name; nullopt for any other

std::filesystem::path without_slash(const std::filesystem::path& path);

using FileSums = std::map<std::string, FileSum>;  // by file name

// What state.json holds, its own checksum last.
Json state_json(const CheckpointState& state, const FileSums& sums);

// Throw CheckpointDamaged where the file is not what was written; UserError or RunError where it cannot be read.
Checkpoint read_state(const std::filesystem::path& path, FileSums& sums);
void verify_file(const std::filesystem::path& file, const FileSum& expected);

}  // namespace sluice

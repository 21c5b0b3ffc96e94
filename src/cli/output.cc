// Where results may be written, so that no input and no part of a run is written over (output.h).
#include "cli/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/files/files.h"
#include "base/files/glob.h"
#include "base/files/input_file.h"
#include "runs/run_folder.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void throw_output_error(int error) {
  throw RunError("cannot write to the standard output: {}", std::strerror(error));
}

void check_entry(const std::string& option, const fs::path& path, const fs::path& folder) {
  if (access(folder.c_str(), W_OK | X_OK) == 0) return;
  throw UserError("{} {}: cannot write in the folder {}: {}", option, path.string(), folder.string(),
                  std::strerror(errno));
}

bool is_stream(const fs::path& path) {
  const std::string kind = special_kind(path);
  return kind == "a device" || kind == "a named pipe";
}

// What a run, a checkpoint or a model is made of: figures written there would destroy it.
bool is_precious(const fs::path& file) {
  constexpr std::string_view kNames[] = {"config.json", "info.json",  "metrics.jsonl", "log.txt",
                                         "origin.json", "state.json", "latest",        "lock"};
  constexpr std::string_view kEndings[] = {".safetensors", ".bin", ".model", ".zst", ".gz"};
  const std::string name = file.filename().string(), ending = file.extension().string();
  return std::count(std::begin(kNames), std::end(kNames), name) > 0 ||
         std::count(std::begin(kEndings), std::end(kEndings), ending) > 0;
}

// Maps, analyses and checkpoints of a run, its quantization.json, and a sweep's configs.
bool is_part_of_run(const fs::path& file) {
  const fs::path folder = fs::absolute(file).lexically_normal().parent_path(), above = folder.parent_path();
  std::error_code unknown;
  const auto is_run = [&](const fs::path& path) { return fs::exists(path / "config.json", unknown); };
  const std::string within = folder.filename().string();
  if (within == "attention" || within == "analysis" || within == "checkpoints") return is_run(above);
  return (within == "configs" && is_run_config(file)) || (file.filename() == "quantization.json" && is_run(folder));
}

bool is_within(const fs::path& file, const fs::path& folder) {
  std::error_code error;
  const fs::path below = fs::weakly_canonical(file, error).lexically_relative(fs::weakly_canonical(folder, error));
  return !error && !below.empty() && *below.begin() != "..";
}

// The input that the file, which is there, is or lies in; empty if it is none.
std::string input_at(const fs::path& file, const std::vector<std::string>& inputs) {
  std::error_code error;
  for (const std::string& input : inputs) {
    if (input.empty() || input == "-") continue;
    const bool glob = looks_like_glob(input) && !fs::exists(input, error);
    for (const std::string& name : glob ? expand_glob(input, "") : std::vector<std::string>{input}) {
      if (fs::equivalent(file, name, error) || (fs::is_directory(name, error) && is_within(file, name))) return input;
    }
  }
  return "";
}

}  // namespace

void check_output_file(const std::string& option, const fs::path& path, const std::vector<std::string>& inputs) {
  if (path.empty() || path == "-" || is_stream(path)) return;
  std::error_code unknown;
  const bool is_there = fs::is_regular_file(path, unknown);
  if (is_there && (is_precious(path) || is_part_of_run(path)))
    throw UserError("{} {}: this is no file of figures, and would be overwritten; name another", option, path.string());
  if (const std::string input = is_there ? input_at(path, inputs) : ""; !input.empty())
    throw UserError("{} {}: this file is read ({}), and would be overwritten; name another", option, path.string(),
                    input);
  std::error_code error;
  if (!path.has_filename() || fs::is_directory(path, error))
    throw UserError("{} {}: this is a folder; name a file", option, path.string());
  check_entry(option, path, path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void check_output_folder(const std::string& option, const fs::path& path) {
  std::error_code error;
  fs::path nearest = path.has_filename() ? path : path.parent_path();
  while (!nearest.empty() && !fs::exists(nearest, error) && !error) nearest = nearest.parent_path();
  if (nearest.empty()) nearest = ".";
  if (!error && !fs::is_directory(nearest, error))
    throw UserError("{} {}: cannot write there: {} is no folder", option, path.string(), nearest.string());
  // A folder that is there may be replaced, which its parent must allow; the writer tells.
  check_entry(option, path, nearest);
}

void print_text(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) throw_output_error(errno);
}

void finish_output() {
  if (std::fflush(stdout) != 0) throw_output_error(errno);
}

void print_notes(const std::vector<std::string>& notes) {
  for (const std::string& text : notes) tell("note: {}", text);
}

void print_saved(const std::filesystem::path& path) { tell("saved: {}", path.string()); }

void write_text(std::string_view text, const std::filesystem::path& path) {
  if (path == "-") print_text(text);
  else if (is_stream(path)) File(path, O_WRONLY).write(text.data(), text.size());
  else write_named_file(path, text);
}

void write_json(const Json& json, const std::filesystem::path& path) {
  write_text(json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n", path);  // names may be no UTF-8
}

}  // namespace sluice

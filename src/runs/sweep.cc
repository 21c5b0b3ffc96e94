// A sweep's file read, checked, and made the configs of its runs (sweep.h).
#include "runs/sweep.h"

#include <algorithm>
#include <functional>
#include <set>

#include "base/config/json_reader.h"
#include "base/config/json_text.h"
#include "base/console.h"
#include "base/error.h"
#include "base/files/files.h"
#include "base/limits.h"
#include "runs/run_folder.h"

namespace sluice {

namespace fs = std::filesystem;

namespace {

constexpr const char* kKeys[] = {"name", "base", "config", "variants", "seeds"};

// The member, which must be of the kind that `is` accepts; null if there is none.
Json member(const Json& sweep, const char* key, bool (Json::*is)() const, const char* kind, const std::string& path) {
  const auto found = sweep.find(key);
  if (found == sweep.end()) return Json();
  if (!((*found).*is)()) throw UserError("{}: {} must be {}, got {}", path, key, kind, shown(*found));
  return *found;
}

void check_keys(const Json& sweep, const std::string& path) {
  const std::vector<std::string> known(std::begin(kKeys), std::end(kKeys));
  for (const auto& [key, value] : sweep.items()) {
    if (key == "$schema" || std::count(known.begin(), known.end(), key) > 0) continue;
    const std::string near = nearest(key, known);
    throw UserError("{}: unknown key {}{}", path, excerpt(key, kMostQuoted),
                    near.empty() ? fmt::format("; a sweep has {}", fmt::join(known, ", "))
                                 : fmt::format("; did you mean {}?", near));
  }
}

// Names become folders.
void check_variant_name(const std::string& name, const std::string& path) {
  const auto is_plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
  };
  if (!name.empty() && name.size() <= 100 && name[0] != '.' && std::all_of(name.begin(), name.end(), is_plain)) return;
  throw UserError(
      "{}: the variant's name \"{}\" is to be a folder's: letters, digits, _, - and . (not first), 100 at most", path,
      excerpt(name, kMostQuoted));
}

bool is_within(const std::string& key, const std::string& group) {
  return key == group || key.starts_with(group + ".");
}

// Calls use("model.attention") for each value that the changes set; a list is one value.
void for_each_key(const Json& changes, const std::string& key, const std::function<void(const std::string&)>& use) {
  if (!changes.is_object() || changes.empty()) return use(key);
  for (const auto& [name, value] : changes.items()) for_each_key(value, key.empty() ? name : key + "." + name, use);
}

// What the sweep itself varies cannot be set for all of its runs.
void check_override(const std::string& assignment, const Json& variants, bool has_seeds, const std::string& path) {
  const std::string key = assignment.substr(0, assignment.find('='));
  if (key == "seed" && has_seeds)
    throw UserError("--set {}: the runs' seeds are those that {} lists in seeds", assignment, path);
  for (const auto& [variant, changes] : variants.items()) {
    for_each_key(changes, "", [&, &name = variant](const std::string& changed) {
      if (is_within(key, changed) || is_within(changed, key))
        throw UserError("--set {} would make the variants the same: {} of {} sets {}", assignment, name, path, changed);
    });
  }
}

std::vector<Json> seeds_of(const Json& sweep, const std::string& path) {
  const Json list = member(sweep, "seeds", &Json::is_array, "a list of integers", path);
  if (list.is_null()) return {Json()};
  if (list.empty()) throw UserError("{}: seeds is empty, so there is nothing to train", path);
  std::set<uint64_t> seen;
  for (const Json& seed : list) {
    if (!seed.is_number_unsigned())
      throw UserError("{}: seeds must be integers of at least 0, got {}", path, excerpt(seed.dump(), kMostQuoted));
    if (!seen.insert(seed.get<uint64_t>()).second) throw UserError("{}: seeds names {} twice", path, seed.dump());
  }
  return {list.begin(), list.end()};
}

// Each run has a config of its own: what is below all variants, and its variant's changes.
void check_runs(const Json& changes, size_t seeds, const Json& base, const std::string& path) {
  const size_t variants = changes.size(), runs = variants * seeds;
  if (seeds > kMostSweepRuns || runs > kMostSweepRuns) {
    throw UserError("{}: {} variants with {} seeds are {} runs, but a sweep has at most {}", path, variants, seeds,
                    runs, kMostSweepRuns);
  }
  const uint64_t bytes = base.dump().size() * runs + changes.dump().size() * seeds;
  if (bytes > kMostSweepBytes) {
    throw UserError("{}: the configs of its {} runs have {}, but those of a sweep have at most {}", path, runs,
                    bytes_text(bytes), bytes_text(kMostSweepBytes));
  }
}

// The base file and the sweep's own "config", below the variants.
void add_base(ExperimentLayers& layers, const Json& sweep, const std::string& path) {
  const Json base = member(sweep, "base", &Json::is_string, "the path of a config", path);
  if (!base.is_null()) {
    const fs::path file = base.get<std::string>();
    layers.add_files((file.is_absolute() ? file : fs::path(path).parent_path() / file).lexically_normal());
  }
  const Json more = member(sweep, "config", &Json::is_object, "an object", path);
  if (!more.is_null()) layers.add(more, path);
}

SweepRun make_run(ExperimentLayers layers, const std::string& variant, const Json& changes, const Json& seed,
                  const std::vector<std::string>& overrides) {
  SweepRun run;
  run.variant = variant;
  const std::string place = "variant " + variant;
  Experiment experiment;
  try {
    layers.add(changes, place);
    layers.add_overrides(overrides);
    if (!seed.is_null()) layers.json()["seed"] = seed;
    experiment = layers.parse();
  } catch (const UserError& error) {
    const std::string text = error.what();
    throw UserError("{}{}", text.starts_with(place + ": ") ? "" : place + ": ", text);
  }
  run.name = experiment.name = fmt::format("{}-s{}", variant, experiment.seed);
  run.config = experiment.dump();
  return run;
}

}  // namespace

Sweep read_sweep(const std::string& path, const std::vector<std::string>& overrides, const std::string& out) {
  const Json json = read_json_file(path);
  if (!json.is_object()) throw UserError("{}: a sweep must be a JSON object, {{...}}", path);
  if (!json.contains("variants") && (json.contains("model") || json.contains("train") || json.contains("data")))
    throw UserError("{} is a config, not a sweep: sluice train {} trains it", path, path);
  check_key_count(json, path);
  check_keys(json, path);
  const Json name = member(json, "name", &Json::is_string, "a string", path);
  const Json variants = member(json, "variants", &Json::is_object, "an object of named changes", path);
  if (variants.empty()) throw UserError("{}: variants names none, so there is nothing to train", path);
  const std::vector<Json> seeds = seeds_of(json, path);
  ExperimentLayers base;
  add_base(base, json, path);
  check_runs(variants, seeds.size(), base.json(), path);
  ExperimentLayers same_for_all;
  same_for_all.add_overrides(overrides);
  for (const std::string& note : same_for_all.notes()) tell("note: {}", note);
  for (const std::string& assignment : overrides) check_override(assignment, variants, !seeds[0].is_null(), path);

  Sweep sweep;
  sweep.name = name.is_null() ? fs::path(path).stem().string() : name.get<std::string>();
  if (out.empty()) check_folder_name(sweep.name, path + ": name");
  sweep.folder = out.empty() ? fs::path("runs") / sweep.name : fs::path(out);
  for (const Json& seed : seeds) {
    for (const auto& [variant, changes] : variants.items()) {
      check_variant_name(variant, path);
      if (!changes.is_object()) throw UserError("{}: variants.{} must be an object of config keys", path, variant);
      sweep.runs.push_back(make_run(base, variant, changes, seed, overrides));
      sweep.runs.back().folder = sweep.folder / sweep.runs.back().name;
    }
  }
  return sweep;
}

bool is_trained(const SweepRun& run) {
  const fs::path config = run.folder / "config.json", info = run.folder / "info.json";
  if (!fs::exists(config)) return false;
  if (const auto found = experiment_difference(read_json_file(config.string()), run.config)) {
    throw UserError(
        "{} holds another experiment than this sweep's: {} is {} there and {} here; name another folder with "
        "--out, or move it away",
        run.folder.string(), found->key, found->stored.dump(), found->current.dump());
  }
  if (!fs::exists(info)) return false;
  try {
    const Json json = read_json_file(info.string(), kMostFigureBytes, "a run's file");
    const JsonReader state(json, info.string());
    return state.has("status") && state.text("status") == "done" && state.has("steps_done") &&
           state.integer("steps_done", 0) >= run.config.at("train").at("steps").get<int64_t>();
  } catch (const UserError&) {  // the run goes on from its checkpoints, and writes it again
    return false;
  }
}

}  // namespace sluice

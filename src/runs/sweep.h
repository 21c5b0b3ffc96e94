// A sweep: one config in several variants, each trained with several seeds. Its file is strict JSON:
//
//   {
//     "name": "small_lm",                              the folder below runs/; without it the file's name
//     "base": "../small_lm/base.json",                 a config, relative to this file
//     "config": {"train": {"steps": 500}},             laid over the base in all runs
//     "variants": {"softmax": {}, "vga": {"model": {"attention": "vga"}}},  laid over that, by name
//     "seeds": [1, 2, 3]                               without it the config's own
//   }
//
// The runs are variants x seeds, one seed of all variants before the next one. A run is called VARIANT-sSEED.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "experiment/experiment.h"

namespace sluice {

struct SweepRun {
  std::string name, variant;
  Json config;  // resolved
  std::filesystem::path folder;
};

struct Sweep {
  std::string name;
  std::filesystem::path folder;
  std::vector<SweepRun> runs;
};

// Reads a sweep and resolves every run's config. `overrides` ("a.b=value") are laid over all. `out` is the sweep's
// folder, runs/NAME if empty. UserError on the first thing that is wrong in any run.
Sweep read_sweep(const std::string& path, const std::vector<std::string>& overrides, const std::string& out);

// Whether the run's folder holds its last step. UserError if the folder holds another experiment.
bool is_trained(const SweepRun& run);

}  // namespace sluice

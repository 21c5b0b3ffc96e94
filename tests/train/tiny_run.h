// Runs of a few milliseconds, in this process: train, stop in the middle, break off, and look at what is on disk.
#pragma once

#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <csignal>

#include "base/files/files.h"
#include "data/temp_folder.h"
#include "kernels/cpu/cpu_backend.h"
#include "train/signals.h"
#include "train/trainer.h"

namespace sluice {

// The CPU, with a hook between a step's gradients and the guard that judges their norm.
class HookedBackend final : public CpuBackend {
 public:
  std::function<void(int64_t call, const Tensor& grads)> on_gradients;  // call: 1, 2, ... of this backend

  void launch(int place, const void* fields) override {
    if (place == Ops::index<SumOfSquares>()) {
      const Tensor& x = static_cast<const SumOfSquares*>(fields)->x;
      if (!grads_) grads_ = x.data;  // the first one asked for; saving asks for the weights'
      if (x.data == grads_ && on_gradients) on_gradients(++calls_, x);
    }
    CpuBackend::launch(place, fields);
  }
  int64_t calls() const { return calls_; }

 private:
  const void* grads_ = nullptr;
  int64_t calls_ = 0;
};

inline constexpr const char* kTinyConfig = R"({
  "model": {"vocab_size": 67, "context": 32, "layers": 2, "heads": 2, "width": 32, "mlp_width": 48, "mlp": "relu",
            "bias": false, "tied_head": false, "init": "pytorch"},
  "data":  {"type": "bigram_backcopy", "triggers": 3},
  "train": {"steps": 12, "batch": 6, "micro_batch": 4, "grad_clip": 1,
            "optimizer": {"lr": 3e-3, "weight_decay": 1e-2}, "schedule": {"type": "cosine", "warmup": 2}},
  "log":   {"every": 1, "eval_every": 5, "eval_batch": 6, "probe_every": 4, "probe_batch": 6, "map_positions": 8,
            "checkpoint_every": 5, "keep": 2}
})";

class TinyRuns {
 public:
  using Overrides = std::vector<std::string>;

  TinyRuns() { folder_.write("tiny.json", kTinyConfig); }

  const TempFolder& folder() const { return folder_; }
  std::string path(const std::string& file) const { return folder_.file(file); }

  Experiment experiment(const Overrides& overrides) const { return load_experiment(path("tiny.json"), overrides); }

  // Trains in the folder `run` and returns what Trainer::run does.
  int train(const std::string& run, const Overrides& overrides, HookedBackend& backend,
            const std::string& resume = "auto") const {
    Experiment experiment = this->experiment(overrides);
    const StopSignals signals;
    const ResumeOption option = ResumeOption::parse(resume);
    const RunFolder folder(path(run), experiment.dump(), option);
    Trainer trainer(backend, experiment, TrainingData::open(experiment), &folder);
    return trainer.run(option);
  }
  int train(const std::string& run, const Overrides& overrides, const std::string& resume = "auto") const {
    HookedBackend backend;
    return train(run, overrides, backend, resume);
  }
  // Stops as SIGTERM does, after `steps` steps of this call.
  int train_until(int64_t steps, const std::string& run, const Overrides& overrides) const {
    HookedBackend backend;
    backend.on_gradients = [steps](int64_t call, const Tensor&) {
      if (call == steps) on_stop_signal(SIGTERM);
    };
    return train(run, overrides, backend);
  }
  // Ends as a crash would, in the step after `steps` of this call: no checkpoint is written.
  void crash_after(int64_t steps, const std::string& run, const Overrides& overrides) const {
    HookedBackend backend;
    backend.on_gradients = [steps](int64_t call, const Tensor&) {
      if (call > steps) throw RunError("power cut");
    };
    (void)message_of<RunError>([&] { train(run, overrides, backend); });
  }

  std::string checkpoint(const std::string& run, int64_t step) const {
    return path(fmt::format("{}/checkpoints/step_{:08}", run, step));
  }
  std::string file(const std::string& run, const std::string& name) const { return read_file(path(run + "/" + name)); }
  Json json(const std::string& run, const std::string& name) const { return Json::parse(file(run, name)); }
  Json trainer_state(const std::string& run, int64_t step) const {
    return verify_checkpoint(checkpoint(run, step)).state.trainer;
  }
  std::string weights(const std::string& run, int64_t step) const {
    return read_file(checkpoint(run, step) + "/model.safetensors");
  }
  std::string optimizer(const std::string& run, int64_t step) const {
    return read_file(checkpoint(run, step) + "/optimizer.safetensors");
  }

  // The lines of metrics.jsonl of one kind (all if empty) without what the clock measures.
  std::vector<Json> metrics(const std::string& run, const std::string& kind = "") const {
    std::ifstream in(path(run + "/metrics.jsonl"));
    std::vector<Json> lines;
    for (std::string text; std::getline(in, text);) {
      Json line = Json::parse(text);
      line.erase("tokens_per_second");
      line.erase("step_ms");
      if (kind.empty() || line["kind"] == kind) lines.push_back(std::move(line));
    }
    return lines;
  }

  // All parameters of a checkpoint in one list.
  std::vector<float> parameters(const std::string& run, int64_t step) const {
    const SafetensorsFile file(checkpoint(run, step) + "/model.safetensors");
    std::vector<float> values;
    for (const StoredTensor& stored : file.tensors()) {
      const size_t first = values.size();
      values.resize(first + stored.bytes / sizeof(float));
      file.read(stored, values.data() + first);
    }
    return values;
  }

 private:
  TempFolder folder_;
};

}  // namespace sluice

// The whole config of a run: model, data, training, logging.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/config/config.h"
#include "base/config/config_layers.h"
#include "data/config.h"
#include "experiment/guard.h"
#include "experiment/schedule.h"
#include "model/config/config.h"
#include "model/module/module.h"

namespace sluice {

struct OptimizerConfig {
  std::string type = "adamw";
  double lr = 3e-4;
  std::vector<double> betas = {0.9, 0.95};
  double epsilon = 1e-8;
  double momentum = 0.9;
  double muon_momentum = 0.95;
  double adamw_lr = 0;
  double weight_decay = 0.1;
  std::vector<std::string> decay = {"matrix", "embedding"};

  void describe(Fields& fields);
  std::vector<DecayGroup> decay_groups() const;
};

template <>
struct ChoiceNames<Recompute> {
  static constexpr Choice<Recompute> kAll[] = {
      {"none", Recompute::kNone}, {"mlp", Recompute::kMlp}, {"block", Recompute::kBlock}};
};

enum class Precision { kFp32, kBf16 };
template <>
struct ChoiceNames<Precision> {
  static constexpr Choice<Precision> kAll[] = {{"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}};
};

// Whose attention kernels run on a GPU.
enum class AttentionBackend { kOwn, kCudnn };
template <>
struct ChoiceNames<AttentionBackend> {
  static constexpr Choice<AttentionBackend> kAll[] = {{"own", AttentionBackend::kOwn},
                                                      {"cudnn", AttentionBackend::kCudnn}};
};

struct TrainConfig {
  int64_t steps = 1000;
  int64_t batch = 8;
  int64_t micro_batch = 0;
  Precision precision = Precision::kFp32;
  Recompute recompute = Recompute::kNone;
  AttentionBackend attention_backend = AttentionBackend::kOwn;
  int64_t zero = 0;
  double bucket_mb = 25;
  double rank_timeout = 300;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  double grad_clip = 0;
  GuardConfig guard;

  void describe(Fields& fields);
};

struct LogConfig {
  int64_t every = 10;
  int64_t eval_every = 0;
  int64_t eval_batch = 32;
  int64_t probe_every = 100;
  int64_t probe_batch = 32;
  int64_t map_positions = 48;
  int64_t analyze_every = 0;
  int64_t analyze_sequences = 100;
  int64_t checkpoint_every = 1000;
  int64_t keep = 3;

  void describe(Fields& fields);
};

struct Experiment {
  std::string name = "run";
  uint64_t seed = 42;
  std::string device = "auto";
  ModelConfig model;
  DataConfig data;
  TrainConfig train;
  LogConfig log;

  void describe(Fields& fields);
  // Derives what was left open (kv_heads, mlp_width, micro_batch) and checks keys against each other. UserError.
  void resolve();
  void check_attention_backend() const;
  void check_objective() const;
  Json dump();  // the resolved config, which reads back to itself
  DType act() const { return train.precision == Precision::kBf16 ? DType::kBF16 : DType::kF32; }
};

// Whether it is a config that this program has resolved: it has all that every one of them has, and what a person
// writes hardly ever has.
bool is_resolved_config(const Json& json);

// What names a folder must not lead out of the one it lies in, nor write to a terminal. UserError that begins with
// `key`.
void check_folder_name(const std::string& name, const std::string& key);

// From a whole config, such as one that dump() gave. UserError on the first thing that is wrong.
Experiment parse_experiment(const Json& json);

// A config in layers that becomes an experiment; in errors its keys have the places where they stand.
class ExperimentLayers : public ConfigLayers {
 public:
  ExperimentLayers();
  // A config file and its bases. A run's own name, of its config.json, is not inherited: another run has another.
  void add_files(const std::string& path);
  Experiment parse() const;  // UserError on the first thing that is wrong

 private:
  struct Description {
    Description() { defaults.describe(fields); }
    Experiment defaults;
    Fields fields;
  };
  explicit ExperimentLayers(std::shared_ptr<Description> description);

  std::shared_ptr<Description> description_;
};

// Reads a config file with its bases, applies "a.b=value" overrides, parses and resolves. Without a "name" the file's
// is taken. The config.json of a run begins a run of another name where `out`, the new run's folder, is another than
// its own: that folder's, unless a name is set. UserError on the first thing that is wrong.
Experiment load_experiment(const std::string& path, const std::vector<std::string>& overrides,
                           const std::string& out = "");

}  // namespace sluice

// Facts gathered from where they are known (run_info.h).
#include "train/run_info.h"

#include <omp.h>
#include <spdlog/spdlog.h>

#include <map>

#include "base/build_info.h"

namespace sluice {

Json RunInfo::json(const RunSession& session, int64_t steps_done, const char* status) const {
  const TokenizerId tokenizer = data.train->tokenizer();
  return {{"parameters", learner.model().params().count()},
          {"device", backend.describe()},
          {"ranks", ranks.size()},
          {"threads", omp_get_max_threads()},
          {"precision", experiment.train.precision},
          {"version", build_info().version},
          {"commit", build_info().commit},
          {"data", data.train->describe()},
          {"tokenizer", tokenizer.name.empty() ? Json() : Json(tokenizer.text())},
          {"started", session.started()},
          {"seconds", session.seconds()},
          {"planned_bytes", planned_bytes()},
          {"steps_done", steps_done},
          {"status", status}};
}

std::string RunInfo::memory_table() const {
  const auto row = [](const std::string& what, size_t bytes) {
    return fmt::format("  {:<34} {:>10.1f} MB\n", what, double(bytes) / 1e6);
  };
  const Transformer& model = learner.model();
  std::string out = fmt::format("memory plan ({} parameters)\n", model.params().count());
  const std::string share = learner.is_sharded() ? fmt::format(", 1 of {} shares", ranks.size()) : "";
  const bool gradients_apart = learner.gradient_bytes() > 0;
  out += row(gradients_apart ? "parameters" : "parameters and gradients", model.params().bytes());
  if (gradients_apart) out += row("gradients" + share, learner.gradient_bytes());
  out += row("optimizer state" + share, learner.optimizer().bytes());
  out += row("buffers of a step", model.arena_bytes());
  if (probe_bytes > 0) out += row("probes", probe_bytes);
  out += row("in all", planned_bytes());
  std::map<std::string, size_t> kinds;
  for (const MemoryPlan::Buffer& buffer : model.plan().buffers()) kinds[buffer.kind] += buffer.bytes;
  out += "the buffers by kind; those that are never needed at the same time share memory\n";
  for (const auto& [kind, bytes] : kinds) out += row(kind, bytes);
  return out;
}

void note_unused_vocabulary(const Experiment& experiment, const TrainingData& data) {
  const int64_t used = data.train->vocab_size_needed(), all = experiment.model.vocab_size;
  if (all - used <= used / 4 + 128) return;  // what is common for round numbers, or too rare to be seen at once
  spdlog::warn(
      "model.vocab_size is {}, but the training data have no token above {}: the rest only takes time and memory", all,
      used - 1);
}

void note_idle_parts(const Experiment& experiment) {
  for (const std::string& text : experiment.model.attention.idle(experiment.model)) spdlog::warn("{}", text);
}

}  // namespace sluice

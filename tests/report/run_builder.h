// Makes run folders for the tests of comparison and report, and removes them.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "report/run_reader.h"

namespace sluice {

class RunBuilder {
 public:
  RunBuilder() {
    static int count = 0;
    root_ = std::filesystem::temp_directory_path() / fmt::format("sluice_runs_{}_{}", getpid(), count++);
    std::filesystem::create_directories(root_);
  }
  ~RunBuilder() { std::filesystem::remove_all(root_); }

  std::string path(const std::string& name) const { return (root_ / name).string(); }

  // Writes a file of a run; the folder comes with it. Returns the run's path.
  std::string write(const std::string& run, const std::string& file, const std::string& text) const {
    const std::filesystem::path at = root_ / run / file;
    std::filesystem::create_directories(at.parent_path());
    std::ofstream(at, std::ios::binary) << text;
    return path(run);
  }

  // A whole run of 20 steps, one layer, `heads` heads. Head h puts (h + 1) * share of its attention on the sink.
  // `gate` is the config's gate; its statistics are logged if it reads something.
  std::string add(const std::string& name, int seed, double share, const Json& gate = {{"reads", "none"}},
                  int heads = 1) const {
    const Json config = {{"name", name},
                         {"seed", seed},
                         {"model", {{"context", 4}, {"attention", {{"score", {{"type", "softmax"}}}, {"gate", gate}}}}},
                         {"data", {{"type", "bigram_backcopy"}}}};
    write(name, "config.json", config.dump());
    write(name, "info.json", R"({"parameters":814080,"device":"cpu","status":"done","steps_done":20})");
    write(name, "metrics.jsonl", metrics(share, gate.at("reads") != "none", heads));
    write(name, "attention/step_00000000.json", attention(0, 0.5));
    return write(name, "attention/step_00000020.json", attention(20, share));
  }

  static std::string metrics(double share, bool gated, int heads) {
    std::string out;
    const auto line = [&](const Json& json) { out += json.dump() + "\n"; };
    for (int step = 0; step <= 20; ++step) {
      // Twenty-one losses of which the last ten have the mean 2.55; the first speed is off, the median of the rest
      // 1000.
      line({{"kind", "train"},
            {"step", step},
            {"loss", 3.0 - 0.02 * step + (step == 20 ? -1.0 : 0.0)},
            {"tokens_per_second", step == 0 ? 10.0 : 990.0 + step}});
      if (step % 10) continue;
      line({{"kind", "risk"}, {"step", step}, {"backcopy", 0.1 / (1 + step)}, {"bigram", 2.232}});
      for (int head = 0; head < heads; ++head) {
        line({{"kind", "probe"},
              {"step", step},
              {"layer", 0},
              {"head", head},
              {"sink_attention", share * (head + 1) * step / 20},
              {"sink_logit_gap", 9.5},
              {"value_norm_sink", 0.5},
              {"value_norm_rest", 4.0},
              {"wo_value_norm_sink", 0.75},
              {"residual_norm_sink", 60.0},
              {"residual_norm_rest", 20.0}});
        if (!gated) continue;
        line({{"kind", "gate"},
              {"step", step},
              {"layer", 0},
              {"head", head},
              {"mean", 0.4},
              {"closed_share", 0.25},
              {"mean_sink", 0.05}});
      }
    }
    return out;
  }

  static std::string attention(int step, double share) {
    const Json map = {{"layer", 0}, {"head", 0}, {"weights", {{1.0}, {share, 1 - share}}}};
    return Json{{"step", step}, {"tokens", {"BOS", "</script><b>"}}, {"maps", Json::array({map})}}.dump();
  }

 private:
  std::filesystem::path root_;
};

inline const Json kOutputGate = {{"reads", "value"}, {"site", "output"}, {"grain", "head"}};
inline const Json kSourceGate = {{"reads", "value"}, {"site", "source"}, {"grain", "head"}};

}  // namespace sluice

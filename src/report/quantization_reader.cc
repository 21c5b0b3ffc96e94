// quantization.json: what quantizing the model costs.
#include <fmt/format.h>

#include <cmath>
#include <filesystem>

#include "report/run_files.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

// Returns what is wrong with it, or nothing after its figures have been filed. Throws Json::exception.
std::optional<std::string> add_quantization(RunRecord& run, const Json& json) {
  RecordedQuantization out;
  out.step = integer_at(json, "step");
  if (const int64_t last = run.last_step(); last >= 0 && out.step > last)
    return "of a step that the run has not reached";
  const Json &weights = json.at("weights"), &inputs = json.at("activations");
  const bool percentile = inputs.contains("percentile");
  out.rule = fmt::format("{}, weights {} per {}, activations {} {}", json.at("quantization").get<std::string>(),
                         weights.at("range").get<std::string>(), weights.at("granularity").get<std::string>(),
                         percentile ? "percentile" : "minmax with momentum",
                         inputs.at(percentile ? "percentile" : "momentum").get<double>());
  out.data = fmt::format("{} sequences of {}, calibrated on {} of {}", integer_at(json, "sequences"),
                         json.at("data").get<std::string>(), integer_at(json, "calibration_sequences"),
                         json.at("calibration_data").get<std::string>());
  const double plain = number_or_nan(json.at("plain").at("loss")),
               loss = number_or_nan(json.at("quantized").at("loss"));
  const bool whole = json.contains("all_activations");
  const double of_all = whole ? number_or_nan(json.at("all_activations").at("loss")) : NAN;
  set_point(run.series[{"quantization", "perplexity"}], out.step, std::exp(loss));
  set_point(run.series[{"quantization", "change"}], out.step, 100 * std::expm1(loss - plain));
  if (whole)
    set_point(run.series[{"quantization", "change_all_activations"}], out.step, 100 * std::expm1(of_all - plain));
  run.quantization = std::move(out);
  return std::nullopt;
}

}  // namespace

void read_quantization(RunRecord& run) {
  const fs::path file = fs::path(run.path) / "quantization.json";
  if (!fs::is_regular_file(file)) return;
  std::string unreadable;
  const std::optional<Json> json = try_read_json(file, unreadable);
  std::optional<std::string> problem = unreadable;
  try {
    if (json) problem = add_quantization(run, *json);
  } catch (const Json::exception&) {
    problem = "malformed";
  }
  if (problem) run.notes.push_back("quantization.json is " + *problem);
}

}  // namespace sluice

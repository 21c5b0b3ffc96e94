#include "measure/quantization_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/number_text.h"
#include "base/text_table.h"

namespace sluice {
namespace {

std::string signed_number(double value) {
  return fmt::format("{}{}", value >= 0 ? "+" : "", format_significant(value, 3));
}

std::string percent(double share) { return share == 0 ? "0" : format_significant(100 * share, 3) + "%"; }

std::string weight_rule(const QuantizationOptions& options) {
  return fmt::format("int{}, symmetric, per {}, {}", options.weight_bits, options.per_channel ? "channel" : "matrix",
                     options.mse_weights ? "least squared error" : "min-max");
}

std::string input_rule(const QuantizationOptions& options) {
  const std::string range = options.percentile ? fmt::format("percentile {}", *options.percentile)
                                               : fmt::format("running min-max with momentum {}", options.momentum);
  return fmt::format("uint{}, asymmetric, per tensor, static, {}", options.input_bits, range);
}

// The grid with the longest steps.
const Grid& coarsest(const std::vector<Grid>& grids) {
  return *std::max_element(grids.begin(), grids.end(), [](const Grid& a, const Grid& b) { return a.scale < b.scale; });
}

TextTable model_table(const QuantizationReport& report) {
  TextTable table;
  table.corner = "model";
  table.columns = {{"held-out data", "loss [nats]"}, {"held-out data", "perplexity"}, {"held-out data", "change"}};
  const auto row = [&](const std::string& label, double loss) {
    const double change = std::exp(loss - report.plain) - 1;
    table.rows.push_back({.label = label,
                          .cells = {fmt::format("{:.5f}", loss), format_significant(std::exp(loss), 5),
                                    fmt::format("{:+.3f}%", 100 * change)}});
  };
  const QuantizationOptions& o = report.options;
  row("as it is", report.plain);
  row(report.name(), report.quantized);
  row(fmt::format("W{} (weights alone)", o.weight_bits), report.weights_only);
  row(fmt::format("A{} (inputs alone)", o.input_bits), report.inputs_only);
  if (o.all_activations) row(report.name() + ", all activations", report.all_activations);
  table.footnotes = {
      fmt::format("{} held-out sequences of {} tokens", format_count(double(report.sequences)), report.context),
      "weights: " + weight_rule(o),
      fmt::format("inputs: {}; calibrated on {} training sequences", input_rule(o), report.calibration_sequences),
      "quantized: weight and input of every linear layer of the blocks, and of a transform in the head; not the output "
      "matrix, nor anything else"};
  if (o.all_activations)
    table.footnotes.push_back(
        "all activations: the residual stream, norms, queries, keys, values, scores, weights, results and outputs too; "
        "not embeddings, gains and biases, gates, the output matrix and logits");
  return table;
}

TextTable layer_table(const QuantizationReport& report) {
  TextTable table;
  table.corner = "layer";
  if (!report.costs.empty()) table.columns = {{"loss [nats]", "only it"}, {"loss [nats]", "left out"}};
  for (const char* title : {"max |w|", "step", "clipped", "error"}) table.columns.push_back({"weight", title});
  for (const char* title : {"min", "max", "max |x|", "grid from", "to", "step", "zero", "clipped", "error"})
    table.columns.push_back({"input", title});
  for (size_t i = 0; i < report.linears.size(); ++i) {
    const QuantizedLinear& linear = report.linears[i];
    const Grid& grid = linear.input_grid;
    TextRow row{.label = linear.name, .cells = {}};
    if (!report.costs.empty())
      row.cells = {signed_number(report.costs[i].only), signed_number(-report.costs[i].except)};
    for (const double value : {linear.weight_norm, coarsest(linear.weight_grids).scale})
      row.cells.push_back(format_significant(value, 3));
    row.cells.push_back(percent(linear.weight_error.clipped_share()));
    row.cells.push_back(percent(linear.weight_error.relative()));
    for (const double value : {linear.seen.least, linear.seen.greatest, linear.input_norm, grid.ends().least,
                               grid.ends().greatest, grid.scale})
      row.cells.push_back(format_significant(value, 3));
    row.cells.push_back(std::to_string(grid.zero_point()));
    row.cells.push_back(percent(linear.input_error.clipped_share()));
    row.cells.push_back(percent(linear.input_error.relative()));
    table.rows.push_back(std::move(row));
  }
  if (!report.costs.empty())
    table.footnotes.push_back(
        fmt::format("only it: change of the model's loss when this layer alone is quantized; left out: change of the "
                    "{} model's when it "
                    "is not; {} held-out sequences",
                    report.name(), format_count(double(report.layer_sequences))));
  table.footnotes.push_back("inputs over the calibration data; max |x|: a sequence's largest, mean over sequences");
  table.footnotes.push_back(
      "clipped: share of values beyond the grid; error: root of the squared error over the squares");
  table.footnotes.push_back("step of a weight: that of its coarsest grid");
  return table;
}

TextTable activation_table(const QuantizationReport& report) {
  TextTable table;
  table.corner = "activation";
  table.columns = {{"values", "min"}, {"values", "max"}};
  for (const char* title : {"from", "to", "step", "zero", "clipped", "error"}) table.columns.push_back({"grid", title});
  for (const QuantizedActivation& one : report.activations) {
    TextRow row{.label = one.name, .cells = {}};
    for (const double value :
         {one.seen.least, one.seen.greatest, one.grid.ends().least, one.grid.ends().greatest, one.grid.scale})
      row.cells.push_back(format_significant(value, 3));
    row.cells.push_back(std::to_string(one.grid.zero_point()));
    row.cells.push_back(percent(one.error.clipped_share()));
    row.cells.push_back(percent(one.error.relative()));
    table.rows.push_back(std::move(row));
  }
  return table;
}

Json json_of_loss(double loss) { return {{"loss", loss}, {"perplexity", std::exp(loss)}}; }

Json json_of_error(const GridError& error) {
  return {{"clipped_share", error.clipped_share()}, {"relative_error", error.relative()}};
}

Json json_of_input(const Range& seen, const Grid& grid, const GridError& error) {
  Json out = {{"least", seen.least},
              {"greatest", seen.greatest},
              {"scale", grid.scale},
              {"zero_point", grid.zero_point()},
              {"greatest_integer", int64_t(grid.high - grid.low)}};
  out.update(json_of_error(error));
  return out;
}

Json json_of_linear(const QuantizedLinear& linear) {
  Json scales = Json::array();
  for (const Grid& grid : linear.weight_grids) scales.push_back(grid.scale);
  const Grid& first = linear.weight_grids.front();
  Json weight = {{"shape", {linear.out, linear.in}},    {"infinity_norm", linear.weight_norm},
                 {"scales", std::move(scales)},         {"rows_of_scales", linear.grid_rows},
                 {"least_integer", int64_t(first.low)}, {"greatest_integer", int64_t(first.high)}};
  weight.update(json_of_error(linear.weight_error));
  Json input = json_of_input(linear.seen, linear.input_grid, linear.input_error);
  input["infinity_norm"] = linear.input_norm;
  return {{"name", linear.name}, {"weight", std::move(weight)}, {"input", std::move(input)}};
}

}  // namespace

std::string QuantizationReport::name() const { return fmt::format("W{}A{}", options.weight_bits, options.input_bits); }

Json QuantizationReport::json() const {
  Json layers = Json::array();
  for (size_t i = 0; i < linears.size(); ++i) {
    Json layer = json_of_linear(linears[i]);
    if (!costs.empty()) layer["loss"] = {{"only_it", costs[i].only}, {"left_out", -costs[i].except}};
    layers.push_back(std::move(layer));
  }
  Json out = {{"quantization", name()},
              {"weights",
               {{"bits", options.weight_bits},
                {"range", options.mse_weights ? "mse" : "minmax"},
                {"granularity", options.per_channel ? "channel" : "matrix"}}},
              {"activations", {{"bits", options.input_bits}, {"range", options.percentile ? "percentile" : "minmax"}}},
              {"context", context},
              {"calibration_sequences", calibration_sequences},
              {"sequences", sequences},
              {"layer_sequences", layer_sequences},
              {"plain", json_of_loss(plain)},
              {"quantized", json_of_loss(quantized)},
              {"weights_only", json_of_loss(weights_only)},
              {"activations_only", json_of_loss(inputs_only)},
              {"layers", std::move(layers)}};
  if (options.percentile) out["activations"]["percentile"] = *options.percentile;
  else out["activations"]["momentum"] = options.momentum;
  if (!options.all_activations) return out;
  out["all_activations"] = json_of_loss(all_activations);
  for (const QuantizedActivation& one : activations) {
    Json line = {{"name", one.name}};
    line.update(json_of_input(one.seen, one.grid, one.error));
    out["all_activations"]["of"].push_back(std::move(line));
  }
  return out;
}

QuantizationReport measure_quantization(Quantizer& quantizer, const DataSource& held_out, int64_t sequences,
                                        int64_t layer_sequences,
                                        const std::function<void(const std::string&)>& progress) {
  const auto note = [&](const std::string& text) {
    if (progress) progress(text);
  };
  QuantizationReport out;
  out.options = quantizer.options();
  out.linears = quantizer.linears();
  out.context = quantizer.model().config().context;
  out.calibration_sequences = out.options.calibration_batches * quantizer.model().max_batch();
  out.sequences = sequences;
  out.layer_sequences = layer_sequences;
  note("the model as it is");
  out.plain = quantizer.loss(held_out, sequences);
  if (!std::isfinite(out.plain))
    throw RunError("the model's loss is {}, so there is nothing to compare with", std::fabs(out.plain));
  note("the quantized model");
  out.quantized = quantizer.loss(held_out, sequences, {});
  out.weights_only = quantizer.loss(held_out, sequences, {.inputs = false});
  out.inputs_only = quantizer.loss(held_out, sequences, {.weights = false});
  if (out.options.all_activations) {
    note("the model with all activations quantized");
    out.all_activations = quantizer.loss(held_out, sequences, {.activations = true});
    out.activations = quantizer.activations_found();
  }
  if (layer_sequences == 0) return out;
  const bool same = layer_sequences == sequences;
  const double plain = same ? out.plain : quantizer.loss(held_out, layer_sequences);
  const double quantized = same ? out.quantized : quantizer.loss(held_out, layer_sequences, {});
  for (size_t i = 0; i < out.linears.size(); ++i) {
    note(fmt::format("layer {} of {}", i + 1, out.linears.size()));
    out.costs.push_back({quantizer.loss(held_out, layer_sequences, {.only = i}) - plain,
                         quantized - quantizer.loss(held_out, layer_sequences, {.except = i})});
  }
  return out;
}

std::string to_text(const QuantizationReport& report, size_t width) {
  const std::string text = to_text(model_table(report), width) + "\n" + to_text(layer_table(report), width);
  return report.activations.empty() ? text : text + "\n" + to_text(activation_table(report), width);
}

}  // namespace sluice

#include "measure/quantizer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "kernels/host_copy.h"
#include "model/config/residual_parts.h"

namespace sluice {
namespace {

constexpr const char* kSuffix = ".weight";

std::string layer_name(const std::string& parameter) {
  return parameter.substr(0, parameter.size() - std::string(kSuffix).size());
}

size_t in_lines(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Rows of a weight that share a grid: each one, or those of each matrix that is stacked in it.
std::vector<int64_t> rows_of_grids(const ParamSpec& weight, bool per_channel) {
  const int64_t rows = weight.shape.rows();
  if (per_channel) return std::vector<int64_t>(size_t(rows), 1);
  return weight.matrices.empty() ? std::vector<int64_t>{rows} : weight.matrices;
}

}  // namespace

// What is collected of a layer's input while the calibration data pass.
struct Quantizer::Observation {
  explicit Observation(double momentum) : running(momentum) {}
  RunningRange running;
  std::optional<PercentileRange> percentile;
  double norms = 0;
  int64_t sequences = 0, width = 0;
};

Quantizer::Quantizer(Transformer& model, const QuantizationOptions& options)
    : model_(model), options_(options), batches_(model.max_batch()) {
  linear_of_.assign(model.params().specs().size(), -1);
  if (options.percentile && last_reader_of_embedding(model.config()) >= 0)
    throw UserError(
        "--activations percentile must know how many inputs a product has, but with model.attention.qk_source = "
        "embedding a layer's queries and keys have others than its values; take minmax");
  if (!options.all_activations) return;
  const std::string residual = model.config().residual.part().name;
  if (!model.config().residual.part().one_stream)
    throw UserError(
        "--all-activations puts the residual stream on a grid, and there must be one: it takes model.residual = add or "
        "post_norm, not {}",
        residual);
  all_ = std::make_unique<ActivationQuantizer>(options_, model.config().layers);
}

Quantizer::~Quantizer() { model_.set_hook(nullptr); }

void Quantizer::run_calibration(Task task, const DataSource& data, int64_t batches) {
  task_ = task;
  model_.set_hook(this);
  if (all_) all_->begin(task);
  batches_.for_each(data, 0, batches * model_.max_batch(), [&](const Batch& batch) {
    if (model_.config().head_transform) model_.loss(batch);  // of the rows that the head has in use
    else model_.forward(batch);
    if (all_) all_->end_batch();
  });
  model_.set_hook(nullptr);
}

void Quantizer::calibrate(const DataSource& data) {
  check(linears_.empty(), "calibrate: once");
  if (all_ && options_.percentile) run_calibration(Task::kCount, data, 1);
  run_calibration(Task::kRanges, data, options_.calibration_batches);
  lay_grids();
  if (all_) all_->lay_grids(model_.backend(), model_.act());
  quantize_weights();
  run_calibration(Task::kErrors, data, options_.calibration_batches);
}

double Quantizer::loss(const DataSource& data, int64_t sequences) {
  double total = 0;
  batches_.for_each(data, 0, sequences, [&](const Batch& batch) { total += model_.loss(batch); });
  return total / double(sequences * data.predictions());
}

double Quantizer::loss(const DataSource& data, int64_t sequences, const QuantizedPart& part) {
  check(!linears_.empty(), "loss: calibrate first");
  task_ = Task::kQuantize;
  part_ = part;
  if (all_) all_->begin(Task::kQuantize);
  model_.set_hook(this);
  const double out = loss(data, sequences);
  model_.set_hook(nullptr);
  return out;
}

ActivationHook* Quantizer::activations() {
  return task_ != Task::kQuantize || part_.activations ? all_.get() : nullptr;
}

const std::vector<QuantizedActivation>& Quantizer::activations_found() const {
  static const std::vector<QuantizedActivation> none;
  return all_ ? all_->found() : none;
}

bool Quantizer::quantizes(size_t linear) const {
  return (!part_.only || *part_.only == linear) && (!part_.except || *part_.except != linear);
}

LinearOperands Quantizer::operands(const Pass& pass, ParamId weight, const LinearOperands& given) {
  if (task_ == Task::kCount) return given;
  const int known = linear_of_[size_t(weight.index)];
  const size_t linear = known >= 0 ? size_t(known) : add_linear(pass, weight, given);
  if (task_ != Task::kQuantize) {
    observe(linear, pass, given.x);
    return given;
  }
  LinearOperands out = given;
  if (!quantizes(linear)) return out;
  if (part_.weights) out.weight = weights_[linear];
  if (part_.inputs) {
    const Grid& grid = linears_[linear].input_grid;
    out.x = input_memory_.at(0, given.x.dtype, {given.x.rows(), given.x.cols()});
    pass.backend.run(
        FakeQuantize{.x = given.x, .out = out.x, .scale = scales_[linear], .low = grid.low, .high = grid.high});
  }
  return out;
}

size_t Quantizer::add_linear(const Pass& pass, ParamId weight, const LinearOperands& given) {
  check(task_ == Task::kRanges, "a linear layer that did not run with the calibration data");
  QuantizedLinear linear;
  linear.name = layer_name(pass.params.specs()[size_t(weight.index)].name);
  linear.weight = weight;
  linear.out = given.weight.rows();
  linear.in = given.weight.cols();
  linear_of_[size_t(weight.index)] = int(linears_.size());
  linears_.push_back(std::move(linear));
  observations_.push_back(std::make_unique<Observation>(options_.momentum));
  observations_.back()->width = given.x.cols();
  return linears_.size() - 1;
}

void Quantizer::observe(size_t index, const Pass& pass, const Tensor& x) {
  QuantizedLinear& linear = linears_[index];
  Observation& seen = *observations_[index];
  if (task_ == Task::kErrors) {
    linear.input_error.add(grid_error(host_copy(pass.backend, x), linear.input_grid));
    return;
  }
  const std::vector<Range> rows = row_ranges(pass.backend, x);
  Range batch = rows.front();
  for (int64_t b = 0; b < pass.B; ++b) {
    double norm = 0;
    for (int64_t t = 0; t < pass.T; ++t) {
      const Range& row = rows[size_t(b * pass.T + t)];
      if (!std::isfinite(row.least))
        throw RunError("the input of {} has a value that is not finite, so it has no range", linear.name);
      batch = {std::min(batch.least, row.least), std::max(batch.greatest, row.greatest)};
      norm = std::max({norm, -row.least, row.greatest});
    }
    seen.norms += norm;
  }
  linear.seen = seen.sequences == 0
                    ? batch
                    : Range{std::min(linear.seen.least, batch.least), std::max(linear.seen.greatest, batch.greatest)};
  seen.sequences += pass.B;
  seen.running.add(batch);
  if (!options_.percentile) return;
  if (!seen.percentile) seen.percentile.emplace(*options_.percentile, options_.calibration_batches * x.elements());
  seen.percentile->add(host_copy(pass.backend, x));
}

void Quantizer::lay_grids() {
  std::vector<double> scales;
  int64_t widest = 0;
  for (size_t i = 0; i < linears_.size(); ++i) {
    const Observation& seen = *observations_[i];
    linears_[i].input_norm = seen.norms / double(seen.sequences);
    linears_[i].input_grid =
        asymmetric_grid(seen.percentile ? seen.percentile->range() : seen.running.range(), options_.input_bits);
    scales.push_back(linears_[i].input_grid.scale);
    widest = std::max(widest, seen.width);
  }
  observations_.clear();
  Backend& backend = model_.backend();
  const DType acc = accumulator_of(model_.act());
  const size_t line = in_lines(size_of(acc));
  scale_memory_ = Arena(backend, scales.size() * line);
  for (size_t i = 0; i < scales.size(); ++i) {
    scales_.push_back(scale_memory_.at(i * line, acc, {1}));
    upload_numbers(backend, scales_.back(), {scales[i]});
  }
  const int64_t tokens = (model_.max_batch() + model_.fixed_sequences()) * model_.config().rows();
  input_memory_ = Arena(backend, size_t(tokens * widest) * size_of(model_.act()));
}

// The largest |w| of each row of a weight, [out, in].
std::vector<double> Quantizer::largest_of_rows(const QuantizedLinear& linear, const Tensor& weight) {
  std::vector<double> out;
  for (const Range& row : row_ranges(model_.backend(), weight)) {
    if (!std::isfinite(row.least)) throw RunError("{}{} has a value that is not finite", linear.name, kSuffix);
    out.push_back(std::max(-row.least, row.greatest));
  }
  return out;
}

// Grids over a weight, and what they do to it.
void Quantizer::lay_weight_grids(QuantizedLinear& linear, const Tensor& weight) {
  const std::vector<double> largest = largest_of_rows(linear, weight);
  linear.weight_norm = *std::max_element(largest.begin(), largest.end());
  linear.grid_rows = rows_of_grids(model_.params().specs()[size_t(linear.weight.index)], options_.per_channel);
  const std::vector<float> values = host_copy(model_.backend(), weight);
  const size_t grids = linear.grid_rows.size();
  std::vector<int64_t> first(grids);  // row
  std::exclusive_scan(linear.grid_rows.begin(), linear.grid_rows.end(), first.begin(), int64_t(0));
  linear.weight_grids.resize(grids);
  std::vector<GridError> errors(grids);
#pragma omp parallel for schedule( \
    dynamic) if (options_.per_channel)  // a matrix's rows are shared out within best_largest
  for (size_t i = 0; i < grids; ++i) {
    const auto row = largest.begin() + first[i];
    const auto part = std::span(values).subspan(size_t(first[i] * linear.in), size_t(linear.grid_rows[i] * linear.in));
    double most = *std::max_element(row, row + linear.grid_rows[i]);
    if (options_.mse_weights) most = best_largest(part, most, options_.weight_bits);
    linear.weight_grids[i] = symmetric_grid(most, options_.weight_bits);
    errors[i] = grid_error(part, linear.weight_grids[i]);
  }
  for (const GridError& error : errors) linear.weight_error.add(error);
}

// out = the weight on its grids.
void Quantizer::quantize_weight(const QuantizedLinear& linear, const Tensor& out, const Tensor& weight) {
  Backend& backend = model_.backend();
  std::vector<double> scales;  // of each row
  for (size_t i = 0; i < linear.weight_grids.size(); ++i)
    scales.insert(scales.end(), size_t(linear.grid_rows[i]), linear.weight_grids[i].scale);
  const DType acc = accumulator_of(weight.dtype);
  const Arena memory(backend, scales.size() * size_of(acc));
  const Tensor scale = memory.at(0, acc, {int64_t(scales.size())});
  upload_numbers(backend, scale, scales);
  const Grid& grid = linear.weight_grids.front();
  backend.run(FakeQuantize{.x = weight, .out = out, .scale = scale, .low = grid.low, .high = grid.high});
  backend.synchronize();  // before its scales go
}

void Quantizer::quantize_weights() {
  const auto weight_of = [&](const QuantizedLinear& linear) { return model_.params().weight(linear.weight); };
  size_t bytes = 0;
  for (const QuantizedLinear& linear : linears_) bytes += in_lines(weight_of(linear).bytes());
  weight_memory_ = Arena(model_.backend(), bytes);
  size_t offset = 0;
  for (QuantizedLinear& linear : linears_) {
    const Tensor weight = weight_of(linear);
    lay_weight_grids(linear, weight);
    weights_.push_back(weight_memory_.at(offset, weight.dtype, weight.shape));
    quantize_weight(linear, weights_.back(), weight);
    offset += in_lines(weight.bytes());
  }
}

}  // namespace sluice

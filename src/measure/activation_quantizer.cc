#include "measure/activation_quantizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "kernels/formulas/quantize.h"
#include "kernels/host_copy.h"
#include "measure/quantizer.h"

namespace sluice {
namespace {

const char* text_of(Shown what) {
  switch (what) {
    case Shown::kStream: return "stream";
    case Shown::kNormed: return "normed";
    case Shown::kQueries: return "queries";
    case Shown::kKeys: return "keys";
    case Shown::kValues: return "values";
    case Shown::kScores: return "scores";
    case Shown::kWeights: return "weights";
    case Shown::kResults: return "results";
    case Shown::kActive: return "active";
    case Shown::kOutput: return "output";
  }
  return "";
}

std::string name_of(const ActivationPlace& place, int64_t layers) {
  if (place.sublayer == 2 * layers) return fmt::format("head.{}", text_of(place.what));
  return fmt::format("blocks.{}.{}.{}", place.sublayer / 2, place.sublayer % 2 ? "mlp" : "attention",
                     text_of(place.what));
}

Range joined(const Range& a, const Range& b) { return {std::min(a.least, b.least), std::max(a.greatest, b.greatest)}; }

// NaN if some number is not finite.
Range range_of(std::span<const double> x) {
  Range out{x[0], x[0]};
  double spoilt = 0;
  for (const double value : x) {
    out = joined(out, {value, value});
    spoilt += value - value;
  }
  return {out.least + spoilt, out.greatest + spoilt};
}

}  // namespace

// What is collected while the calibration data pass.
struct ActivationQuantizer::Observation {
  explicit Observation(double momentum) : running(momentum) {}
  RunningRange running;
  std::optional<Range> batch;  // of the one that is running
  std::optional<PercentileRange> percentile;
  int64_t count = 0;  // of a batch
  bool any = false;
};

ActivationQuantizer::ActivationQuantizer(const QuantizationOptions& options, int64_t layers)
    : options_(options), layers_(layers) {}

ActivationQuantizer::~ActivationQuantizer() = default;

size_t ActivationQuantizer::index_of(const Pass& pass, const ActivationPlace& place) {
  if (const auto known = index_.find(place); known != index_.end()) return known->second;
  check(scales_.empty(), "an activation that was not there with the calibration data");
  if (options_.percentile && pass.first_key)
    throw UserError(
        "--activations percentile with --all-activations must know how many scores there are, which data.document_mask "
        "makes uncertain; take minmax");
  found_.push_back({.name = name_of(place, layers_), .seen = {}, .grid = {}, .error = {}});
  observations_.push_back(std::make_unique<Observation>(options_.momentum));
  return index_[place] = found_.size() - 1;
}

void ActivationQuantizer::observe(size_t index, const Range& range, const std::function<std::vector<float>()>& values,
                                  int64_t count) {
  QuantizedActivation& found = found_[index];
  if (task_ == QuantizationTask::kErrors) return found.error.add(grid_error(values(), found.grid));
  Observation& seen = *observations_[index];
  if (task_ == QuantizationTask::kCount) {
    seen.count += count;
    return;
  }
  if (!std::isfinite(range.least)) throw RunError("{} has a value that is not finite, so it has no range", found.name);
  found.seen = seen.any ? joined(found.seen, range) : range;
  seen.any = true;
  seen.batch = seen.batch ? joined(*seen.batch, range) : range;
  if (!options_.percentile) return;
  if (!seen.percentile) seen.percentile.emplace(*options_.percentile, options_.calibration_batches * seen.count);
  seen.percentile->add(values());
}

void ActivationQuantizer::tensor(const Pass& pass, const ActivationPlace& place, const Tensor& x) {
  const size_t index = index_of(pass, place);
  if (task_ == QuantizationTask::kQuantize) {
    const Grid& grid = found_[index].grid;
    return pass.backend.run(
        FakeQuantize{.x = x, .out = x, .scale = scales_[index], .low = grid.low, .high = grid.high});
  }
  Range range;
  if (task_ == QuantizationTask::kRanges) {
    const std::vector<Range> rows = row_ranges(pass.backend, x);
    range = rows.front();
    for (const Range& row : rows) range = std::isnan(row.least) ? row : joined(range, row);
  }
  observe(
      index, range, [&] { return host_copy(pass.backend, x); }, x.elements());
}

void ActivationQuantizer::row(const Pass& pass, const ActivationPlace& place, std::span<double> x) {
  const size_t index = index_of(pass, place);
  if (task_ == QuantizationTask::kQuantize) {
    const Grid& of = found_[index].grid;
    const QuantizationGrid<double> grid = quantization_grid(of.scale, of.low, of.high);
    for (double& value : x) value = fake_quantized(value, grid);
    return;
  }
  observe(
      index, range_of(x), [&] { return std::vector<float>(x.begin(), x.end()); }, int64_t(x.size()));
}

void ActivationQuantizer::end_batch() {
  for (const auto& seen : observations_)
    if (seen->batch) seen->running.add(*std::exchange(seen->batch, std::nullopt));
}

void ActivationQuantizer::lay_grids(Backend& backend, DType act) {
  constexpr size_t kLine = 64;
  const DType acc = accumulator_of(act);
  scale_memory_ = Arena(backend, found_.size() * kLine);
  for (size_t i = 0; i < found_.size(); ++i) {
    const Observation& seen = *observations_[i];
    found_[i].grid =
        asymmetric_grid(seen.percentile ? seen.percentile->range() : seen.running.range(), options_.input_bits);
    scales_.push_back(scale_memory_.at(i * kLine, acc, {1}));
    upload_numbers(backend, scales_.back(), {found_[i].grid.scale});
  }
  observations_.clear();
}

std::vector<Range> row_ranges(Backend& backend, const Tensor& x) {
  const DType acc = accumulator_of(x.dtype);
  const Arena memory(backend, size_t(2 * x.rows()) * size_of(acc));
  const Tensor ranges = memory.at(0, acc, {x.rows(), 2});
  backend.run(RowRanges{ranges, x});
  const std::vector<double> numbers = host_numbers(backend, ranges);
  std::vector<Range> out(static_cast<size_t>(x.rows()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = {numbers[2 * i], numbers[2 * i + 1]};
  return out;
}

}  // namespace sluice

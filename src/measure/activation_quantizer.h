// Simulated quantization of everything that a forward run makes (arXiv 2306.12929): the residual stream at every norm,
// what norms put out, queries, keys and values as they are attended to, scores, attention weights, heads' results, the
// activation function's and every sublayer's output, and what model.head_transform makes. Each has one static grid, as
// the inputs of linear layers have (quantizer.h), whose ranges come from the model as it is. Scores and weights are
// those that rows see.
//
// Left as they are: embeddings, gains and biases as parameters, what gates open, logits.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/arena.h"
#include "measure/quantization_grid.h"
#include "model/module/module.h"

namespace sluice {

struct QuantizationOptions;

// The first, of a batch: how many numbers there are, which percentiles must know.
enum class QuantizationTask { kCount, kRanges, kErrors, kQuantize };

struct QuantizedActivation {
  std::string name;  // "blocks.0.attention.scores"
  Range seen;        // over the calibration data
  Grid grid;
  GridError error;  // of the same data
};

class ActivationQuantizer final : public ActivationHook {
 public:
  // Of a model of `layers`.
  ActivationQuantizer(const QuantizationOptions& options, int64_t layers);
  ~ActivationQuantizer() override;

  void begin(QuantizationTask task) { task_ = task; }
  void end_batch();  // of those that ranges or errors are taken of
  void lay_grids(Backend& backend, DType act);
  const std::vector<QuantizedActivation>& found() const { return found_; }

  void tensor(const Pass& pass, const ActivationPlace& place, const Tensor& x) override;
  void row(const Pass& pass, const ActivationPlace& place, std::span<double> x) override;

 private:
  struct Observation;

  size_t index_of(const Pass& pass, const ActivationPlace& place);
  void observe(size_t index, const Range& range, const std::function<std::vector<float>()>& values, int64_t count);

  const QuantizationOptions& options_;
  const int64_t layers_;
  QuantizationTask task_ = QuantizationTask::kRanges;
  std::map<ActivationPlace, size_t> index_;
  std::vector<QuantizedActivation> found_;
  std::vector<std::unique_ptr<Observation>> observations_;
  std::vector<Tensor> scales_;  // [1] each
  Arena scale_memory_;
};

// Of each row of x, [N, C]; NaN where a number is not finite.
std::vector<Range> row_ranges(Backend& backend, const Tensor& x);

}  // namespace sluice

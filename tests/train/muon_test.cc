// Muon: what its updates look like, which parameters and how much memory it takes, and that it learns. Its numbers are
// compared with PyTorch's in model/golden_test.cc.
#include <gtest/gtest.h>

#include "train/failures.h"
#include "train/optimizer.h"
#include "train/tiny_run.h"

namespace sluice {
namespace {

constexpr double kLr = 0.5;

// Parameters with given gradients, and one update of them from zero.
class OneUpdate {
 public:
  OneUpdate(Backend& backend, Params& params) : params_(params) {
    params_.lay_out({});
    params_.allocate(backend, DType::kF64, Params::Grads::kOwn);
    backend.run(RandomNormal{params_.all_grads(), 3, 0, 0, 1});
    OptimizerConfig config;
    config.type = "muon";
    config.lr = kLr;
    const GradientExchange gradients(backend, params_, one_rank(), 0);
    const Partition partition(params_.buckets(), 0, 1);
    const auto optimizer = make_optimizer(backend, params_, gradients, partition, config);
    optimizer->update(kLr, 1);
    bytes_ = optimizer->bytes();
  }
  Tensor value(const std::string& name) const { return params_.value(params_.find(name)); }
  size_t bytes() const { return bytes_; }

 private:
  Params& params_;
  size_t bytes_ = 0;
};

// The squares of the singular values are the eigenvalues of A = U U^T [n, n]: their mean and the mean of their squares
// are trace(A) / n and |A|^2 / n.
struct Spectrum {
  double mean = 0, mean_square = 0;
};
Spectrum spectrum_of(const double* u, int64_t rows, int64_t cols, int64_t step_row, int64_t step_col) {
  Spectrum out;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < rows; ++j) {
      double dot = 0;
      for (int64_t c = 0; c < cols; ++c) dot += u[i * step_row + c * step_col] * u[j * step_row + c * step_col];
      if (i == j) out.mean += dot / double(rows);
      out.mean_square += dot * dot / double(rows);
    }
  return out;
}

// Five steps bring singular values into [0.68, 1.14]: their squares lie in [0.46, 1.3], within 0.42 of the middle.
TEST(Muon, MakesEveryMatrixOrthogonal) {
  const int64_t shapes[][2] = {{12, 40}, {40, 12}, {24, 24}};
  const auto backend = make_cpu_backend();
  for (auto [R, C] : shapes) {
    Params params;
    params.declare("stacked", {3 * R, C}, Init::constant(0), DecayGroup::kMatrix, {R, 2 * R});
    const OneUpdate update(*backend, params);
    const double* u = update.value("stacked").as<double>();
    int64_t first = 0;
    for (const int64_t rows : {R, 2 * R}) {
      const double size = kLr * 0.2 * std::sqrt(double(std::max(rows, C)));
      std::vector<double> x(size_t(rows * C));
      for (size_t i = 0; i < x.size(); ++i) x[i] = u[first * C + int64_t(i)] / size;
      const Spectrum s = rows <= C ? spectrum_of(x.data(), rows, C, C, 1) : spectrum_of(x.data(), C, rows, 1, C);
      EXPECT_GT(s.mean, 0.6) << rows << "x" << C;
      EXPECT_LT(s.mean, 1.3) << rows << "x" << C;
      EXPECT_LT(s.mean_square - s.mean * s.mean, 0.18) << "singular values differ: " << rows << "x" << C;
      first += rows;
    }
  }
}

// AdamW's first update is lr g / (|g| + epsilon). The matrix keeps one number an element, the vector two.
TEST(Muon, LeavesTheRestToAdamW) {
  const auto backend = make_cpu_backend();
  Params params;
  params.declare("matrix", {64, 64}, Init::constant(0), DecayGroup::kMatrix, {64});
  params.declare("vector", {64}, Init::constant(0), DecayGroup::kVector);
  params.declare("head", {64, 64}, Init::constant(0), DecayGroup::kMatrix);
  const OneUpdate update(*backend, params);
  for (const char* name : {"vector", "head"}) {
    const Tensor x = update.value(name), grad = params.grad(params.find(name));
    for (int64_t i = 0; i < x.elements(); ++i) {
      const double g = std::fabs(grad.as<double>()[i]);
      ASSERT_NEAR(std::fabs(x.as<double>()[i]), kLr * g / (g + OptimizerConfig{}.epsilon), 1e-12);
    }
  }
  const size_t matrix = 64 * 64, state = matrix + 2 * (matrix + 64), scratch = 2 * matrix + 2 * matrix;
  EXPECT_EQ(update.bytes(), sizeof(double) * (state + scratch));
}

TEST(Muon, LearnsFasterThanSgd) {
  const TinyRuns runs;
  const auto last_loss = [&](const std::string& run, const TinyRuns::Overrides& optimizer) {
    TinyRuns::Overrides overrides = {"train.steps=60", "log.probe_every=0", "log.checkpoint_every=0",
                                     "log.eval_every=60", "train.optimizer.weight_decay=0.1"};
    overrides.insert(overrides.end(), optimizer.begin(), optimizer.end());
    EXPECT_EQ(runs.train(run, overrides), 0);
    return runs.metrics(run, "eval").back()["loss"].get<double>();
  };
  const double muon = last_loss("muon", {"train.optimizer.type=muon", "train.optimizer.lr=0.01"});
  for (const char* lr : {"0.03", "0.1", "0.3"})
    EXPECT_LT(muon, last_loss(std::string("sgd") + lr,
                              {"train.optimizer.type=sgd", std::string("train.optimizer.lr=") + lr}) -
                        0.05);
}

TEST(Muon, RefusesToBeCutByZero) {
  const TinyRuns runs;
  const std::string message = message_of<UserError>([&] {
    runs.experiment({"train.optimizer.type=muon", "train.zero=1"});
  });
  EXPECT_NE(message.find("train.zero"), std::string::npos) << message;
  EXPECT_NE(message.find("train.optimizer.type"), std::string::npos) << message;
}

}  // namespace
}  // namespace sluice

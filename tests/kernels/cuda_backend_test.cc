// What the CUDA backend does around its ops: memory, copies between host and device, recorded ops, refusals.
#include "base/error.h"
#include "kernels/device_parity.h"

namespace sluice {
namespace {

TEST(CudaBackend, MemoryIsZeroedAndCounted) {
  SLUICE_SKIP_WITHOUT_CUDA();
  Backend& backend = cuda_backend();
  const size_t before = backend.allocated_bytes();
  void* data = backend.allocate(1000);
  EXPECT_EQ(backend.allocated_bytes(), before + 1000);
  std::vector<unsigned char> bytes(1000, 1);
  backend.download(bytes.data(), Tensor(data, DType::kI32, {250}));
  EXPECT_EQ(bytes, std::vector<unsigned char>(1000, 0));
  backend.release(data);
  EXPECT_EQ(backend.allocated_bytes(), before);
  EXPECT_THROW(backend.release(data), std::logic_error);
}

TEST(CudaBackend, CopiesOfEverySize) {
  SLUICE_SKIP_WITHOUT_CUDA();
  Backend& backend = cuda_backend();
  for (int64_t n : {1, 100, 1 << 20, (5 << 20) + 3}) {  // i32: beyond the pinned buffer
    std::vector<int32_t> values(static_cast<size_t>(n)), back(values.size());
    for (int64_t i = 0; i < n; ++i) values[size_t(i)] = int32_t(i * 7 + 1);
    Arena arena(backend, values.size() * 4);
    const Tensor on_device = arena.at(0, DType::kI32, {n});
    backend.upload(on_device, values.data());
    backend.download(back.data(), on_device);
    EXPECT_TRUE(back == values) << n;
  }
}

TEST(CudaBackend, SlicesArrivePacked) {
  SLUICE_SKIP_WITHOUT_CUDA();
  Backend& backend = cuda_backend();
  constexpr int64_t rows = 1500, cols = 1000;
  std::vector<int32_t> values(size_t(rows * cols)), part(size_t(rows * 700));
  for (size_t i = 0; i < values.size(); ++i) values[i] = int32_t(i);
  Arena arena(backend, values.size() * 4);
  const Tensor on_device = arena.at(0, DType::kI32, {rows, cols});
  backend.upload(on_device, values.data());
  backend.download(part.data(), on_device.columns(33, 700));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < 700; ++col)
      ASSERT_EQ(part[size_t(row * 700 + col)], row * cols + 33 + col) << row << " " << col;
}

// Adds up in place, so that a run that was left out or done twice shows.
TEST(CudaBackend, RecordedOpsRunEveryTime) {
  SLUICE_SKIP_WITHOUT_CUDA();
  TestBuffer sum(DType::kF32, 4, 8), a(DType::kF32, 4, 8), b(DType::kF32, 8, 8), bias(DType::kF32, Shape{8});
  a.randomise(1), b.randomise(2), bias.randomise(3);
  const std::unique_ptr<Backend> backend = cuda_under_test();
  for (int runs : {1, 2, 3, 5}) {
    const auto op = [&](Backend& on, const Tensors& t) {
      for (int run = 0; run < runs; ++run)
        on.replay(fmt::format("{} runs", runs), [&] {
          on.run(Matmul{.out = t[0], .a = t[1], .b = t[2], .accumulate = true, .bias = t[3]});
          on.run(ActivationForward{Activation::kRelu, t[1], t[1]});
        });
    };
    const auto got = after(*backend, {sum, a, b, bias}, op), want = after(cpu_backend(), {sum, a, b, bias}, op);
    for (int64_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(got[0].at(i), want[0].at(i), 1e-4) << runs << " runs, " << i;
  }
}

TEST(CudaBackend, AFailedRecordLeavesTheBackendUsable) {
  SLUICE_SKIP_WITHOUT_CUDA();
  const std::unique_ptr<Backend> backend = cuda_under_test();
  Arena arena(*backend, 64);
  const Tensor x = arena.at(0, DType::kF32, {16});
  float values[16] = {};
  backend->replay("key", [&] { backend->run(Fill{x, 1}); });
  EXPECT_THROW(backend->replay("key", [&] { backend->download(values, x); }), std::logic_error);
  backend->replay("key", [&] { backend->run(Fill{x, 2}); });
  backend->replay("key", [&] { backend->run(Fill{x, 2}); });
  backend->download(values, x);
  EXPECT_EQ(values[7], 2);
}

TEST(CudaBackend, SaysWhatLowersTheMemory) {
  SLUICE_SKIP_WITHOUT_CUDA();
  try {
    cuda_backend().allocate(size_t{1} << 45);
    FAIL() << "32 TiB";
  } catch (const RunError& error) {
    const std::string text = error.what();
    for (const char* part :
         {"32768.00 GiB", "free", "train.micro_batch", "model.context", "train.recompute", "train.precision"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
  }
}

TEST(CudaBackend, HasNoF64) {
  SLUICE_SKIP_WITHOUT_CUDA();
  Arena arena(cuda_backend(), 64);
  const Tensor x = arena.at(0, DType::kF64, {8});
  EXPECT_THROW(cuda_backend().run(ActivationForward{Activation::kRelu, x, x}), std::logic_error);
}

TEST(CudaBackend, ADeviceThatIsNotThereIsNamed) {
  SLUICE_SKIP_WITHOUT_CUDA();
  EXPECT_NE(cuda_unavailable_reason(1000).find("GPU 1000"), std::string::npos);
  EXPECT_THROW(make_cuda_backend(1000), RunError);
  EXPECT_FALSE(cuda_devices().empty());
}

}  // namespace
}  // namespace sluice

// Ranks over NCCL, tensors on GPUs, one process a GPU. Exchanges run on a stream of their own, between two events that
// tie it to the backend's; NCCL sums in an order that its topology fixes.
//
// Small values and news go over MPI where the ranks were started by it. Otherwise values go through a buffer on the
// device, and news through files in a folder that all ranks see.
//
// A thread watches: the host may be inside a CUDA call that waits for a rank which will never come. Past the limit it
// aborts the communicator, which ends NCCL's kernels; the host's next exchange then throws PeerFailed.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "base/console.h"
#include "ranks/communicator_files.h"
#include "ranks/communicator_launch.h"

#if SLUICE_WITH_NCCL

#include <nccl.h>

#include "kernels/cuda/runtime/runtime.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

ncclDataType_t type_of(const Tensor& x) {
  check(x.dtype == DType::kF32 || x.dtype == DType::kF64, "ranks exchange f32 and f64 only");
  check(x.contiguous(), "ranks exchange contiguous tensors only");
  return x.dtype == DType::kF64 ? ncclFloat64 : ncclFloat32;
}

// Calls `on_late` from its own thread when a deadline passes or `is_broken` says so; exits the process when that did
// not help.
class Watch {
 public:
  Watch(std::function<bool()> is_broken, std::function<void()> on_late)
      : is_broken_(std::move(is_broken)), on_late_(std::move(on_late)), thread_([this] { run(); }) {}
  ~Watch() {
    ended_ = true;
    thread_.join();
  }
  void arm(double seconds, const std::string& doing) {
    const std::lock_guard lock(mutex_);
    if (armed_) return;
    armed_ = true;
    doing_ = doing;
    deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  void disarm() {
    const std::lock_guard lock(mutex_);
    armed_ = false;
  }
  bool late() const { return late_; }

 private:
  bool past_deadline() {
    const std::lock_guard lock(mutex_);
    return armed_ && Clock::now() > deadline_;
  }
  void run() {
    while (!ended_ && !past_deadline() && !is_broken_()) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    if (ended_) return;
    late_ = true;
    on_late_();
    const auto patience = Clock::now() + std::chrono::seconds(60);
    while (!ended_ && Clock::now() < patience) std::this_thread::sleep_for(std::chrono::milliseconds(200));
    if (ended_) return;
    tell("sluice: another rank died or hangs, at {}", doing_);
    std::_Exit(1);
  }

  std::function<bool()> is_broken_;
  std::function<void()> on_late_;
  std::mutex mutex_;
  Clock::time_point deadline_;
  std::string doing_;
  bool armed_ = false;
  std::atomic<bool> late_{false}, ended_{false};
  std::thread thread_;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& host, const RankLaunch& launch, Backend& backend, const std::string& folder)
      : Communicator(host.place()),
        host_(host),
        over_mpi_(launch.starter == RankLaunch::Starter::kMpi),
        files_(folder + "/ranks", place()),
        watched_files_(files_),
        backend_(backend),
        compute_(static_cast<cudaStream_t>(backend.stream())) {
    Communicator::set_limit(host.limit());
    cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    for (cudaEvent_t* event : {&ready_, &done_})
      cuda::check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "cudaEventCreate");
    watch_.emplace([this] { return is_broken(); }, [this] { abort_exchange(); });
    connect(launch);
  }
  ~NcclCommunicator() override {
    watch_.reset();
    if (ncclComm_t comm = comm_.exchange(nullptr)) ncclCommDestroy(comm);
    cudaFree(staging_);
    cudaEventDestroy(ready_);
    cudaEventDestroy(done_);
    cudaStreamDestroy(stream_);
  }

  std::string describe() const override {
    int version = 0;
    ncclGetVersion(&version);
    return fmt::format("{} ranks over NCCL {}.{}.{}{}", size(), version / 10000, version / 100 % 100, version % 100,
                       over_mpi_ ? ", started by MPI" : "");
  }

  void start_all_reduce(const Tensor& x) override {
    start();
    check_nccl(ncclAllReduce(x.data, x.data, size_t(x.elements()), type_of(x), ncclSum, comm_, stream_),
               "ncclAllReduce");
  }
  void start_reduce_scatter(const Tensor& x) override {
    start();
    check_nccl(ncclReduceScatter(x.data, own_piece(x), piece_elements(x), type_of(x), ncclSum, comm_, stream_),
               "ncclReduceScatter");
  }
  void start_all_gather(const Tensor& x) override {
    start();
    check_nccl(ncclAllGather(own_piece(x), x.data, piece_elements(x), type_of(x), comm_, stream_), "ncclAllGather");
  }
  void start_broadcast(const Tensor& x) override {
    start();
    check_nccl(ncclBroadcast(x.data, x.data, size_t(x.elements()), type_of(x), 0, comm_, stream_), "ncclBroadcast");
  }
  void finish() override {
    cuda::check(cudaEventRecord(done_, stream_), "cudaEventRecord");
    cuda::check(cudaStreamWaitEvent(compute_, done_, 0), "cudaStreamWaitEvent");
  }
  void settle() override {
    backend_.synchronize();
    watch_->disarm();
    check_broken();
  }
  void expect(const std::string& what) override {
    Communicator::expect(what);
    host_.expect(what);
  }
  void set_limit(double seconds) override {
    Communicator::set_limit(seconds);
    host_.set_limit(seconds);
  }

  // Everything on the device is done when the host's values travel, and the wait for them ends every exchange before.
  void gather_bytes(const void* mine, size_t bytes, void* all) override {
    settle();
    if (over_mpi_) {
      host_.gather_bytes(mine, bytes, all);
      return;
    }
    const size_t total = bytes * size_t(size());
    reserve(total);
    watch_->arm(limit(), doing());
    char* own = staging_ + bytes * size_t(rank());
    cuda::check(cudaMemcpyAsync(own, mine, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync");
    check_nccl(ncclAllGather(own, staging_, bytes, ncclUint8, comm_, stream_), "ncclAllGather");
    cuda::check(cudaMemcpyAsync(all, staging_, total, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync");
    cuda::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    watch_->disarm();
    check_broken();
  }
  void send_news(const RankNews& news) override {
    if (over_mpi_) host_.send_news(news);
    else files_.send(news);
  }
  void receive_news(std::map<int, RankNews>& news) override {
    if (over_mpi_) host_.receive_news(news);
    else files_.receive(news);
  }

  // NCCL's kernels end with the process; ncclCommAbort would wait for them.
  [[noreturn]] void abort(int exit_code) override {
    host_.abort(exit_code);
    std::_Exit(exit_code);  // GCC does not see that a virtual call ends the process
  }

 private:
  void connect(const RankLaunch& launch) {
    watch_->arm(limit(), "the first meeting of the ranks");
    ncclUniqueId id{};
    // With NCCL_COMM_ID every rank makes the same id, and rank 0 listens at that address.
    if (!over_mpi_) setenv("NCCL_COMM_ID", launch.meeting.c_str(), 0);
    if (!over_mpi_ || is_root()) check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    if (over_mpi_) id = host_.gather(id).front();
    ncclComm_t comm = nullptr;
    check_nccl(ncclCommInitRank(&comm, size(), id, rank()), "ncclCommInitRank");
    comm_ = comm;
    watch_->disarm();
  }

  void check_nccl(ncclResult_t result, const char* call) {
    if (result == ncclSuccess) return;
    check_broken();
    throw RunError("{} failed: {}{}", call, ncclGetErrorString(result),
                   result == ncclInvalidUsage ? " (two ranks on one GPU? LOCAL_RANK chooses it)" : "");
  }
  // After the watch has ended the exchange nothing that it gave can be trusted.
  void check_broken() {
    if (watch_->late()) give_up();
  }

  // From the watch's thread.
  bool is_broken() {
    const ncclComm_t comm = comm_;
    if (comm == nullptr) return false;
    ncclResult_t result = ncclSuccess;
    if (ncclCommGetAsyncError(comm, &result) == ncclSuccess && result != ncclSuccess && result != ncclInProgress)
      return true;
    if (over_mpi_) return false;
    std::map<int, RankNews> news;
    watched_files_.receive(news);
    return !news.empty();
  }
  void abort_exchange() {
    if (ncclComm_t comm = comm_.exchange(nullptr)) ncclCommAbort(comm);
  }

  void start() {
    check_broken();
    watch_->arm(limit(), doing());
    cuda::check(cudaEventRecord(ready_, compute_), "cudaEventRecord");
    cuda::check(cudaStreamWaitEvent(stream_, ready_, 0), "cudaStreamWaitEvent");
  }
  size_t piece_elements(const Tensor& x) const {
    check_eq(x.elements() % size(), int64_t{0}, "elements that are no multiple of the ranks");
    return size_t(x.elements() / size());
  }
  void* own_piece(const Tensor& x) const {
    return x.as<char>() + size_t(rank()) * piece_elements(x) * size_of(x.dtype);
  }

  void reserve(size_t bytes) {
    if (bytes <= staging_bytes_) return;
    cudaFree(staging_);
    staging_ = nullptr;
    cuda::check(cudaMalloc(reinterpret_cast<void**>(&staging_), bytes), "cudaMalloc");
    staging_bytes_ = bytes;
  }

  Communicator& host_;
  const bool over_mpi_;
  NewsFiles files_, watched_files_;  // of the host's thread, and of the watch's
  Backend& backend_;
  cudaStream_t compute_, stream_ = nullptr;
  cudaEvent_t ready_ = nullptr, done_ = nullptr;
  std::atomic<ncclComm_t> comm_{nullptr};
  char* staging_ = nullptr;
  size_t staging_bytes_ = 0;
  std::optional<Watch> watch_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, const RankLaunch& launch, Backend& backend,
                                                     const std::string& folder) {
  return std::make_unique<NcclCommunicator>(host, launch, backend, folder);
}

}  // namespace sluice

#else

namespace sluice {

std::unique_ptr<Communicator> make_nccl_communicator(Communicator&, const RankLaunch&, Backend&, const std::string&) {
  throw std::logic_error("this build has no NCCL");
}

}  // namespace sluice

#endif

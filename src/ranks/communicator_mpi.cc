// Ranks over MPI, tensors in host memory. Only the main thread calls MPI. Exchanges move on while progress() or
// finish() runs; the order of sums is that of the MPI library's schedule, which depends on the sizes alone.
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <optional>
#include <thread>

#include "base/files/files.h"
#include "ranks/communicator_launch.h"
#include "ranks/rank_watch.h"

#if SLUICE_WITH_MPI

#include <mpi.h>

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kNewsTag = 1;

void check_mpi(int result, const char* call) {
  if (result == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(result, text, &length);
  throw RunError("{} failed: {}", call, std::string(text, size_t(length)));
}

MPI_Datatype type_of(const Tensor& x) {
  check(x.dtype == DType::kF32 || x.dtype == DType::kF64, "ranks exchange f32 and f64 only");
  check(x.contiguous(), "ranks exchange contiguous tensors only");
  return x.dtype == DType::kF64 ? MPI_DOUBLE : MPI_FLOAT;
}

int count_of(int64_t elements) {
  check_le(elements, int64_t{1} << 30, "elements of one exchange");
  return int(elements);
}

// What goes from rank to rank; the text is cut where it is longer.
struct NewsMessage {
  int own_error, exit_code;
  char text[2000];
};

// Outlives the MPI library's end, which it watches.
struct LeavingWatch {
  std::optional<RankWatch> leaving_;
};

class MpiWorld {
 public:
  MpiWorld() {
    int provided = 0;
    check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  }
  ~MpiWorld() { MPI_Finalize(); }
};

// Where rank 0's process is.
struct Root {
  uint64_t host;
  int process;
};

uint64_t this_host() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return checksum_of(name);
}

RankPlace place_in_world() {
  RankPlace place;
  MPI_Comm_rank(MPI_COMM_WORLD, &place.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &place.size);
  MPI_Comm host;
  check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), "MPI_Comm_split_type");
  MPI_Comm_rank(host, &place.local_rank);
  MPI_Comm_size(host, &place.local_size);
  MPI_Comm_free(&host);
  return place;
}

class MpiCommunicator final : private LeavingWatch, private MpiWorld, public Communicator {
 public:
  MpiCommunicator() : Communicator(place_in_world()) {
    for (MPI_Comm* comm : {&exchange_, &news_}) {
      check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, comm), "MPI_Comm_dup");
      MPI_Comm_set_errhandler(*comm, MPI_ERRORS_RETURN);
    }
    root_ = {this_host(), getpid()};
    check_mpi(MPI_Bcast(&root_, sizeof root_, MPI_BYTE, 0, exchange_), "MPI_Bcast");
  }
  // The end waits for all ranks too.
  ~MpiCommunicator() override {
    try {
      leaving_.emplace(limit(), place(), "the end");
    } catch (const std::exception&) {  // no thread to be had: the end is not watched
    }
  }

  std::string describe() const override { return fmt::format("{} ranks over MPI", size()); }

  void start_all_reduce(const Tensor& x) override {
    check_mpi(MPI_Iallreduce(MPI_IN_PLACE, x.data, count_of(x.elements()), type_of(x), MPI_SUM, exchange_, next()),
              "MPI_Iallreduce");
  }
  void start_reduce_scatter(const Tensor& x) override {
    const auto [piece, bytes] = own_piece(x);
    std::vector<std::byte>& sum = scratch(bytes);
    check_mpi(MPI_Ireduce_scatter_block(x.data, sum.data(), count_of(x.elements() / size()), type_of(x), MPI_SUM,
                                        exchange_, next()),
              "MPI_Ireduce_scatter_block");
    copies_.push_back({piece, sum.data(), bytes});
  }
  void start_all_gather(const Tensor& x) override {
    check_eq(x.elements() % size(), int64_t{0}, "all_gather: elements that are no multiple of the ranks");
    check_mpi(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, x.data, count_of(x.elements() / size()), type_of(x),
                             exchange_, next()),
              "MPI_Iallgather");
  }
  void start_broadcast(const Tensor& x) override {
    check_mpi(MPI_Ibcast(x.data, count_of(x.elements()), type_of(x), 0, exchange_, next()), "MPI_Ibcast");
  }
  void progress() override { (void)all_done(); }
  void finish() override {
    wait();
    for (const Copy& copy : copies_) std::memcpy(copy.to, copy.from, copy.bytes);
    copies_.clear();
  }

  void gather_bytes(const void* mine, size_t bytes, void* all) override {
    // In memory of our own: a wait that is broken off leaves the exchange open.
    const int count = count_of(int64_t(bytes));
    const char* from = static_cast<const char*>(mine);
    sent_values_.assign(from, from + bytes);
    all_values_.resize(bytes * size_t(size()));
    check_mpi(
        MPI_Iallgather(sent_values_.data(), count, MPI_BYTE, all_values_.data(), count, MPI_BYTE, exchange_, next()),
        "MPI_Iallgather");
    wait();
    std::memcpy(all, all_values_.data(), all_values_.size());
  }

  void send_news(const RankNews& news) override {
    message_ = {};
    message_.own_error = news.own_error;
    message_.exit_code = news.exit_code;
    news.text.copy(message_.text, sizeof message_.text - 1);
    for (int other = 0; other < size(); ++other) {
      if (other == rank()) continue;
      MPI_Request& request = sent_.emplace_back(MPI_REQUEST_NULL);
      MPI_Isend(&message_, sizeof message_, MPI_BYTE, other, kNewsTag, news_, &request);
    }
  }

  void receive_news(std::map<int, RankNews>& news) override {
    for (;;) {
      int waiting = 0;
      MPI_Status status;
      if (MPI_Iprobe(MPI_ANY_SOURCE, kNewsTag, news_, &waiting, &status) != MPI_SUCCESS || !waiting) return;
      NewsMessage message{};
      if (MPI_Recv(&message, sizeof message, MPI_BYTE, status.MPI_SOURCE, kNewsTag, news_, MPI_STATUS_IGNORE) !=
          MPI_SUCCESS)
        return;
      news[status.MPI_SOURCE] = {message.own_error != 0, message.exit_code, message.text};
    }
  }

  [[noreturn]] void abort(int exit_code) override {
    std::fflush(nullptr);
    alarm(15);  // MPI_Abort waits for a launcher that may be gone: then this process ends by itself
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::_Exit(exit_code);
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };

  MPI_Request* next() { return &requests_.emplace_back(MPI_REQUEST_NULL); }

  std::pair<void*, size_t> own_piece(const Tensor& x) const {
    check_eq(x.elements() % size(), int64_t{0}, "reduce_scatter: elements that are no multiple of the ranks");
    const size_t bytes = x.bytes() / size_t(size());
    return {x.as<char>() + size_t(rank()) * bytes, bytes};
  }

  // The exchanges of one step are those of the next, so that these buffers are soon large enough.
  std::vector<std::byte>& scratch(size_t bytes) {
    if (copies_.size() == scratch_.size()) scratch_.emplace_back();
    std::vector<std::byte>& buffer = scratch_[copies_.size()];
    if (buffer.size() < bytes) buffer.resize(bytes);
    return buffer;
  }

  bool all_done() {
    int done = 1;
    check_mpi(MPI_Testall(int(requests_.size()), requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    if (done) requests_.clear();
    return done != 0;
  }

  // Polls, ever more patiently: a processor may be needed by the very rank that is waited for.
  void wait() {
    const auto start = Clock::now();
    for (int64_t polls = 1; !all_done(); ++polls) {
      if (polls % 16 != 0) continue;
      const double waited = std::chrono::duration<double>(Clock::now() - start).count();
      if (polls % 64 == 0) check_news();
      if (waited > limit() || (polls % 4096 == 0 && waited > usual_limit() && root_is_stopped())) give_up();
      if (waited > 0.01) std::this_thread::sleep_for(std::chrono::microseconds(50));
      else sched_yield();
    }
  }

  // While it alone does something, and the others wait for as long as that may take.
  bool root_is_stopped() const { return !is_root() && root_.host == this_host() && is_stopped(root_.process); }

  Root root_{};
  MPI_Comm exchange_ = MPI_COMM_NULL, news_ = MPI_COMM_NULL;
  std::vector<MPI_Request> requests_;
  std::vector<Copy> copies_;
  std::deque<std::vector<std::byte>> scratch_;
  std::vector<char> sent_values_, all_values_;
  NewsMessage message_{};
  std::deque<MPI_Request> sent_;
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const RankPlace& place, double limit) {
  const RankWatch watch(limit, place, "the start");
  return std::make_unique<MpiCommunicator>();
}

}  // namespace sluice

#else

namespace sluice {

std::unique_ptr<Communicator> make_mpi_communicator(const RankPlace&, double) {
  throw std::logic_error("this build has no MPI");
}

}  // namespace sluice

#endif

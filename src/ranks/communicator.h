// Ranks: processes that train one model together, each on its share of every batch.
//
// Three kinds: one rank; MPI between CPUs; NCCL between GPUs, one process a GPU. connect_ranks() chooses by how the
// program was started, see communicator_launch.h. Exchanges of tensors are started and finished, so that they run
// beside the backward pass; the order of their sums depends on the number of ranks alone.
//
// Failures. Every wait has a limit. A rank that ends with an error tells the others (conclude), whose next wait ends
// with PeerFailed: all stop with that rank's sentence, told once. Ranks that say nothing at all are named as lost.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "kernels/backend.h"

namespace sluice {

// A wait was broken off: another rank has ended, or did not come within the limit.
class PeerFailed : public RunError {
 public:
  using RunError::RunError;
};

// Where a process stands among the others; local: on its host.
struct RankPlace {
  int rank = 0, size = 1, local_rank = 0, local_size = 1;
};

// What a rank tells the others when it ends before its time.
struct RankNews {
  bool own_error = false;  // or it ends because of another rank
  int exit_code = 1;
  std::string text;  // its error; or what it was waiting for
};

// The common end of a failed run.
struct RankEnding {
  bool tells = true;    // this rank prints the sentence
  bool orderly = true;  // all ranks stop at the same place by themselves; otherwise exchanges are open: abort()
  int exit_code = 1;
  std::string sentence;
};

inline constexpr double kDefaultRankTimeout = 300;  // seconds, until the config is read

class Communicator {
 public:
  explicit Communicator(const RankPlace& place) : place_(place) {}
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return place_.rank; }
  int size() const { return place_.size; }
  const RankPlace& place() const { return place_; }
  bool is_root() const { return place_.rank == 0; }
  virtual std::string describe() const = 0;  // "4 ranks over MPI"

  // --- small values in host memory; these wait for all ranks
  // Every rank's value, in the order of ranks.
  template <class T>
  std::vector<T> gather(const T& mine) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::vector<T> all(static_cast<size_t>(size()));
    gather_bytes(&mine, sizeof(T), all.data());
    return all;
  }
  double sum(double mine);  // in the order of ranks
  bool all(bool mine);
  std::vector<std::string> gather_texts(const std::string& mine);
  std::string broadcast_text(const std::string& text);  // rank 0's
  void barrier() { gather(char{}); }
  virtual void gather_bytes(const void* mine, size_t bytes, void* all) = 0;

  // --- contiguous tensors of the backend, f32 or f64. They may be read and written by others until finish().
  virtual void start_all_reduce(const Tensor& x) = 0;  // x becomes the sum over ranks
  // x is size() equal pieces: piece rank() becomes the sum over ranks, the others are undefined.
  virtual void start_reduce_scatter(const Tensor& x) = 0;
  virtual void start_all_gather(const Tensor& x) = 0;  // every rank's piece rank() of x arrives at all
  virtual void start_broadcast(const Tensor& x) = 0;   // rank 0's
  // Waits for all that was started; on a device, its later ops wait.
  virtual void finish() = 0;
  virtual void progress() {}  // to be called now and then between the two
  virtual void settle() {}    // on a device: waits on the host too, within the limit

  // --- waiting and failing
  double limit() const { return limit_; }  // seconds of one wait
  virtual void set_limit(double seconds) { limit_ = seconds; }
  // What is going on, for messages: "step 12".
  virtual void expect(const std::string& what) { doing_ = what; }
  const std::string& doing() const { return doing_; }

  // Called with the error that ends this rank: exchanges news with the others for a few seconds, and says who tells
  // what.
  RankEnding conclude(const std::exception& error, int exit_code);
  // The way news go; both do not wait.
  virtual void send_news(const RankNews& news) = 0;
  virtual void receive_news(std::map<int, RankNews>& news) = 0;
  // Ends this process, and the others as far as that can be done from here.
  [[noreturn]] virtual void abort(int exit_code) = 0;

 protected:
  virtual double grace() const { return 5; }  // seconds that conclude() waits for the others

  // Throws PeerFailed if a rank has told news.
  void check_news();
  // Throws PeerFailed: nobody came in time.
  [[noreturn]] void give_up() const;
  // Without the patience of a PatientWait.
  double usual_limit() const { return usual_limit_ > 0 ? usual_limit_ : limit_; }

 private:
  friend class PatientWait;
  RankEnding ending() const;

  const RankPlace place_;
  double limit_ = kDefaultRankTimeout, usual_limit_ = 0;
  std::string doing_ = "the start";
  std::map<int, RankNews> news_;
};

// A longer limit, for what only rank 0 does while the others wait: probes, checkpoints. Rank 0, which waits for
// nobody's work, keeps its own, and so notices one that is lost meanwhile. Over MPI the others notice a rank 0 that is
// stopped, if it is on their host.
class PatientWait {
 public:
  explicit PatientWait(Communicator& ranks);
  ~PatientWait();
  PatientWait(const PatientWait&) = delete;
  PatientWait& operator=(const PatientWait&) = delete;

 private:
  Communicator& ranks_;
  double former_;
};

// While rank 0 alone does something.
inline void wait_for_root(Communicator& ranks) {
  const PatientWait patience(ranks);
  ranks.barrier();
}

// A rank alone. All exchanges leave their tensors as they are.
std::unique_ptr<Communicator> make_one_rank();
Communicator& one_rank();  // the same one for everybody who asks

// UserError that names the first rank whose `config` (resolved) or `data` (identity) is another than rank 0's, and the
// key.
void check_same_config(Communicator& ranks, const std::string& config, const std::string& data);

}  // namespace sluice

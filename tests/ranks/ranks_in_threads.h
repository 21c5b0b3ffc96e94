// Ranks as threads of this process: what MPI and NCCL do, for tests that need no launcher.
#pragma once

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "ranks/communicator.h"

namespace sluice {

// oneDNN's prepared products are shared by the process, and used by one thread at a time. With `apart` its memory
// counts as a device's, which the host only reaches by upload and download.
class ThreadBackend : public CpuBackend {
 public:
  explicit ThreadBackend(bool apart = false) : apart_(apart) {}
  BackendTraits traits() const override { return {.host_memory = !apart_}; }
  void launch(int place, const void* fields) override {
    static std::mutex mutex;
    std::unique_lock lock(mutex, std::defer_lock);
    if (place == Ops::index<Matmul>() || place == Ops::index<HeadMatmul>()) lock.lock();
    CpuBackend::launch(place, fields);
  }

 private:
  const bool apart_;
};

// Where the threads meet: each shows a pointer, and sees all others' until the next meeting.
struct Meeting {
  explicit Meeting(int size) : pointers(size_t(size)) {}
  std::mutex mutex;
  std::condition_variable come;
  std::vector<void*> pointers,
      shown;  // those that come; those of the last meeting, which all have seen before the next
  int here = 0;
  int64_t meetings = 0;
  std::map<int, RankNews> news;
};

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(const RankPlace& place, Meeting& meeting) : Communicator(place), meeting_(meeting) {}

  std::string describe() const override { return fmt::format("{} threads", size()); }

  void start_all_reduce(const Tensor& x) override { reduce(x, 0, x.elements()); }
  void start_reduce_scatter(const Tensor& x) override {
    const int64_t piece = x.elements() / size();
    check_eq(piece * size(), x.elements(), "equal pieces");
    reduce(x, rank() * piece, piece);
    // Undefined elsewhere: nobody may rely on what was there.
    for (int64_t i = 0; i < x.elements(); ++i)
      if (i / piece != rank()) x.as<float>()[i] = 1e30f;
  }
  void start_all_gather(const Tensor& x) override {
    const int64_t piece = x.elements() / size();
    check_eq(piece * size(), x.elements(), "equal pieces");
    const std::vector<void*> all = meet(x.data);
    for (int other = 0; other < size(); ++other)
      if (other != rank())
        std::copy_n(static_cast<float*>(all[size_t(other)]) + other * piece, piece, x.as<float>() + other * piece);
    meet(nullptr);
  }
  void start_broadcast(const Tensor& x) override {
    const std::vector<void*> all = meet(x.data);
    if (!is_root()) std::copy_n(static_cast<float*>(all[0]), x.elements(), x.as<float>());
    meet(nullptr);
  }
  void finish() override {}
  void gather_bytes(const void* mine, size_t bytes, void* to) override {
    const std::vector<void*> all = meet(const_cast<void*>(mine));
    for (size_t other = 0; other < all.size(); ++other)
      std::memcpy(static_cast<char*>(to) + other * bytes, all[other], bytes);
    meet(nullptr);
  }
  void send_news(const RankNews& news) override {
    const std::lock_guard lock(meeting_.mutex);
    meeting_.news[rank()] = news;
    meeting_.come.notify_all();
  }
  void receive_news(std::map<int, RankNews>& news) override {
    const std::lock_guard lock(meeting_.mutex);
    for (const auto& [from, text] : meeting_.news)
      if (from != rank()) news[from] = text;
  }
  [[noreturn]] void abort(int) override { throw std::logic_error("a thread cannot end the others"); }

 private:
  double grace() const override { return 0.5; }

  void reduce(const Tensor& x, int64_t first, int64_t count) {
    const std::vector<void*> all = meet(x.data);
    std::vector<float> sum(static_cast<size_t>(count), 0.0f);
    for (void* other : all)
      for (int64_t i = 0; i < count; ++i) sum[size_t(i)] += static_cast<float*>(other)[first + i];
    meet(nullptr);
    std::copy(sum.begin(), sum.end(), x.as<float>() + first);
  }

  std::vector<void*> meet(void* mine) {
    std::unique_lock lock(meeting_.mutex);
    meeting_.pointers[size_t(rank())] = mine;
    const int64_t meeting = meeting_.meetings;
    if (++meeting_.here == size()) {
      meeting_.here = 0;
      meeting_.shown = meeting_.pointers;
      ++meeting_.meetings;
      meeting_.come.notify_all();
      return meeting_.shown;
    }
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(limit());
    const auto met = [&] { return meeting_.meetings != meeting; };
    const auto troubled = [&] { return !meeting_.news.empty(); };
    const bool in_time = meeting_.come.wait_until(lock, end, [&] { return met() || troubled(); });
    if (met()) return meeting_.shown;
    --meeting_.here;
    if (!in_time) give_up();
    lock.unlock();
    check_news();
    throw PeerFailed("another rank has ended");
  }

  Meeting& meeting_;
};

// Runs body(communicator) on `size` threads; returns how each rank that threw ended, in the words of conclude().
inline std::vector<RankEnding> run_ranks(int size, const std::function<void(Communicator&)>& body) {
  Meeting meeting(size);
  std::vector<RankEnding> endings;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      omp_set_num_threads(1);
      ThreadCommunicator ranks({rank, size, rank, size}, meeting);
      try {
        body(ranks);
      } catch (const std::exception& error) {
        const RankEnding ending = ranks.conclude(error, dynamic_cast<const UserError*>(&error) ? 2 : 1);
        const std::lock_guard lock(mutex);
        endings.push_back(ending);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return endings;
}

}  // namespace sluice

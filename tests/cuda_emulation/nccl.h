// Stands in for NCCL in the emulation: ranks are processes that meet in a file that all of them map. Collectives are
// queued on their stream and run only when somebody waits for them, so that a result that is read too early is a wrong
// one, and so is a buffer that is written again too early. Sums go in the order of ranks.
//
// The file's path is what NCCL_COMM_ID says, and its size what the ranks give it: kHeader + ranks * kSlot bytes,
// zeroed.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "cuda_runtime.h"

enum ncclResult_t {
  ncclSuccess,
  ncclUnhandledCudaError,
  ncclSystemError,
  ncclInvalidArgument,
  ncclInvalidUsage,
  ncclInProgress
};
enum ncclDataType_t { ncclUint8, ncclFloat32, ncclFloat64 };
enum ncclRedOp_t { ncclSum };
struct ncclUniqueId {
  char path[256];
};

namespace sluice::emulation {

inline constexpr size_t kHeader = 4096, kSlot = size_t{8} << 20;

inline size_t size_of_type(ncclDataType_t type) { return type == ncclUint8 ? 1 : type == ncclFloat32 ? 4 : 8; }

// One rank's side of the meeting.
struct Ranks {
  int rank = 0, size = 1;
  char* file = nullptr;
  uint64_t meetings = 0;  // that this rank has been at
  std::atomic<bool> aborted{false};

  ~Ranks() { munmap(file, kHeader + size_t(size) * kSlot); }
  char* slot(int of) const { return file + kHeader + size_t(of) * kSlot; }

  // False if the exchange is broken off before all have come.
  bool meet() {
    auto& arrived = *reinterpret_cast<std::atomic<uint64_t>*>(file);
    const uint64_t all = ++meetings * uint64_t(size);
    for (++arrived; arrived < all; std::this_thread::yield())
      if (aborted) return false;
    return true;
  }

  // Shows `bytes` to the others; body() may read all slots.
  template <class Body>
  void exchange(const void* mine, size_t bytes, Body body) {
    if (aborted) return;
    std::memcpy(slot(rank), mine, bytes);
    if (!meet()) return;
    body();
    meet();
  }

  template <class T>
  void add_up(void* out, size_t first, size_t count) const {
    for (size_t i = 0; i < count; ++i) {
      T sum = 0;
      for (int r = 0; r < size; ++r) sum += reinterpret_cast<const T*>(slot(r))[first + i];
      static_cast<T*>(out)[i] = sum;
    }
  }
  void add_up(ncclDataType_t type, void* out, size_t first, size_t count) const {
    if (type == ncclFloat64) add_up<double>(out, first, count);
    else add_up<float>(out, first, count);
  }
};

}  // namespace sluice::emulation

using ncclComm_t = std::shared_ptr<sluice::emulation::Ranks>*;

inline const char* ncclGetErrorString(ncclResult_t) { return "an emulated error"; }
inline ncclResult_t ncclGetVersion(int* version) { return *version = 22703, ncclSuccess; }
inline ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const char* path = std::getenv("NCCL_COMM_ID");
  if (!path || std::strlen(path) >= sizeof id->path) return ncclSystemError;
  return std::strcpy(id->path, path), ncclSuccess;
}
inline ncclResult_t ncclCommInitRank(ncclComm_t* comm, int size, ncclUniqueId id, int rank) {
  auto ranks = std::make_shared<sluice::emulation::Ranks>();
  ranks->rank = rank, ranks->size = size;
  const size_t bytes = sluice::emulation::kHeader + size_t(size) * sluice::emulation::kSlot;
  const int file = open(id.path, O_RDWR | O_CREAT, 0600);
  void* mapped = file >= 0 && ftruncate(file, off_t(bytes)) == 0
                     ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
                     : MAP_FAILED;
  if (file >= 0) close(file);
  if (mapped == MAP_FAILED) return ncclSystemError;
  ranks->file = static_cast<char*>(mapped);
  ranks->meet();
  return *comm = new std::shared_ptr(ranks), ncclSuccess;
}
inline ncclResult_t ncclCommDestroy(ncclComm_t comm) { return delete comm, ncclSuccess; }
inline ncclResult_t ncclCommAbort(ncclComm_t comm) {
  (*comm)->aborted = true;
  return ncclCommDestroy(comm);
}
inline ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* error) { return *error = ncclSuccess, ncclSuccess; }

namespace sluice::emulation {

// body(ranks) when the stream gets there; `bytes` is what the largest message takes.
template <class Body>
ncclResult_t queue(ncclComm_t comm, size_t bytes, cudaStream_t stream, Body body) {
  if (bytes > kSlot) return ncclInvalidArgument;
  enqueue(stream, [ranks = *comm, body] { body(*ranks); });
  return ncclSuccess;
}

}  // namespace sluice::emulation

inline ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t,
                                  ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * sluice::emulation::size_of_type(type);
  return sluice::emulation::queue(comm, bytes, stream, [=](sluice::emulation::Ranks& ranks) {
    ranks.exchange(from, bytes, [&] { ranks.add_up(type, to, 0, count); });
  });
}
inline ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t,
                                      ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * size_t((*comm)->size) * sluice::emulation::size_of_type(type);
  return sluice::emulation::queue(comm, bytes, stream, [=](sluice::emulation::Ranks& ranks) {
    ranks.exchange(from, bytes, [&] { ranks.add_up(type, to, size_t(ranks.rank) * count, count); });
  });
}
inline ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                                  cudaStream_t stream) {
  const size_t bytes = count * sluice::emulation::size_of_type(type);
  return sluice::emulation::queue(comm, bytes, stream, [=](sluice::emulation::Ranks& ranks) {
    ranks.exchange(from, bytes, [&] {
      for (int r = 0; r < ranks.size; ++r)
        std::memcpy(static_cast<char*>(to) + size_t(r) * bytes, ranks.slot(r), bytes);
    });
  });
}
inline ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                                  ncclComm_t comm, cudaStream_t stream) {
  const size_t bytes = count * sluice::emulation::size_of_type(type);
  return sluice::emulation::queue(comm, bytes, stream, [=](sluice::emulation::Ranks& ranks) {
    ranks.exchange(from, bytes, [&] { std::memcpy(to, ranks.slot(root), bytes); });
  });
}

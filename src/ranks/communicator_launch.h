// How this process was started: alone, by mpirun or srun (with MPI), or with the environment that torchrun gives
// (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), which Slurm's variables can stand for.
#pragma once

#include <memory>
#include <string>

#include "ranks/communicator.h"

namespace sluice {

struct RankLaunch {
  enum class Starter { kNone, kMpi, kEnvironment } starter = Starter::kNone;
  RankPlace place;      // as the starter's environment tells it; under MPI only a hint
  std::string meeting;  // kEnvironment: "host:port" where NCCL's ranks find each other
};

// UserError where the environment contradicts itself, or asks for what this build has not.
RankLaunch read_launch();

// Joins the other ranks, which must come within `limit` seconds, or stays alone. With kEnvironment they meet when a
// device is there, see connect_device.
std::unique_ptr<Communicator> connect_ranks(const RankLaunch& launch, double limit);

// What exchanges tensors of `backend`: NCCL for a GPU, which must not outlive `ranks`; null where `ranks` does it
// itself. `folder`, which all ranks see, is where ranks without MPI leave their last words.
std::unique_ptr<Communicator> connect_device(Communicator& ranks, const RankLaunch& launch, Backend& backend,
                                             const std::string& folder);

// Divides the processors that several ranks of this host may run on among them, unless OMP_NUM_THREADS is set. Returns
// the sentence for the log; empty where nothing was to divide.
std::string divide_threads(Communicator& ranks);

// Of communicator_mpi.cc and communicator_nccl.cc.
std::unique_ptr<Communicator> make_mpi_communicator(const RankPlace& place, double limit);
std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, const RankLaunch& launch, Backend& backend,
                                                     const std::string& folder);

}  // namespace sluice

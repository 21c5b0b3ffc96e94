// What variables of MPI, Slurm and torchrun say, and the ranks that follow (communicator_launch.h).
#include "ranks/communicator_launch.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "base/build_info.h"
#include "base/files/files.h"

namespace sluice {
namespace {

std::optional<int> number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  const std::string_view view = text;
  int value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || end != view.data() + view.size() || value < 0)
    throw UserError("the environment variable {} is \"{}\", but it should be a number that counts ranks", name, text);
  return value;
}

template <class... Names>
int first_number(int otherwise, Names... names) {
  int value = otherwise;
  bool found = false;
  for (const char* name : {names...})
    if (const auto given = number(name); given && !found) value = *given, found = true;
  return value;
}

std::string text(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A batch script has Slurm's variables too, without being a task of a step.
bool is_slurm_task() { return number("SLURM_STEP_NUM_TASKS").value_or(1) > 1 && number("SLURM_PROCID").has_value(); }

bool started_by_mpi() {
  return std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("PMIX_RANK") || std::getenv("PMI_SIZE");
}

RankPlace mpi_place() {
  return {first_number(0, "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"),
          first_number(1, "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"),
          first_number(0, "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"),
          first_number(1, "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")};
}

RankPlace environment_place() {
  return {first_number(-1, "RANK", "SLURM_PROCID"), first_number(1, "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"),
          first_number(0, "LOCAL_RANK", "SLURM_LOCALID"), first_number(1, "LOCAL_WORLD_SIZE")};
}

// torchrun listens at MASTER_PORT itself, so NCCL's ranks meet at the next one.
std::string meeting_place() {
  const int port = number("MASTER_PORT").value_or(0) + (text("TORCHELASTIC_USE_AGENT_STORE") == "True" ? 1 : 0);
  return fmt::format("{}:{}", text("MASTER_ADDR"), port);
}

RankLaunch environment_launch() {
  RankLaunch launch{RankLaunch::Starter::kEnvironment, environment_place(), {}};
  const auto [rank, size, local_rank, local_size] = launch.place;
  if (rank < 0 || rank >= size)
    throw UserError("WORLD_SIZE is {}, so RANK must be between 0 and {}, but it is {}", size, size - 1,
                    text("RANK").empty() ? "not set" : text("RANK"));
  if (!build_info().nccl)
    throw UserError(
        "{} ranks are asked for (WORLD_SIZE), and without mpirun these are GPUs that exchange through NCCL, which "
        "this build lacks; on the CPU start them with mpirun, or with srun --mpi=pmix",
        size);
  if (text("MASTER_ADDR").empty() || !number("MASTER_PORT"))
    throw UserError(
        "{} ranks are asked for (WORLD_SIZE) without mpirun, so MASTER_ADDR and MASTER_PORT must say where they "
        "meet",
        size);
  launch.meeting = meeting_place();
  return launch;
}

// Ranks under `environment` that wait for their device; until then each can only speak for itself.
class UnconnectedRanks final : public Communicator {
 public:
  using Communicator::Communicator;
  std::string describe() const override { return fmt::format("rank {} of {}", rank(), size()); }
  void start_all_reduce(const Tensor&) override { unconnected(); }
  void start_reduce_scatter(const Tensor&) override { unconnected(); }
  void start_all_gather(const Tensor&) override { unconnected(); }
  void start_broadcast(const Tensor&) override { unconnected(); }
  void finish() override {}
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }
  void gather_bytes(const void*, size_t, void*) override { unconnected(); }
  void send_news(const RankNews&) override {}
  void receive_news(std::map<int, RankNews>&) override {}

 private:
  [[noreturn]] static void unconnected() { throw std::logic_error("ranks exchange before they are connected"); }
  double grace() const override { return 0; }
};

}  // namespace

RankLaunch read_launch() {
  if (started_by_mpi()) {
    RankLaunch launch{RankLaunch::Starter::kMpi, mpi_place(), {}};
    if (launch.place.size <= 1) return {};
    if (!build_info().mpi)
      throw UserError(
          "this is rank {} of {}, but this build has no MPI: install libopenmpi-dev and openmpi-bin, and build "
          "again",
          launch.place.rank, launch.place.size);
    return launch;
  }
  if (number("WORLD_SIZE").value_or(1) > 1) return environment_launch();
  if (!is_slurm_task()) return {};
  if (text("MASTER_ADDR").empty())
    throw UserError(
        "srun started {} tasks, but neither through PMIx (srun --mpi=pmix) nor with MASTER_ADDR and MASTER_PORT; "
        "for one rank use srun --ntasks=1",
        number("SLURM_STEP_NUM_TASKS").value_or(0));
  return environment_launch();
}

std::unique_ptr<Communicator> connect_ranks(const RankLaunch& launch, double limit) {
  switch (launch.starter) {
    case RankLaunch::Starter::kMpi: return make_mpi_communicator(launch.place, limit);
    case RankLaunch::Starter::kEnvironment: return std::make_unique<UnconnectedRanks>(launch.place);
    case RankLaunch::Starter::kNone: break;
  }
  return make_one_rank();
}

std::unique_ptr<Communicator> connect_device(Communicator& ranks, const RankLaunch& launch, Backend& backend,
                                             const std::string& folder) {
  if (ranks.size() == 1) return nullptr;
  const bool on_host = backend.traits().host_memory;
  if (launch.starter == RankLaunch::Starter::kMpi) {
    const std::vector<char> places = ranks.gather(char(on_host));
    const auto other = std::find(places.begin(), places.end(), char(!places[0]));
    if (other != places.end())
      throw UserError(
          "rank {} runs on {}, but rank 0 on {}: set device, and start no more ranks on a host than it has GPUs",
          other - places.begin(), *other ? "the CPU" : "a GPU", places[0] ? "the CPU" : "a GPU");
    if (on_host) return nullptr;
  }
  if (on_host)
    throw UserError(
        "{} ranks are asked for (WORLD_SIZE) without mpirun, but they run on the CPU (device); start them with "
        "mpirun, or with srun --mpi=pmix",
        ranks.size());
  if (!build_info().nccl)
    throw UserError(
        "{} ranks on GPUs exchange through NCCL, which this build lacks: put nccl.h and libnccl where CMake looks "
        "and build again, or set device to \"cpu\"",
        ranks.size());
  return make_nccl_communicator(ranks, launch, backend, folder);
}

std::string divide_threads(Communicator& ranks) {
  struct Place {
    uint64_t host;
    cpu_set_t processors;
  } mine{};
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  mine.host = checksum_of(name);
  CPU_ZERO(&mine.processors);
  sched_getaffinity(0, sizeof mine.processors, &mine.processors);
  int sharing = 0;
  for (const Place& other : ranks.gather(mine))
    sharing += other.host == mine.host && CPU_EQUAL(&other.processors, &mine.processors);
  if (sharing <= 1 || !text("OMP_NUM_THREADS").empty()) return "";
  const int threads = std::max(1, omp_get_max_threads() / sharing);
  omp_set_num_threads(threads);
  return fmt::format("{} ranks share {} processors: {} {} each (OMP_NUM_THREADS sets it)", sharing,
                     CPU_COUNT(&mine.processors), threads, threads == 1 ? "thread" : "threads");
}

}  // namespace sluice

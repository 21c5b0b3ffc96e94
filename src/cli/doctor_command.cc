// `sluice doctor`: what this build has, what this machine has, what was chosen, and how fast it is.
#include <dnnl.hpp>

#include <fmt/format.h>
#include <omp.h>
#include <spdlog/version.h>
#include <xxhash.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/build_info.h"
#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/output.h"
#include "kernels/cpu/isa.h"
#include "kernels/device/device.h"

namespace sluice {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
constexpr double kSecondsPerRate = 0.7;

void print_row(const std::string& name, const std::string& value) { print_out("  {:<18}{}\n", name, value); }

void print_feature(const std::string& name, bool present, const std::string& without) {
  print_out("  {} {:<16}{}\n", present ? "✓" : "✗", name, present ? "" : without);
}

void print_build() {
  const BuildInfo& info = build_info();
  print_out("Build\n");
  print_row("version", info.version + (info.commit.empty() ? "" : ", commit " + info.commit));
  print_row("compiler", fmt::format("{}, {} ({})", info.compiler, info.build_type, info.flags));
  print_row(
      "libraries",
      fmt::format("oneDNN {}.{}.{}, nlohmann/json {}.{}.{}, fmt {}.{}.{}, spdlog {}.{}.{}, CLI11 {}, "
                  "xxHash {}.{}.{}, OpenMP {}",
                  dnnl::version()->major, dnnl::version()->minor, dnnl::version()->patch, NLOHMANN_JSON_VERSION_MAJOR,
                  NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH, FMT_VERSION / 10000,
                  FMT_VERSION / 100 % 100, FMT_VERSION % 100, SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH,
                  CLI11_VERSION, XXH_VERSION_MAJOR, XXH_VERSION_MINOR, XXH_VERSION_RELEASE, _OPENMP));
  print_feature("MPI", info.mpi, "no training on several hosts");
  print_feature("CUDA", info.cuda, "the CPU only (cmake --preset cuda)");
  print_feature("NCCL", info.nccl, "one GPU only");
  print_feature("cuDNN attention", info.cudnn, "our own kernels only");
}

std::string memory_text(const Machine& machine) {
  std::string text = fmt::format("{:.1f} GiB, {:.1f} GiB available", double(machine.memory_total) / kGiB,
                                 double(machine.memory_available) / kGiB);
  if (machine.memory_limit > 0)
    text += fmt::format(", {:.1f} GiB in this container", double(machine.memory_limit) / kGiB);
  return text;
}

void print_gpus() {
  const std::string reason = gpu_unavailable_reason();
  for (const std::string& gpu : gpu_descriptions()) print_row("GPU", gpu);
  print_row("device auto", reason.empty() ? "cuda" : "cpu: " + reason);
  if (reason.empty()) {
    const std::string missing = cudnn_unavailable_reason();
    print_row("cuDNN attention", missing.empty() ? "can be had (train.attention_backend)" : "none: " + missing);
  }
}

void print_machine(const Machine& machine, int threads) {
  print_out("\nMachine\n");
  std::string processors = fmt::format("{}, {} usable", machine.processors, machine.usable_processors);
  if (machine.quota > 0) processors += fmt::format(", {:.1f} in this container", machine.quota);
  print_row("processor", machine.processor.empty() ? "unknown" : machine.processor);
  print_row("processors", processors);
  print_row("memory", memory_text(machine));
  print_row("instruction sets", fmt::format("{}", fmt::join(machine.instruction_sets, " ")));
  print_out("\nChosen\n");
  print_row("kernels",
            fmt::format("{} (compiled: {}; SLUICE_CPU_ISA narrows it)", cpu_isa_name(), build_info().isa_sets));
  print_row("oneDNN", onednn_instruction_set());
  print_row("threads", fmt::format("{} (OMP_NUM_THREADS sets it)", threads));
  print_gpus();
}

void print_peak(const std::string& name, double rate) {
  if (rate > 0) print_row(name, fmt::format("{:.0f} GFLOP/s", rate));
}

void print_speed(const std::string& what, const MachineSpeed& speed) {
  print_out("\nMeasured on the {}, best call\n", what);
  print_peak("fp32 registers", speed.peaks.fma);
  print_peak("bf16 dot product", speed.peaks.bf16_dot);
  print_peak("bf16 tiles", speed.peaks.tiles);
  print_row("fp32 matmul", fmt::format("{:.0f} GFLOP/s", speed.f32_matmul));
  print_row("bf16 matmul", fmt::format("{:.0f} GFLOP/s", speed.bf16_matmul));
  print_row("memory copy", fmt::format("{:.1f} GB/s, read and written", speed.copy));
}

// What the environment or the build does to speed; the machine's own warnings are in machine_warnings.
std::vector<std::string> setting_warnings() {
  std::vector<std::string> warnings;
  if (build_info().build_type != "Release") {
    warnings.push_back(fmt::format("this is a {} build: its speed says nothing", build_info().build_type));
  }
  for (const char* name : {"SLUICE_CPU_ISA", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') {
      warnings.push_back(fmt::format("{}={} is set and may keep fast instructions from being used", name, value));
    }
  }
  return warnings;
}

void run_doctor(bool quick) {
  const Machine machine = read_machine();
  const int threads = omp_get_max_threads();
  print_build();
  print_machine(machine, threads);
  MachineSpeed speed;
  if (quick) {
    print_out("\nPeaks were not measured (--quick).\n");
  } else {
    speed = measure_machine(kSecondsPerRate);
    print_speed("CPU", speed);
    if (gpu_unavailable_reason().empty()) print_speed("GPU", measure_device(*make_backend("cuda"), kSecondsPerRate));
  }
  std::vector<std::string> warnings = machine_warnings(machine, speed, threads);
  for (std::string& warning : setting_warnings()) warnings.push_back(std::move(warning));
  print_out("\n{}\n", warnings.empty() ? "Nothing to warn about." : "Warnings");
  for (const std::string& warning : warnings) print_out("  ! {}\n", warning);
}

}  // namespace

void add_doctor_command(CLI::App& app) {
  auto quick = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("doctor", "what this build and this machine have, and how fast they are");
  command->add_flag("--quick", *quick, "leave out the measurements");
  command->callback([quick] { run_doctor(*quick); });
}

}  // namespace sluice

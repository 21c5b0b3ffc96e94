// What is read is bounded: by size before it is read, by depth and count while it is. docs/limits.md has the table; a
// test keeps both the same (tests/base/limits_test.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice {

constexpr uint64_t kMebibyte = uint64_t{1} << 20;

// Bytes of whole files. Parsed JSON takes up to about 20 times its text.
constexpr uint64_t kMostConfigBytes = 64 * kMebibyte;  // configs, sweeps, state.json, foreign config.json, indexes
constexpr uint64_t kMostTokenizerBytes =
    512 * kMebibyte;  // tokenizer.json, vocab.json, merges.txt, sentencepiece models
constexpr uint64_t kMostFigureBytes =
    2048 * kMebibyte;  // info.json, attention maps, analyses, quantization.json, statistics texts
constexpr uint64_t kMostMetricsLine = 16 * kMebibyte;  // a line of metrics.jsonl
constexpr uint64_t kMostHellaSwagLine = 1 * kMebibyte;
constexpr uint64_t kMostHellaSwagBytes = 1024 * kMebibyte;  // unpacked
constexpr uint64_t kMostPromptBytes = 64 * kMebibyte;       // sample --prompt-file
constexpr uint64_t kMostHeaderBytes = 100'000'000;  // of a safetensors file, as the reference implementation has it

// Counts.
constexpr size_t kMostBases = 100;                     // files in a config's chain of bases
constexpr size_t kMostConfigKeys = 10'000;             // of all objects of a config or sweep
constexpr uint64_t kMostConfigPaths = 16 * kMebibyte;  // bytes of all of them, each with the groups around it: "a.b.c"
constexpr size_t kMostSweepRuns = 10'000;
constexpr uint64_t kMostSweepBytes = 1024 * kMebibyte;  // of the configs of all of a sweep's runs

// Characters of a message, and of a value that is quoted in one.
constexpr size_t kMostMessage = 4000;
constexpr size_t kMostQuoted = 80;

}  // namespace sluice

// The readers of run_reader.h, one a format: each puts what its file holds into the record, and a note where that is
// missing or cannot be used.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "report/run_reader.h"

namespace sluice {

void read_metrics(RunRecord& run);       // metrics.jsonl
void read_attention(RunRecord& run);     // attention/step_*.json
void read_analyses(RunRecord& run);      // analysis/step_*.json
void read_quantization(RunRecord& run);  // quantization.json

// ---- what they have in common ----

// What a run may have written half before it was killed: `problem` says why it cannot be used.
std::optional<Json> try_read_json(const std::filesystem::path& file, std::string& problem);

// Keys of a metrics line that say where its values belong.
bool is_address(const std::string& key);

// What was written later for the same step holds.
void set_point(TimeSeries& series, int64_t step, double value);

// These throw Json::exception for anything else: 1e300 is no integer, and what it became would be undefined.
double number_or_nan(const Json& value);
std::vector<double> numbers(const Json& list);
int64_t integer_at(const Json& object, const char* key);
HeadId head_at(const Json& object);
// The same where a map is not one; nothing if its shape is wrong.
std::optional<RecordedMap> read_map(const Json& entry, const Json& rows, size_t positions);

}  // namespace sluice

// Reads a run folder (config.json, info.json, metrics.jsonl, attention/, analysis/step_*.json and quantization.json)
// into time series.
//
// A metrics line {"kind":"probe","step":10,"layer":0,"head":1,"sink_attention":0.5,...} gives one point to one series
// per numeric field; the series is named by (kind, field, layer, head). Block-level fields (residual_*) are filed under
// head -1 whichever head's line carries them. Null stands for a value that was not finite and is kept as NaN.
//
// Only the folder itself must exist: what is missing in it becomes a note, for a run that was killed or still goes on
// should show what it has.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/config/config.h"

namespace sluice {

struct SeriesKey {
  std::string kind, field;
  int64_t layer = -1, head = -1;  // -1: the field belongs to the whole model, or to the whole layer
  auto operator<=>(const SeriesKey&) const = default;
};

struct TimeSeries {
  std::vector<int64_t> steps;  // strictly increasing
  std::vector<double> values;  // as many; NaN where the run wrote null
};

struct HeadId {
  int64_t layer = 0, head = 0;
  auto operator<=>(const HeadId&) const = default;
  std::string name() const;  // "L0H3"
};

struct RecordedMap {
  HeadId id;
  std::vector<std::vector<double>> weights;  // row i: the weights of query i on keys 0..i, or of both sides on all
  bool both_sides = false;
  std::vector<double> gate;  // one opening a position; empty where there is no gate
};

struct RecordedAttention {
  int64_t step = 0;
  std::vector<std::string> tokens;
  std::vector<RecordedMap> maps;
};

// A figure of the model, and perhaps of heads, that an analysis has and describes (measure/figures/figure.h).
struct RecordedFigure {
  std::string key, group, title, meaning;
  bool of_heads = true;
};

// Curves and maps of a full analysis (docs/analysis.md).
struct RecordedAnalysis {
  int64_t step = 0, sequences = 0;
  std::string how;                     // what its figures depend on: "100 sequences of 64 tokens, sinks above 0.3, ..."
  Json residual_norm = Json::array();  // [layers + 1][positions]
  Json curves = Json::array();         // [{layer, head, attention: [...], value_norm: [...], ...}]
  std::vector<RecordedFigure> figures;  // that it describes
  RecordedAttention mean;               // over the sequences; positions in the tokens' place; may have no maps
};

// What quantizing the model of a checkpoint costs; the figures are in the series (docs/quantization.md).
struct RecordedQuantization {
  int64_t step = 0;
  std::string how() const { return rule + ", " + data; }  // what its figures depend on
  std::string rule,
      data;  // "W8A8, weights minmax per matrix, activations minmax with ..."; "128 sequences of tokens: ..."
};

struct RunRecord {
  std::string path;
  std::string name;              // the config's "name", else the folder's
  Json config = Json::object();  // resolved; empty if the file is missing
  Json info = Json::object();    // what train says about the machine and the run; empty if missing
  std::map<SeriesKey, TimeSeries> series;
  std::optional<RecordedAttention> first_attention, last_attention;
  std::optional<RecordedAnalysis> analysis;  // the newest
  std::optional<RecordedQuantization> quantization;
  std::vector<std::string> notes;  // what is missing or was skipped, one sentence each

  const TimeSeries* find(const std::string& kind, const std::string& field, int64_t layer = -1,
                         int64_t head = -1) const;
  std::optional<double> final_value(const std::string& kind, const std::string& field, int64_t layer = -1,
                                    int64_t head = -1) const;
  std::vector<HeadId> heads() const;    // every (layer, head) with a series, sorted
  std::vector<int64_t> layers() const;  // every layer with any series, sorted
  int64_t last_step() const;            // the largest step in the metrics; -1 if there is none
};

// The runs that lie directly in a folder, by name, as a sweep leaves them; `path` itself where it is a run or no
// folder. UserError for a folder without runs.
std::vector<std::string> run_folders(const std::string& path);

// Throws UserError if `path` is no run folder, if config.json is malformed, or if a metrics line other than the last
// is (a killed run may leave its last line half written).
RunRecord read_run(const std::string& path);

}  // namespace sluice

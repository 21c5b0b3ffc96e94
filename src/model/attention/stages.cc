// The list of stages: a new one is its files and a line here, at the place where it acts.
#include "model/attention/parts.h"
#include "model/attention/stages/gate.h"
#include "model/attention/stages/head_norm.h"
#include "model/attention/stages/rope.h"

namespace sluice {
namespace {

std::vector<StagePart>& stages() {
  static std::vector<StagePart> list = {
      head_norm_stage(),
      rope_stage(),
      gate_stage(),
  };
  return list;
}

}  // namespace

const std::vector<StagePart>& attention_stages() { return stages(); }

ListedStage::ListedStage(StagePart part) { stages().push_back(part); }
ListedStage::~ListedStage() { stages().pop_back(); }

}  // namespace sluice

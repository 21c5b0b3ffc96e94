#include "model/attention/parts.h"

#include "model/attention/cores/tiles.h"
#include "model/attention/stages/gate.h"
#include "model/attention/stages/head_norm.h"
#include "model/attention/stages/rope.h"

namespace sluice {
namespace {

std::vector<CorePart>& cores() {
  static std::vector<CorePart> list = {
      tiles_core(),
  };
  return list;
}

std::vector<StagePart>& stages() {
  static std::vector<StagePart> list = {
      head_norm_stage(),
      rope_stage(),
      gate_stage(),
  };
  return list;
}

}  // namespace

const std::vector<CorePart>& attention_cores() { return cores(); }
const std::vector<StagePart>& attention_stages() { return stages(); }

ListedCore::ListedCore(CorePart part) { cores().push_back(part); }
ListedCore::~ListedCore() { cores().pop_back(); }
ListedStage::ListedStage(StagePart part) { stages().push_back(part); }
ListedStage::~ListedStage() { stages().pop_back(); }

}  // namespace sluice

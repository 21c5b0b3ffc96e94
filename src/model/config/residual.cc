#include "model/config/residual.h"

#include <algorithm>

#include "base/error.h"
#include "model/config/residual_parts.h"

namespace sluice {
namespace {

bool shares(const ResidualPart& part, const std::string& owner) { return part.options_of && owner == part.options_of; }

}  // namespace

ResidualConfig::ResidualConfig() {
  for (const ResidualPart& part : residuals()) options_.emplace_back(part.options());
}

void ResidualConfig::describe(Fields& f) {
  std::vector<std::string> names;
  std::string summaries;
  for (const ResidualPart& part : residuals()) {
    names.push_back(part.name);
    summaries += fmt::format("{}{} ({})", summaries.empty() ? "" : ", ", part.name, part.summary);
  }
  f.add("type", type, summaries).one_of(names);
  for (size_t i = 0; i < options_.size(); ++i) {
    if (residuals()[i].options_of) continue;
    std::vector<std::string> users = {names[i]};
    for (const ResidualPart& part : residuals())
      if (shares(part, names[i])) users.push_back(part.name);
    const size_t before = f.list().size();
    options_[i]->describe(f);
    for (size_t added = before; added < f.list().size(); ++added)
      if (f.list()[added]->when_key.empty()) f.list()[added]->when("type", users);
  }
}

void ResidualConfig::resolve(const ModelConfig& model) const { options().resolve(model, "model.residual"); }

size_t ResidualConfig::index(const std::string& name) const {
  const auto found =
      std::find_if(residuals().begin(), residuals().end(), [&](const ResidualPart& part) { return name == part.name; });
  check(found != residuals().end(), "an unlisted residual passed the config check");
  return size_t(found - residuals().begin());
}

const ResidualPart& ResidualConfig::part() const { return residuals()[index(type)]; }
const ResidualOptions& ResidualConfig::options() const {
  const char* owner = part().options_of;
  return *options_[index(owner ? owner : type)].get();
}

}  // namespace sluice

// The naming under which most of a family's tensors are there (stored_tensors.h).
#include "interchange/stored_tensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "base/error.h"

namespace sluice {
namespace {

// Parts of a dotted name that stand for a wrapper around what follows.
constexpr std::array<std::string_view, 5> kWrappers = {"_orig_mod", "module", "_fsdp_wrapped_module",
                                                       "_checkpoint_wrapped_module", "_forward_module"};

std::string without_wrappers(const std::string& name) {
  std::string out;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = std::string_view(name).substr(begin, end - begin);
    if (std::find(kWrappers.begin(), kWrappers.end(), part) == kWrappers.end()) {
      if (!out.empty()) out += '.';
      out += part;
    }
    begin = end + 1;
  }
  return out.empty() ? name : out;
}

std::string without(const std::string& prefix, const std::string& name) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

// How names of the family become those of a folder: what is left out in front, and then what is put there.
struct Naming {
  std::string outer, left_out;
  std::string of(const std::string& name) const { return outer + without(left_out, name); }
};

// Prefixes that all names of the folder have, and behind which one of the first names of the family stands.
std::set<std::string> outer_prefixes(const std::set<std::string>& stored, const std::vector<std::string>& expected) {
  std::set<std::string> out = {""};
  for (const std::string& end : expected)
    for (const std::string& name : stored) {
      if (!name.ends_with("." + end)) continue;
      const std::string prefix = name.substr(0, name.size() - end.size());
      if (std::all_of(stored.begin(), stored.end(), [&](const auto& any) { return any.starts_with(prefix); }))
        out.insert(prefix);
    }
  return out;
}

// The naming under which most of the family's tensors are there; of equals the one that changes least.
Naming naming_of(const std::set<std::string>& stored, const std::string& family_prefix,
                 const std::vector<TensorPart>& parts) {
  constexpr size_t kFirst = 3;
  std::set<std::string> names;
  std::vector<std::string> first;
  for (const TensorPart& part : parts) {
    names.insert(part.theirs);
    if (first.size() < 2 * kFirst) first.insert(first.end(), {part.theirs, without(family_prefix, part.theirs)});
  }
  Naming best;
  int64_t most = -1;
  for (const std::string& outer : outer_prefixes(stored, first))
    for (const std::string& left_out : {std::string(), family_prefix}) {
      const Naming naming{outer, left_out};
      const int64_t found =
          std::count_if(names.begin(), names.end(), [&](const auto& name) { return stored.contains(naming.of(name)); });
      if (found > most) best = naming, most = found;
    }
  return best;
}

}  // namespace

StoredTensors::StoredTensors(const WeightFolder& weights, Architecture architecture,
                             const std::vector<TensorPart>& parts) {
  std::set<std::string> stored;
  const bool wrapped = architecture != Architecture::kSluice || !weights.find(parts.front().theirs);
  const auto plain = [&](const std::string& name) { return wrapped ? without_wrappers(name) : name; };
  for (const auto& [name, found] : weights.tensors()) stored.insert(plain(name));
  const Naming naming = naming_of(stored, name_prefix(architecture), parts);
  outer_ = naming.outer;
  prefix_ = naming.left_out;
  const std::string head = head_name(architecture);
  for (const auto& [name, found] : weights.tensors()) {
    std::string own = without(outer_, plain(name));
    if (own != name && unwrapped_.empty()) unwrapped_ = fmt::format("{} is read as {}", name, own);
    if (architecture == Architecture::kGptNeoX && own == "embed_out.weight") own = head;
    if (own != head && !own.starts_with(prefix_)) own = prefix_ + own;
    const auto [at, is_new] = tensors_.insert({own, found});
    if (!is_new)
      throw UserError("{}: tensors {} and {} are both {} of the model", found.file->path().string(),
                      at->second.tensor->name, name, own);
  }
}

const WeightFolder::Found* StoredTensors::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::string StoredTensors::stored_name(const std::string& name) const {
  const Found* found = find(name);
  return found ? found->tensor->name : Naming{outer_, prefix_}.of(name);
}

std::string StoredTensors::some_names() const {
  constexpr size_t kShown = 3;
  std::vector<std::string> names;
  for (const auto& [name, found] : tensors_)
    if (names.size() < kShown) names.push_back(found.tensor->name);
  const size_t more = tensors_.size() - names.size();
  return fmt::format("{}{}", fmt::join(names, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace sluice

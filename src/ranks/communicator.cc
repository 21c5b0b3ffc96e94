// What all kinds of communicator share, and the rank that is alone.
#include "ranks/communicator.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/config/config.h"
#include "base/config/sentence.h"
#include "base/stopwatch.h"

namespace sluice {
namespace {

constexpr double kPatience = 3600;  // seconds that rank 0 may take for a probe or a checkpoint

// "rank 3", "ranks 1, 2 and 5 others"
std::string ranks_text(const std::vector<int>& ranks) {
  constexpr size_t kMost = 8;
  const size_t shown = std::min(ranks.size(), kMost);
  std::string text = fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks",
                                 fmt::join(ranks.begin(), ranks.begin() + long(shown), ", "));
  if (ranks.size() > shown) text += fmt::format(" and {} others", ranks.size() - shown);
  return text;
}

}  // namespace

double Communicator::sum(double mine) {
  double total = 0;
  for (const double value : gather(mine)) total += value;
  return total;
}

bool Communicator::all(bool mine) {
  const std::vector<char> values = gather(char(mine));
  return std::all_of(values.begin(), values.end(), [](char value) { return value != 0; });
}

std::vector<std::string> Communicator::gather_texts(const std::string& mine) {
  const std::vector<uint64_t> lengths = gather(uint64_t(mine.size()));
  const size_t longest = *std::max_element(lengths.begin(), lengths.end());
  std::vector<std::string> texts(lengths.size());
  if (longest == 0) return texts;
  std::string padded = mine, everything(longest * lengths.size(), '\0');
  padded.resize(longest);
  gather_bytes(padded.data(), longest, everything.data());
  for (size_t i = 0; i < texts.size(); ++i) texts[i] = everything.substr(i * longest, lengths[i]);
  return texts;
}

std::string Communicator::broadcast_text(const std::string& text) {
  return gather_texts(is_root() ? text : std::string()).front();
}

void Communicator::check_news() {
  receive_news(news_);
  if (!news_.empty()) throw PeerFailed("rank {} has ended", news_.begin()->first);
}

void Communicator::give_up() const {
  throw PeerFailed("no answer from another rank within {:g} s (train.rank_timeout), at {}", limit_, doing_);
}

RankEnding Communicator::conclude(const std::exception& error, int exit_code) {
  RankNews own{dynamic_cast<const PeerFailed*>(&error) == nullptr, exit_code, sentence_of(error).text};
  send_news(own);
  news_[rank()] = std::move(own);
  const Stopwatch watch;
  while (int(news_.size()) < size() && watch.seconds() < grace()) {
    receive_news(news_);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return ending();
}

RankEnding Communicator::ending() const {
  const auto source =
      std::find_if(news_.begin(), news_.end(), [](const auto& entry) { return entry.second.own_error; });
  const bool orderly = int(news_.size()) == size() && std::all_of(news_.begin(), news_.end(), [](const auto& entry) {
                         return entry.second.own_error;
                       });
  if (source != news_.end()) {
    const auto& [from, news] = *source;
    // Rank 0 does what a rank alone would do, and so its sentence stands by itself.
    const std::string sentence = from == 0 ? news.text : fmt::format("rank {}: {}", from, news.text);
    return {from == rank(), orderly, news.exit_code, sentence};
  }
  std::vector<int> lost;
  for (int other = 0; other < size(); ++other)
    if (!news_.contains(other)) lost.push_back(other);
  const std::string& waiting = news_.begin()->second.text;
  const std::string sentence =
      lost.empty() ? waiting
                   : fmt::format(
                         "{} of {} died or hangs, at {}: no answer within {:g} s (train.rank_timeout); started "
                         "again, the run goes on from its newest checkpoint",
                         ranks_text(lost), size(), doing_, limit_);
  return {news_.begin()->first == rank(), false, 1, sentence};
}

PatientWait::PatientWait(Communicator& ranks) : ranks_(ranks), former_(ranks.limit()) {
  if (ranks_.is_root()) return;
  ranks_.set_limit(std::max(former_, kPatience));
  ranks_.usual_limit_ = former_;
}

PatientWait::~PatientWait() {
  ranks_.set_limit(former_);
  ranks_.usual_limit_ = 0;
}

namespace {

class OneRank final : public Communicator {
 public:
  OneRank() : Communicator({}) {}
  std::string describe() const override { return "one rank"; }
  void start_all_reduce(const Tensor&) override {}
  void start_reduce_scatter(const Tensor&) override {}
  void start_all_gather(const Tensor&) override {}
  void start_broadcast(const Tensor&) override {}
  void finish() override {}
  [[noreturn]] void abort(int exit_code) override { std::exit(exit_code); }
  void gather_bytes(const void* mine, size_t bytes, void* all) override { std::memcpy(all, mine, bytes); }
  void send_news(const RankNews&) override {}
  void receive_news(std::map<int, RankNews>&) override {}
};

// The first place where two configs differ: "train.optimizer.lr is 0.1 there, but 0.2 on rank 0".
std::string first_difference(const Json& root, const Json& other) {
  const Json flat = root.flatten(), other_flat = other.flatten();
  const auto value = [](const Json& config, const std::string& key) {
    return config.contains(key) ? config[key].dump() : "not set";
  };
  for (const Json* keys : {&flat, &other_flat}) {
    for (const auto& [key, unused] : keys->items()) {
      if (value(flat, key) == value(other_flat, key)) continue;
      std::string name = key.substr(1);
      std::replace(name.begin(), name.end(), '/', '.');
      return fmt::format("{} is {} there, but {} on rank 0", name, value(other_flat, key), value(flat, key));
    }
  }
  return "";
}

}  // namespace

std::unique_ptr<Communicator> make_one_rank() { return std::make_unique<OneRank>(); }

Communicator& one_rank() {
  static OneRank rank;
  return rank;
}

void check_same_config(Communicator& ranks, const std::string& config, const std::string& data) {
  const std::vector<std::string> configs = ranks.gather_texts(config), identities = ranks.gather_texts(data);
  for (int rank = 1; rank < ranks.size(); ++rank) {
    const size_t i = size_t(rank);
    if (configs[i] != configs[0])
      throw UserError("rank {} has another config than rank 0: {}; start all ranks with the same one", rank,
                      first_difference(Json::parse(configs[0]), Json::parse(configs[i])));
    if (identities[i] != identities[0])
      throw UserError("rank {} reads other data ({}) than rank 0 ({})", rank, identities[i], identities[0]);
  }
}

}  // namespace sluice

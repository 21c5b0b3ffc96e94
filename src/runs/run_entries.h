// What lies in a run's folder, and what it is by its name and its text (run_folder.h decides what follows from that).
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/config/config.h"

namespace sluice {

// What a run consists of; nothing else in the folder is touched. In the order in which they are moved away: what is
// left of a move that was broken off has no checkpoints that another config could go on from.
inline constexpr std::array kRunEntries = {"checkpoints", "origin.json", "metrics.jsonl", "attention",
                                           "analysis",    "log.txt",     "info.json",     "config.json"};
inline constexpr std::string_view kMoving = ".moving";  // old1.moving, until it has all of them

bool is_there(const std::filesystem::path& path);  // a link that leads nowhere is there too
std::vector<std::filesystem::path> entries_of(const std::filesystem::path& folder);

// nullopt: no such file, or no JSON in it.
std::optional<Json> json_in(const std::filesystem::path& file);

bool is_own_info(const std::filesystem::path& file);
bool is_own_lock(const std::filesystem::path& file);  // empty, or the number of a process
// What a start leaves that was killed before its config.json, or between the two halves of starting over.
bool is_beginning(const std::filesystem::path& entry);

std::filesystem::path free_old_folder(const std::filesystem::path& run);  // where a former run of the folder would go
bool is_old_folder(std::string name);                                     // old1, old2, ..., or one that is being moved
bool is_being_moved(const std::filesystem::path& run);                    // a start over that was broken off

}  // namespace sluice

// Memory that this process may still take, from what Linux tells in /proc and /sys.
#pragma once

#include <cstdint>
#include <string>

namespace sluice {

std::string first_line_of(const std::string& path);                     // empty where it cannot be read
std::string value_in(const std::string& path, const std::string& key);  // behind "key<blanks>:"; empty if none
uint64_t memory_in(const std::string& key);                             // of /proc/meminfo, in bytes; 0 if none
std::string control_group();                                            // its folder in /sys

// Bytes that can be allocated and used: the machine's free memory and swap, what the container leaves, and what
// `ulimit -v` does. 0 where nothing tells.
uint64_t available_memory();

}  // namespace sluice

// The last word on an error: whatever was thrown, as one sentence of bounded length and the exit code that goes with
// it.
#pragma once

#include <exception>
#include <string>

namespace sluice {

struct Sentence {
  std::string text;
  int exit_code = 1;  // 2: the input is wrong; 1: the run failed
};

// UserError and RunError speak for themselves. What a library threw is put into words: a failed file system call with
// its path, memory that ran out, text that is no UTF-8. A very long sentence (a key of 20 MB) is cut in the middle.
Sentence sentence_of(const std::exception& error);

}  // namespace sluice

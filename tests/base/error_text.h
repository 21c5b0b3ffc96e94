// What errors say.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/error.h"

namespace sluice {

// The message of the UserError that a call throws; empty if it throws none.
template <class Call>
std::string user_error_of(Call&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

inline void expect_contains(const std::string& text, const std::vector<std::string>& parts) {
  for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " is not in: " << text;
}

}  // namespace sluice

// A token's bytes as something to print.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// Valid UTF-8, never empty: blanks, tabs and line ends become symbols, other control characters and bytes that are no
// UTF-8 become x0a.
std::string visible_text(std::string_view bytes);

}  // namespace sluice

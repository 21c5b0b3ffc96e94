// Where this checkout lies, for tests that read files of it.
#pragma once

#include <filesystem>

namespace sluice {

std::filesystem::path source_folder();

}  // namespace sluice

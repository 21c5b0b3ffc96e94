#include "base/source_folder.h"

namespace sluice {

std::filesystem::path source_folder() { return SLUICE_SOURCE_DIR; }

}  // namespace sluice

// Names for what is not finished yet: .NAME.sluice-MACHINE-BOOT-SPACE-PROCESS-START-NUMBER, in the folder where NAME
// will be.
//
// Each is made anew (O_EXCL, mkdir), so that nothing which is there already is opened, emptied or followed. A process
// that is killed leaves them behind; the name tells the machine (its name and /etc/machine-id), since when it runs, the
// space of process numbers (each container has its own), the process and its start, so that a later one can see that
// nobody writes there any more. Only such leftovers are ever removed: what has another name is not ours.
#pragma once

#include <filesystem>
#include <string>

#include "base/files/files.h"

namespace sluice {

struct FileAside {
  File file;  // its name in messages is the target's
  std::filesystem::path place;
};

// UserError or RunError as File gives them, with the name of what is to be made.
FileAside create_file_aside(const std::filesystem::path& target);
std::filesystem::path create_folder_aside(const std::filesystem::path& target);

// A free name of that kind, for something that is to be moved out of the way.
std::filesystem::path name_aside(const std::filesystem::path& target);

// A message in which the target's name stands for the one aside, which nobody has given and which is gone when it is
// read.
std::string named_as_target(std::string text, const std::filesystem::path& aside, const std::filesystem::path& target);

// Whether a name is of that kind, whoever made it.
bool is_name_aside(const std::string& name);

// Whether a name is of that kind and the process that made it is gone. Of other machines and containers that cannot be
// told, nor of an earlier start of this machine from within a container: false.
bool is_leftover(const std::string& name);

// Removes the leftovers in `folder`; with `name` only those of that target. What cannot be removed stays.
void remove_leftovers(const std::filesystem::path& folder, const std::string& name = "");

// Removes what has a name of that kind, whoever made it: for a folder in which nobody writes but the holder of a lock,
// which the caller is. So a container that was killed leaves nothing behind for good.
void remove_all_aside(const std::filesystem::path& folder);

}  // namespace sluice

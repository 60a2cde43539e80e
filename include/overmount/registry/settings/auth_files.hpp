#ifndef OVERMOUNT_REGISTRY_SETTINGS_AUTH_FILES_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_AUTH_FILES_HPP

#include <overmount/registry/settings/auth_file.hpp>

#include <string>
#include <string_view>
#include <vector>

// These functions block on the disk: call them on a worker. Relative paths start at the working directory of the process.
// *Errors* of all of them: errno values, with the path, for a file that exists and cannot be read or written; `invalid_settings`
// for one that is malformed.
namespace overmount::OVERMOUNT_ABI::registry {

/// `auth_file_paths` for the environment and the user of this process.
[[nodiscard]] std::vector<std::string> auth_file_paths_of_process(const std::string& explicit_file = {});

/// What the first of the files that has anything for the repository has for it; see `auth_file::find`. Missing files are passed
/// over, and, of several files, those in directories that this process may not enter: without `$XDG_RUNTIME_DIR`, the first place
/// may be below a directory of root.
[[nodiscard]] auth_lookup find_login(const std::vector<std::string>& paths, std::string_view domain,
                                     std::string_view repository_path);

/// Writes a login into the file, which has the mode 0600 afterwards, and creates it and its directories (mode 0700) if they are
/// missing; see `auth_file::with_login`. A symbolic link is followed.
///
/// The file is replaced as a whole, and is durable when the function returns. There is no lock, since no other tool has one: the
/// file is read right before it is replaced, and of two tools that write at the same moment the later one wins.
void write_login(const std::string& path, std::string_view key, std::string_view user, std::string_view password);

/// Removes the logins for `key` from the file, in the same way. False if there is none.
bool remove_login(const std::string& path, std::string_view key);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/auth_files.ipp>
#endif

#endif

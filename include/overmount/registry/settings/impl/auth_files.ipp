#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_AUTH_FILES_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_AUTH_FILES_IPP

#include <overmount/posix/fs.hpp>
#include <overmount/registry/settings/auth_files.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <span>
#include <system_error>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// nullopt if the file does not exist, or, for `one_of_several`, if it is not ours to know whether it does.
inline std::optional<std::string> read_auth_file(const std::string& path, bool one_of_several)
{
    const std::string place = overmount::detail::from_working_directory(path);
    try {
        return overmount::detail::read_file(AT_FDCWD, place, auth_file::max_bytes);
    } catch (const error& failure) {
        const bool hidden = one_of_several && failure.code() == boost::system::errc::permission_denied &&
                            ::faccessat(AT_FDCWD, place.c_str(), F_OK, AT_EACCESS) != 0;
        if (failure.code() == boost::system::errc::not_a_directory || hidden)
            return std::nullopt;
        throw;
    }
}

// The path that is left when all symbolic links of the last component are followed. It need not exist.
inline std::filesystem::path followed_auth_file(const std::string& path)
{
    std::filesystem::path out = overmount::detail::from_working_directory(path);
    for (int links = 0; links < 40; ++links) {
        std::error_code not_a_link;
        const std::filesystem::path target = std::filesystem::read_symlink(out, not_a_link);
        if (not_a_link)
            return out;
        out = out.parent_path() / target;
    }
    throw error::from_errno(ELOOP).operation("open").subject(path);
}

// The directories are durable when the function returns.
inline void make_auth_directories(const std::filesystem::path& directory)
{
    namespace posix = overmount::detail;
    std::filesystem::path made;
    for (const std::filesystem::path& part : directory) {
        made /= part;
        if (::mkdir(made.c_str(), 0700) == 0) {
            const unique_fd above(posix::checked(::open(made.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                                                 "open directory", made.native()));
            posix::sync_directory(above.get());
        } else if (errno != EEXIST) {
            posix::throw_errno("mkdir", made.native());
        }
    }
}

// Replaces the file by `text`.
inline void replace_auth_file(const std::filesystem::path& path, std::string_view text)
{
    namespace posix = overmount::detail;
    const unique_fd directory(posix::checked(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                                             "open directory", path.native()));
    posix::draft temporary(directory.get(), ".overmount-");
    const unique_fd file(posix::checked(::openat(directory.get(), temporary.name().c_str(),
                                                 O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600),
                                        "create", path.native()));
    posix::write_all(file.get(), std::as_bytes(std::span(text)));
    posix::checked(::fsync(file.get()), "fsync", path.native());
    posix::rename_over(directory.get(), temporary.name(), directory.get(), path.filename().native());
    temporary.moved();
    posix::sync_directory(directory.get());
}

} // namespace detail

OVERMOUNT_DECL std::vector<std::string> auth_file_paths_of_process(const std::string& explicit_file)
{
    return auth_file_paths(process_environment(), ::getuid(), explicit_file);
}

OVERMOUNT_DECL auth_lookup find_login(const std::vector<std::string>& paths, std::string_view domain,
                                      std::string_view repository_path)
{
    for (const std::string& path : paths)
        if (const auto text = detail::read_auth_file(path, paths.size() > 1))
            if (auth_lookup found = auth_file::parse(*text, path).find(domain, repository_path))
                return found;
    return {};
}

OVERMOUNT_DECL void write_login(const std::string& path, std::string_view key, std::string_view user, std::string_view password)
{
    const std::filesystem::path place = detail::followed_auth_file(path);
    detail::make_auth_directories(place.parent_path());
    const std::string old = detail::read_auth_file(place.native(), false).value_or("");
    detail::replace_auth_file(place, auth_file::parse(old, path).with_login(key, user, password));
}

OVERMOUNT_DECL bool remove_login(const std::string& path, std::string_view key)
{
    const std::filesystem::path place = detail::followed_auth_file(path);
    const auto old = detail::read_auth_file(place.native(), false);
    const auto text = old ? auth_file::parse(*old, path).without_login(key) : std::nullopt;
    if (text)
        detail::replace_auth_file(place, *text);
    return text.has_value();
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif

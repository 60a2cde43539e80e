#ifndef OVERMOUNT_REPOSITORY_RECORDS_STAGING_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_STAGING_HPP

#include <overmount/posix/fs.hpp>

#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// A directory of an operation's own below tmp/, locked as long as it lives. Its descriptor was opened before anything was
// written there: a syncfs by it hears of every error since.
class staging_directory
{
public:
    staging_directory(std::string name, unique_fd fd, file_lock lock)
        : name_(std::move(name)), fd_(std::move(fd)), lock_(std::move(lock))
    {
    }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    // All that the file system has, its error of write-back included.
    OVERMOUNT_LAZY void sync_file_system() const;

private:
    std::string name_;
    unique_fd fd_;
    file_lock lock_;
};

// `tmp/`: what is being made, and what is being removed.
class staging_area
{
public:
    explicit staging_area(int directory) noexcept : directory_(directory) {}

    [[nodiscard]] int fd() const noexcept { return directory_; }
    // The caller holds the repository's lock, shared: the sweep, which holds it exclusively, never sees one that its owner
    // has not locked.
    OVERMOUNT_LAZY [[nodiscard]] staging_directory make() const;
    // With all that is in it; blocks for as long as that takes.
    OVERMOUNT_LAZY void remove(staging_directory& mine) const;

    // What dead owners left, as far as that can be told: no lock is taken, and what is made at this moment may be among it.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> dead() const;
    // Moves aside what dead owners left; the caller holds the repository's lock exclusively.
    OVERMOUNT_LAZY void set_dead_aside() const;
    // What was set aside, and what operations left to be removed.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> trash() const;
    // Removes it. Needs no lock.
    OVERMOUNT_LAZY void remove_trash() const;

private:
    int directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/staging.ipp>
#endif

#endif

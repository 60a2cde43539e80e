#ifndef OVERMOUNT_REPOSITORY_RECORDS_STAGING_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_STAGING_HPP

#include <overmount/posix/fs.hpp>

#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// One operation's own directory below tmp/, locked for the lifetime of this object. Its descriptor is opened before anything is
// written there, so that a syncfs through it reports every write-back error since.
class staging_directory
{
public:
    staging_directory(std::string name, unique_fd fd, file_lock lock)
        : name_(std::move(name)), fd_(std::move(fd)), lock_(std::move(lock))
    {
    }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    // Syncs the whole file system; throws if a write-back has failed since the directory was opened.
    void sync_file_system() const;

private:
    std::string name_;
    unique_fd fd_;
    file_lock lock_;
};

// `tmp/`: files that are being created, and files that are being removed.
class staging_area
{
public:
    explicit staging_area(int directory) noexcept : directory_(directory) {}

    [[nodiscard]] int fd() const noexcept { return directory_; }
    // Creates a staging directory. The caller holds the repository's lock, shared: the sweep holds it exclusively, and so never sees
    // a directory that its owner has not locked yet.
    [[nodiscard]] staging_directory make() const;
    // Removes the directory and its content; blocks until that is done.
    void remove(staging_directory& mine) const;

    // The staging directories of dead owners. Takes no lock: a directory that is being created at this moment may be among them.
    [[nodiscard]] std::vector<std::string> dead() const;
    // Renames the files and directories of dead owners, so that they count as trash. The caller holds the repository's lock
    // exclusively.
    void set_dead_aside() const;
    // The entries that were set aside, and those that operations have left to be removed.
    [[nodiscard]] std::vector<std::string> trash() const;
    // Removes the trash. Needs no lock.
    void remove_trash() const;

private:
    int directory_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/staging.ipp>
#endif

#endif

#ifndef OVERMOUNT_POSIX_DRAFT_FILE_HPP
#define OVERMOUNT_POSIX_DRAFT_FILE_HPP

#include <overmount/core/durability.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <fcntl.h>

#include <memory>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// A file that is written under a temporary name in its final directory. The destructor removes it unless `place` gave it its final
// name.
class draft_file
{
public:
    explicit draft_file(std::shared_ptr<const unique_fd> directory)
        : directory_(std::move(directory)), name_(".overmount-" + random_id()),
          fd_(new_shared<unique_fd>(checked(::openat(directory_->get(), name_.c_str(),
                                                   O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                                                   by_umask_of_process(0666)),
                                          "create", name_)))
    {
    }
    draft_file(const draft_file&) = delete;
    draft_file& operator=(const draft_file&) = delete;
    ~draft_file() { drop_name(); }

    [[nodiscard]] const std::shared_ptr<const unique_fd>& fd() const noexcept { return fd_; }
    void write(std::span<const std::byte> bytes) const { write_all(fd_->get(), bytes); }
    void write(const std::string& text) const { write(std::as_bytes(std::span(text))); }

    // Unlinks the temporary name. The kernel frees the file when the last descriptor is closed.
    void drop_name() noexcept
    {
        if (!name_.empty())
            ::unlinkat(directory_->get(), name_.c_str(), 0);
        name_.clear();
    }
    // Renames the file to `name` and replaces an existing file of that name. With `sync`, the file and its name are durable afterwards.
    void place(const std::string& name, durability sync)
    {
        if (sync != durability::none)
            checked(::fsync(fd_->get()), "fsync", name);
        rename_over(directory_->get(), name_, directory_->get(), name);
        name_.clear();
        if (sync != durability::none)
            sync_directory(directory_->get());
    }

private:
    std::shared_ptr<const unique_fd> directory_;
    std::string name_;
    std::shared_ptr<const unique_fd> fd_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

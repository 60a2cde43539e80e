#ifndef OVERMOUNT_REPOSITORY_RECORDS_LEASES_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_LEASES_HPP

#include <overmount/core/digest.hpp>
#include <overmount/posix/fs.hpp>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// What an operation relies on, or is about to show: the collection keeps it.
class lease_content
{
public:
    lease_content& diff(const diff_id& id) { return add("diff", id.value()); }
    lease_content& layer(const chain_id& id) { return add("layer", id.value()); }
    lease_content& image(const digest& id) { return add("image", id); }
    lease_content& manifest(const digest& id) { return add("manifest", id); }
    lease_content& blob(const digest& id) { return add("blob", id); }

    [[nodiscard]] const std::string& text() const noexcept { return text_; }

private:
    lease_content& add(const char* kind, const digest& id)
    {
        text_.append(kind).append(" ").append(id.string()).append("\n");
        return *this;
    }
    std::string text_;
};

// A lease that lasts as long as it lives, or its process. See `lease_table`.
class held_lease
{
public:
    held_lease(file_lock lock, int directory, std::string name)
        : lock_(std::move(lock)), directory_(directory), name_(std::move(name))
    {
    }
    held_lease(held_lease&& other) noexcept
        : lock_(std::move(other.lock_)), directory_(std::exchange(other.directory_, -1)), name_(std::move(other.name_))
    {
    }
    held_lease& operator=(held_lease&&) = delete;
    ~held_lease();
    OVERMOUNT_LAZY void add(const lease_content& more) const;

private:
    file_lock lock_;
    int directory_;
    std::string name_;
};

// `leases/<id>`: a line for each thing, locked by its owner.
class lease_table
{
public:
    explicit lease_table(int directory) noexcept : directory_(directory) {}

    // The caller holds the repository's lock, shared, since it looked the things up.
    OVERMOUNT_LAZY [[nodiscard]] held_lease take(const lease_content& content) const;
    OVERMOUNT_LAZY void sweep() const { remove_unlocked(directory_); }

private:
    int directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/leases.ipp>
#endif

#endif

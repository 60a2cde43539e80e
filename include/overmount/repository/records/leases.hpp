#ifndef OVERMOUNT_REPOSITORY_RECORDS_LEASES_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_LEASES_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/durability.hpp>
#include <overmount/posix/fs.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

enum class leased_kind : unsigned char
{
    diff,
    layer,
    image,
    manifest,
    blob,
};
struct lease_line
{
    leased_kind kind;
    digest id;

    friend bool operator==(const lease_line&, const lease_line&) = default;
};

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

// The lines of a content; a last one without an end is not written yet, and is left out. Throws `corrupt_repository`.
OVERMOUNT_LAZY [[nodiscard]] std::vector<lease_line> parse_lease(std::string_view text);

// A moment by both clocks: the one that people set, and the one that counts from the boot on.
struct two_clocks
{
    std::string boot;
    std::int64_t wall = 0, since_boot = 0; // seconds

    OVERMOUNT_LAZY [[nodiscard]] static two_clocks now();
};

// A lease that outlives its process: it has a name and an end.
struct timed_lease_record
{
    std::string name;
    two_clocks end; // `boot` is the one in which it was written
    lease_content content;

    // In the boot in which it was written, by the clock that nobody sets; in another by the wall clock.
    [[nodiscard]] std::chrono::seconds left(const two_clocks& now) const
    {
        const bool same = now.boot == end.boot && !now.boot.empty();
        return std::chrono::seconds(same ? end.since_boot - now.since_boot : end.wall - now.wall);
    }
    [[nodiscard]] bool is_over(const two_clocks& now) const { return left(now).count() <= 0; }
    OVERMOUNT_LAZY [[nodiscard]] std::string text() const;
    OVERMOUNT_LAZY [[nodiscard]] static timed_lease_record parse(std::string_view text);
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

// `leases/<id>`: a line for each thing, locked by its owner; and `leases/timed-<sha256 of the name>.json`.
class lease_table
{
public:
    explicit lease_table(int directory) noexcept : directory_(directory) {}

    // The caller holds the repository's lock, shared, since it looked the things up.
    OVERMOUNT_LAZY [[nodiscard]] held_lease take(const lease_content& content) const;
    // The same; one of that name is replaced.
    OVERMOUNT_LAZY void put(int staging, const timed_lease_record& record, durability sync) const;
    // False where there is none of that name.
    OVERMOUNT_LAZY bool end(int staging, std::string_view name, durability sync) const;

    // Of all files, by their names.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<std::string> files() const;
    OVERMOUNT_LAZY [[nodiscard]] static bool is_timed(std::string_view file);
    // Nothing where it has gone, or is no timed one.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<timed_lease_record> timed(const std::string& file) const;
    // What the lease in a file keeps: nothing where its owner is dead, or its time over. The lock is asked for, and not taken.
    OVERMOUNT_LAZY [[nodiscard]] std::vector<lease_line> live(const std::string& file) const;
    // Which lease a file is, as far as its content goes: it changes whenever something is added. 0 where it has gone.
    OVERMOUNT_LAZY [[nodiscard]] std::uint64_t version(const std::string& file) const;

    // How many are: their owner is dead, or their time is over. No lock is taken.
    OVERMOUNT_LAZY [[nodiscard]] std::uint64_t over() const;
    // Removes the files that dead owners left, and those whose time is over; says how many. The caller holds the repository's
    // lock exclusively.
    OVERMOUNT_LAZY std::uint64_t sweep() const;

private:
    int directory_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/leases.ipp>
#endif

#endif

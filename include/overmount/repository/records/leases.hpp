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

namespace overmount::OVERMOUNT_ABI::detail {

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

// What an operation relies on, or is about to publish. The collection keeps all of it.
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

// Parses the text of a `lease_content`. Ignores a last line without a newline: it is still being written.
// Throws `corrupt_repository`.
[[nodiscard]] std::vector<lease_line> parse_lease(std::string_view text);

// A point in time by two clocks: the wall clock, which can be set, and the time since boot, which cannot.
struct two_clocks
{
    std::string boot;
    std::int64_t wall = 0, since_boot = 0; // seconds

    [[nodiscard]] static two_clocks now();
};

// A lease that outlives its process: it has a name and an expiry time.
struct timed_lease_record
{
    std::string name;
    two_clocks end; // the expiry; `boot` is the boot in which the record was written
    lease_content content;

    // The remaining time: by the time since boot if the record was written in this boot, else by the wall clock.
    [[nodiscard]] std::chrono::seconds left(const two_clocks& now) const
    {
        const bool same = now.boot == end.boot && !now.boot.empty();
        return std::chrono::seconds(same ? end.since_boot - now.since_boot : end.wall - now.wall);
    }
    [[nodiscard]] bool is_over(const two_clocks& now) const { return left(now).count() <= 0; }
    [[nodiscard]] std::string text() const;
    [[nodiscard]] static timed_lease_record parse(std::string_view text);
};

// A lease that is held until this object is destroyed or its process dies. See `lease_table`.
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
    void add(const lease_content& more) const;

private:
    file_lock lock_;
    int directory_;
    std::string name_;
};

// The leases of a repository. A held lease is `leases/<id>`: one line for each leased object, and its owner holds the file's lock.
// A timed lease is `leases/timed-<sha256 of the name>.json`.
class lease_table
{
public:
    explicit lease_table(int directory) noexcept : directory_(directory) {}

    // Creates a held lease. The caller has held the repository's lock, shared, since it looked up what it leases.
    [[nodiscard]] held_lease take(const lease_content& content) const;
    // Writes a timed lease, in place of an earlier one of that name. The caller holds the lock as for `take`.
    void put(int staging, const timed_lease_record& record, durability sync) const;
    // Removes a timed lease; false if none has that name.
    bool end(int staging, std::string_view name, durability sync) const;

    // The names of all lease files.
    [[nodiscard]] std::vector<std::string> files() const;
    [[nodiscard]] static bool is_timed(std::string_view file);
    // nullopt if the file no longer exists or is not a timed lease.
    [[nodiscard]] std::optional<timed_lease_record> timed(const std::string& file) const;
    // What the lease in a file keeps: nothing if its owner is dead or it has expired. Only tests the file's lock, without taking it.
    [[nodiscard]] std::vector<lease_line> live(const std::string& file) const;
    // A number that changes whenever the content of the lease file changes; 0 if the file no longer exists.
    [[nodiscard]] std::uint64_t version(const std::string& file) const;

    // Counts the leases whose owner is dead or that have expired. Takes no lock.
    [[nodiscard]] std::uint64_t over() const;
    // Removes the leases of dead owners and the expired ones, and returns their number. The caller holds the repository's lock
    // exclusively.
    std::uint64_t sweep() const;

private:
    int directory_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/records/impl/leases.ipp>
#endif

#endif

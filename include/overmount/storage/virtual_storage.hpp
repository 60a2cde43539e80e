#ifndef OVERMOUNT_STORAGE_VIRTUAL_STORAGE_HPP
#define OVERMOUNT_STORAGE_VIRTUAL_STORAGE_HPP

#include <overmount/posix/file_range.hpp>
#include <overmount/storage/diff_directory.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// Keeps each diff as its tar, byte for byte, and never unpacks it: for caches and mirrors, for conversion, and to
/// list and read files. Its diffs cannot be mounted.
///
/// *On disk*: `diffs/<algorithm>/<hex>/layer.tar`, `diff.json`, and `index`, a list of the tar's entries that is only a
/// cache: if it is missing or damaged, the tar itself is read. A tar is accepted if an unpacking storage would accept each of
/// its entries by itself; conflicts between entries are found only when it is unpacked. *Concurrency*: see
/// `storage_policy`; writers are independent of each other.
class virtual_storage
{
public:
    class writer;
    class reader;
    class entry_reader;

    explicit virtual_storage(storage_place place) : diffs_(place) {}

    [[nodiscard]] static constexpr std::string_view form() noexcept { return "tar"; }

    [[nodiscard]] writer create(const write_context& context);
    /// False for a diff of an earlier boot that was never synced, because a power cut may have emptied its files, and for a diff
    /// that is marked as damaged.
    [[nodiscard]] bool contains(const diff_id& id) const { return diffs_.contains(id); }
    [[nodiscard]] diff_record record(const diff_id& id) const { return diffs_.record(id); }
    void erase(const diff_id& id) { diffs_.erase(id); }
    bool set_aside(const diff_id& id, int into, const std::string& name) { return diffs_.set_aside(id, into, name); }
    void make_durable(const diff_id& id, int staging, const std::function<void()>& poll) { diffs_.make_durable(id, staging, poll); }
    [[nodiscard]] std::uint64_t identity(const diff_id& id) const { return diffs_.identity(id); }
    bool mark_durable(const diff_id& id, std::uint64_t identity, int staging) const { return diffs_.mark_durable(id, identity, staging); }
    [[nodiscard]] bool is_damaged(const diff_id& id) const { return diffs_.is_damaged(id); }
    [[nodiscard]] diff_version version(const diff_id& id) const { return diffs_.version(id); }
    [[nodiscard]] bool is_current(const diff_id& id, const diff_version& one) const { return diffs_.is_current(id, one); }
    void mark_damaged(const diff_version& one, int staging) const { diffs_.mark_damaged(one, staging); }
    void unmark_damaged(const diff_version& one) const { diffs_.unmark_damaged(one); }
    [[nodiscard]] reader pack(const diff_id& id) const;
    [[nodiscard]] entry_reader entries(const diff_id& id) const;

private:
    detail::diff_directory diffs_;
};

/// Stores one diff. See `diff_writer`.
class virtual_storage::writer
{
public:
    writer(writer&&) noexcept;
    writer& operator=(writer&&) noexcept;
    ~writer();

    void write(std::span<const std::byte> bytes);
    [[nodiscard]] diff_record finish();
    void rewrite(const diff_record& record);
    bool publish(const diff_id& id);
    void replace(const diff_id& id);

private:
    friend class virtual_storage;
    struct state;
    explicit writer(std::unique_ptr<state> implementation) noexcept;
    std::unique_ptr<state> state_;
};

/// Reads a tar, from any offset. See `diff_reader`.
class virtual_storage::reader
{
public:
    [[nodiscard]] std::size_t read(std::span<std::byte> into)
    {
        const std::size_t count = bytes_.read(position_, into);
        position_ += count;
        return count;
    }
    void seek(std::uint64_t offset) noexcept { position_ = offset; }

private:
    friend class virtual_storage;
    explicit reader(file_range bytes) : bytes_(std::move(bytes)) {}
    file_range bytes_;
    std::uint64_t position_ = 0;
};

/// Lists the entries: from the index if it is intact, else from the tar.
class virtual_storage::entry_reader
{
public:
    entry_reader(entry_reader&&) noexcept;
    entry_reader& operator=(entry_reader&&) noexcept;
    ~entry_reader();

    [[nodiscard]] bool next(tar::located_entry& into);

private:
    friend class virtual_storage;
    struct state;
    explicit entry_reader(std::unique_ptr<state> implementation) noexcept;
    std::unique_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/storage/impl/virtual_storage.ipp>
#endif

#endif

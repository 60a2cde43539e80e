#ifndef OVERMOUNT_ASSET_HPP
#define OVERMOUNT_ASSET_HPP

#include <overmount/detail/hasher.hpp>
#include <overmount/detail/step.hpp>
#include <overmount/mount/no_mount.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/tar/entry_walk.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

/// Bytes that are read on a repository's pool. Copies share the place at which they are.
class asset_stream
{
public:
    /// Gives the bytes; only called on workers.
    class source
    {
    public:
        virtual ~source() = default;
        /// At least one byte; 0 at the end.
        virtual std::size_t read(std::span<std::byte> into) = 0;
    };

    asset_stream(std::shared_ptr<source> from, worker_pool pool, std::uint64_t size)
        : source_(std::move(from)), pool_(std::move(pool)), size_(size)
    {
    }

    /// How many bytes there are in all.
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    /// \param into is the caller's until the operation completes; one read at a time
    ///
    /// *Returns*: the number of bytes read, at least one; 0 at the end. *Errors*: those of the storage.
    /// *Cancellation*: any; bytes may then be lost.
    [[nodiscard]] asio::awaitable<std::size_t> read_some(std::span<std::byte> into) const
    {
        auto work = [from = source_, into](const detail::stop_flag&) { return from->read(into); };
        return detail::run_on(pool_, std::move(work));
    }

private:
    std::shared_ptr<source> source_;
    worker_pool pool_;
    std::uint64_t size_;
};

namespace detail {

// A tar, from its beginning.
template <packable_storage Storage>
class tar_source final : public asset_stream::source
{
public:
    tar_source(std::shared_ptr<repository_state<Storage>> owner, const diff_id& id)
        : owner_(std::move(owner)), reader_(owner_->storage.pack(id))
    {
    }
    std::size_t read(std::span<std::byte> into) override { return reader_.read(into); }

private:
    std::shared_ptr<repository_state<Storage>> owner_;
    typename Storage::reader reader_;
};

// One file of a tar, with zeros in its holes. The walk stands at its entry.
template <packable_storage Storage>
class member_source final : public asset_stream::source
{
public:
    using walk = tar::entry_walk<typename Storage::reader>;

    member_source(std::shared_ptr<repository_state<Storage>> owner, walk at)
        : owner_(std::move(owner)), walk_(std::move(at)), size_(walk_.entry().size)
    {
    }
    std::size_t read(std::span<std::byte> into) override
    {
        if (rest_.empty() && !over_) {
            const auto piece = walk_.data();
            rest_ = piece.bytes;
            over_ = rest_.empty();
            begin_ = over_ ? size_ : piece.offset;
        }
        const bool hole = position_ < begin_;
        const std::uint64_t most = hole ? begin_ - position_ : rest_.size();
        const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), most));
        if (hole) {
            std::ranges::fill(into.first(count), std::byte{0});
        } else {
            std::ranges::copy(rest_.first(count), into.begin());
            rest_ = rest_.subspan(count);
            begin_ += count;
        }
        position_ += count;
        return count;
    }

private:
    std::shared_ptr<repository_state<Storage>> owner_;
    walk walk_;
    std::uint64_t size_, position_ = 0;
    std::uint64_t begin_ = 0;         // of the next data
    std::span<const std::byte> rest_; // of them
    bool over_ = false;               // no more of them
};

// The same as the input of a decode step.
class asset_input
{
public:
    explicit asset_input(std::shared_ptr<asset_stream::source> from) : from_(std::move(from)) {}
    void wakes(const std::weak_ptr<step>&) noexcept {} // it never lacks anything
    [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) { return from_->read(into); }

private:
    std::shared_ptr<asset_stream::source> from_;
};

template <packable_storage Storage>
[[nodiscard]] auto entries_of(const Storage& storage, const diff_id& id)
{
    if constexpr (indexed_storage<Storage>)
        return storage.entries(id);
    else
        return tar::entry_walk<typename Storage::reader>(storage.pack(id), tar::kept_limits());
}

// Whether the entry is one that stands for a name of its own.
[[nodiscard]] inline bool is_ordinary(std::string_view path) noexcept
{
    for (; !path.empty(); path = tar::parent_of(path))
        if (tar::whiteout::of(tar::name_of(path)).kind != tar::whiteout_kind::none)
            return false;
    return true;
}

// The entry that has the content of the regular file `path`: the last one of that name, or what a hard link in its
// place meant when it was made.
template <packable_storage Storage>
[[nodiscard]] tar::located_entry find_file(const Storage& storage, const diff_id& id, std::string_view path,
                                           const stop_flag& stop)
{
    const limits bounds = tar::kept_limits();
    constexpr int most_links = 40; // each costs a pass
    std::string wanted = tar::normalise(path, bounds);
    std::uint64_t before = ~std::uint64_t{0};
    for (int links = 0; links < most_links; ++links) {
        std::optional<tar::located_entry> found;
        auto entries = entries_of(storage, id);
        for (tar::located_entry one; entries.next(one) && one.offset < before;) {
            stop.throw_if_stopped();
            const std::string name = tar::normalise(one.entry.path, bounds);
            const bool link = one.entry.type == tar::entry_type::hard_link;
            if (name == wanted && is_ordinary(name)) {
                if (!link || tar::normalise(one.entry.link_target, bounds) != wanted)
                    found = one; // a link to itself is none
            } else if (found && one.entry.type != tar::entry_type::directory && is_ordinary(name) &&
                       wanted.starts_with(name + "/")) {
                found.reset(); // something else took the place of a directory above
            }
        }
        if (!found)
            throw error(links == 0 ? errc::entry_not_found : errc::missing_hard_link_target)
                .at(stage::storage)
                .layer(id.string())
                .entry(path)
                .subject(links == 0 ? std::string() : wanted);
        if (found->entry.type == tar::entry_type::regular)
            return std::move(*found);
        if (found->entry.type != tar::entry_type::hard_link)
            throw error(errc::not_a_regular_file).at(stage::storage).layer(id.string()).entry(path);
        wanted = tar::normalise(found->entry.link_target, bounds);
        before = found->offset;
    }
    throw error(errc::not_a_regular_file)
        .at(stage::storage)
        .layer(id.string())
        .entry(path)
        .detail("it is a hard link to too many hard links");
}

template <packable_storage Storage>
[[nodiscard]] std::shared_ptr<asset_stream::source>
open_file(std::shared_ptr<repository_state<Storage>> owner, const diff_id& id, const tar::located_entry& file,
          const stop_flag& stop)
{
    auto reader = owner->storage.pack(id);
    std::uint64_t begin = 0;
    if constexpr (indexed_storage<Storage>) {
        begin = file.offset;
        reader.seek(begin);
    }
    tar::entry_walk<typename Storage::reader> walk(std::move(reader), tar::kept_limits());
    while (walk.next()) {
        stop.throw_if_stopped();
        if (begin + walk.offset() < file.offset)
            continue;
        if (walk.entry().path != file.entry.path || walk.entry().size != file.entry.size)
            break;
        return std::make_shared<member_source<Storage>>(std::move(owner), std::move(walk));
    }
    throw error(errc::invalid_asset).at(stage::storage).layer(id.string()).entry(file.entry.path);
}

} // namespace detail

/// A handle on one diff that a repository keeps: cheap to copy, pins nothing. Its layer is read as a tar, whatever
/// the storage makes of it; nothing of it is unpacked.
///
/// *Errors* of all operations: `layer_not_found` when the diff was erased; those of a tar when what is kept of it is
/// damaged; errno values. *Concurrency*: operations may run at the same time; one object is not for two threads at
/// once.
template <packable_storage Storage>
class basic_asset
{
    using state = detail::repository_state<Storage>;

public:
    [[nodiscard]] const diff_id& id() const noexcept { return id_; }
    /// Of the tar, in bytes.
    [[nodiscard]] std::uint64_t size() const { return state_->storage.record(id_).bytes; }

    /// Calls `visitor(const tar::entry&)` for each entry of the tar, in its order: whiteouts and what stands there
    /// twice as well, paths as they are there. A sparse file may come without its segments.
    ///
    /// \param visitor is called on a worker, once at a time; what it throws ends the operation
    /// *Cancellation*: any.
    template <class Visitor>
    [[nodiscard]] asio::awaitable<void> list(Visitor visitor) const
    {
        auto work = [owner = state_, id = id_, visitor](const detail::stop_flag& stop) mutable {
            auto entries = detail::entries_of(owner->storage, id);
            for (tar::located_entry one; entries.next(one);) {
                stop.throw_if_stopped();
                visitor(std::as_const(one.entry));
            }
        };
        return detail::run_on(state_->pool, std::move(work));
    }

    /// The bytes of the regular file that the layer has at `path`: of the last entry of that name, of what a hard
    /// link means, with zeros in holes.
    ///
    /// \param path is one of the tar's, with a slash in front or not; links on the way are not followed
    /// *Errors*: `entry_not_found`, also for a whiteout; `not_a_regular_file`; `missing_hard_link_target`.
    /// *Cancellation*: any.
    [[nodiscard]] asio::awaitable<asset_stream> open(std::string path) const
    {
        return open_path(state_, id_, std::move(path));
    }

    /// The tar, byte for byte.
    [[nodiscard]] asio::awaitable<asset_stream> pack() const { return pack_all(state_, id_); }

    /// Reads the tar and gives the digest that it has; `id()` where nothing is damaged.
    ///
    /// *Cancellation*: any.
    [[nodiscard]] asio::awaitable<digest> load_digest() const
    {
        auto work = [owner = state_, id = id_](const detail::stop_flag& stop) {
            auto reader = owner->storage.pack(id);
            detail::hasher sum(id.value().algorithm());
            constexpr std::size_t size = 256 << 10;
            const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
            while (const std::size_t count = reader.read({buffer.get(), size})) {
                stop.throw_if_stopped();
                sum.update({buffer.get(), count});
            }
            return sum.finish();
        };
        return detail::run_on(state_->pool, std::move(work));
    }

    /// Reads the tar and compares.
    ///
    /// *Errors*: `invalid_asset` where its digest is not `id()`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> verify() const { return verify_digest(*this); }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;

    basic_asset(std::shared_ptr<state> owner, const diff_id& id) : state_(std::move(owner)), id_(id) {}

    static asio::awaitable<asset_stream> open_path(std::shared_ptr<state> owner, diff_id id, std::string path)
    {
        auto work = [owner, id, path](const detail::stop_flag& stop) {
            const tar::located_entry file = detail::find_file(owner->storage, id, path, stop);
            return asset_stream(detail::open_file(owner, id, file, stop), owner->pool, file.entry.size);
        };
        co_return co_await detail::run_on(owner->pool, std::move(work));
    }

    static asio::awaitable<asset_stream> pack_all(std::shared_ptr<state> owner, diff_id id)
    {
        auto work = [owner, id](const detail::stop_flag&) {
            return asset_stream(std::make_shared<detail::tar_source<Storage>>(owner, id), owner->pool,
                                owner->storage.record(id).bytes);
        };
        co_return co_await detail::run_on(owner->pool, std::move(work));
    }

    static asio::awaitable<void> verify_digest(basic_asset self)
    {
        const digest found = co_await self.load_digest();
        if (found != self.id_.value())
            throw error(errc::invalid_asset)
                .at(stage::storage)
                .layer(self.id_.string())
                .detail("its bytes have " + found.string());
    }

    std::shared_ptr<state> state_;
    diff_id id_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif

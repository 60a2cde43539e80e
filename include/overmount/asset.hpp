#ifndef OVERMOUNT_ASSET_HPP
#define OVERMOUNT_ASSET_HPP

#include <overmount/io/asset_stream.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/runtime/asio.hpp>
#include <overmount/tar/entry.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

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
    [[nodiscard]] std::uint64_t size() const;

    /// Calls `visitor(const tar::entry&)` for each entry of the tar, in its order: whiteouts and what stands there
    /// twice as well, paths as they are there. A sparse file may come without its segments.
    ///
    /// \param visitor is called on a worker, once at a time; what it throws ends the operation
    /// *Cancellation*: any.
    template <class Visitor>
    [[nodiscard]] asio::awaitable<void> list(Visitor visitor) const
    {
        return list_all(state_, id_, std::move(visitor));
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
    [[nodiscard]] asio::awaitable<digest> load_digest() const { return digest_of(state_, id_); }

    /// Reads the tar and compares.
    ///
    /// *Errors*: `invalid_asset` where its digest is not `id()`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> verify() const { return verify_digest(*this); }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;
    template <storage_policy, optional_mount_policy>
    friend class basic_layer;

    basic_asset(std::shared_ptr<state> owner, const diff_id& id) : state_(std::move(owner)), id_(id) {}

    using listener = std::function<void(const tar::entry&)>;

    // Gives the tar from its beginning; to call on a worker.
    [[nodiscard]] std::function<std::shared_ptr<asset_stream::source>()> opener() const;

    static asio::awaitable<void> list_all(std::shared_ptr<state> owner, diff_id id, listener hears);
    static asio::awaitable<asset_stream> open_path(std::shared_ptr<state> owner, diff_id id, std::string path);
    static asio::awaitable<asset_stream> pack_all(std::shared_ptr<state> owner, diff_id id);
    static asio::awaitable<digest> digest_of(std::shared_ptr<state> owner, diff_id id);
    static asio::awaitable<void> verify_digest(basic_asset self);

    std::shared_ptr<state> state_;
    diff_id id_;
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/asset.ipp>
#endif

#endif

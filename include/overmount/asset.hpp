#ifndef OVERMOUNT_ASSET_HPP
#define OVERMOUNT_ASSET_HPP

#include <overmount/core/handle.hpp>
#include <overmount/io/asset_stream.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/runtime/asio.hpp>
#include <overmount/runtime/operation.hpp>
#include <overmount/tar/entry.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// A handle on the stored content of one diff. It is cheap to copy and does not keep the diff from being collected. The content is
/// read as a tar, in whatever form the storage keeps it; nothing is unpacked. Two handles are equal when they name the same diff.
/// Every member of an empty handle throws `invalid_handle` at the call.
///
/// *Errors* of all operations: `layer_not_found` if the diff was erased; tar errors if the stored content is damaged; errno values.
/// *Concurrency*: operations may run at the same time; one object must not be used by two threads at once.
template <packable_storage Storage>
class basic_asset
{
    using state = detail::repository_state<Storage>;

public:
    /// An empty handle; a handle that was moved from is empty as well.
    basic_asset() = default;
    /// Whether the handle names a diff.
    [[nodiscard]] explicit operator bool() const noexcept { return state_ != nullptr; }

    [[nodiscard]] const diff_id& id() const
    {
        static_cast<void>(detail::valid(state_));
        return *id_;
    }
    /// The size of the tar, in bytes.
    [[nodiscard]] std::uint64_t size() const;

    /// Calls `visitor(const tar::entry&)` for each entry of the tar, in the tar's order. This includes whiteouts and repeated
    /// entries; paths are as the tar has them. A sparse file may come without its segments.
    ///
    /// \param visitor is called on a worker thread, one call at a time; an exception that it throws ends the operation
    /// *Cancellation*: any.
    template <class Visitor>
    [[nodiscard]] asio::awaitable<void> list(Visitor visitor) const
    {
        return detail::operation(list_all(state_, id(), std::move(visitor)));
    }

    /// Reads the regular file that the layer has at `path`. The last entry with that path counts; a hard link gives the bytes of
    /// its target; holes are read as zeros.
    ///
    /// \param path a path in the tar, with or without a leading slash; links on the way are not followed
    /// *Errors*: `entry_not_found`, also for a whiteout; `not_a_regular_file`; `missing_hard_link_target`.
    /// *Cancellation*: any.
    [[nodiscard]] asio::awaitable<asset_stream> open(std::string path) const
    {
        return detail::operation(open_path(state_, id(), std::move(path)));
    }

    /// Reads the whole tar, byte for byte.
    [[nodiscard]] asio::awaitable<asset_stream> pack() const { return detail::operation(pack_all(state_, id())); }

    /// Reads the tar and compares its digest with `id()`.
    ///
    /// *Errors*: `invalid_asset` if they differ; its text has the digest that was computed. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> verify() const { return detail::operation(verify_digest(state_, id())); }

    friend bool operator==(const basic_asset& a, const basic_asset& b) noexcept
    {
        return a && b ? *a.id_ == *b.id_ : !a && !b;
    }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_repository;
    template <storage_policy, optional_mount_policy>
    friend class basic_layer;

    basic_asset(std::shared_ptr<state> owner, const diff_id& id) : state_(std::move(owner)), id_(id) {}

    using entry_visitor = std::function<void(const tar::entry&)>;

    // Returns a function that opens the tar at its start; call it on a worker thread.
    [[nodiscard]] std::function<std::shared_ptr<asset_stream::source>()> opener() const;

    static asio::awaitable<void> list_all(std::shared_ptr<state> owner, diff_id id, entry_visitor visitor);
    static asio::awaitable<asset_stream> open_path(std::shared_ptr<state> owner, diff_id id, std::string path);
    static asio::awaitable<asset_stream> pack_all(std::shared_ptr<state> owner, diff_id id);
    static asio::awaitable<void> verify_digest(std::shared_ptr<state> owner, diff_id id);

    std::shared_ptr<state> state_;
    std::optional<diff_id> id_; // optional, since a diff_id has no empty state
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/asset.ipp>
#endif

#endif

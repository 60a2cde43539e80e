#ifndef OVERMOUNT_REPOSITORY_SPACE_HPP
#define OVERMOUNT_REPOSITORY_SPACE_HPP

#include <overmount/collect.hpp>
#include <overmount/lease.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/runtime/asio.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// What a repository keeps for whom, and how its space comes back. A part of `basic_repository`.
///
/// Images and tags stay until they are removed. Layers, diffs, manifests and blobs stay as long as an image, a tag, a mount or a
/// lease needs them, and then until they are collected. See docs/design/collection.md.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_space
{
    using state = detail::repository_state<Storage>;

public:
    /// Removes what nothing needs, whatever other operations and processes do meanwhile: none of them is stopped, and what they
    /// rely on stays. So goes what dead processes left, and leases that are over.
    ///
    /// *Returns*: what went, and what could not. *Errors*: `corrupt_repository` where the record of an image, a tag, an import, a
    /// mount or a lease cannot be read: nothing it may need is removed; `unsupported_repository` where the repository can only be
    /// read, unless it is a dry run; `repository_busy`; errno values. *Cancellation*: any; what was taken by then is removed before
    /// the operation completes, and the repository is whole.
    [[nodiscard]] asio::awaitable<collect_report> collect(collect_options options = collect_options()) const
    {
        return collect_all(state_, std::move(options));
    }

    /// Removes one layer; its diff, and the layers below, stay until they are collected.
    ///
    /// *Errors*: `layer_in_use` where an image, another layer, a mount or a lease needs it; `layer_not_found`; those of `collect`.
    /// *Cancellation*: any, until it has begun to remove.
    [[nodiscard]] asio::awaitable<void> remove_layer(chain_id chain) const { return remove_one_layer(state_, std::move(chain)); }

    /// Removes the images without a tag, a mount and a lease, as they are at that moment.
    ///
    /// *Returns*: their IDs. *Errors*: those of `collect`. *Cancellation*: any; some may have been removed.
    [[nodiscard]] asio::awaitable<std::vector<digest>> remove_unused_images() const { return remove_unused(state_); }

    /// Measures what the repository keeps. Takes no lock: what changes meanwhile is counted or not.
    ///
    /// *Errors*: as with a dry run of `collect`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<usage_report> usage() const { return measure(state_); }

    /// Keeps images and layers from being collected as long as the object lives, and its process.
    ///
    /// *Errors*: `image_not_found`, `layer_not_found`, `repository_busy`. *Cancellation*: any; nothing is kept then.
    [[nodiscard]] asio::awaitable<overmount::lease> lease(lease_request what) const
    {
        return lease_now(state_, std::move(what));
    }
    /// Keeps them for a time, whatever becomes of the process. One of the same name is replaced, and so renewed. In the boot in
    /// which it was made, the time is that since the boot; in a later one the wall clock counts: one that was set forward ends
    /// the lease early, one that was set back makes it last.
    ///
    /// \param name any text, of who or what needs them
    /// *Errors*: those of `lease`. *Cancellation*: any; a lease of that name is then the old one or the new one.
    [[nodiscard]] asio::awaitable<void> lease_for(std::string name, std::chrono::seconds time, lease_request what) const
    {
        return lease_by_name(state_, std::move(name), time, std::move(what));
    }
    /// Ends a lease before its time. *Errors*: `lease_not_found`, `repository_busy`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> end_lease(std::string name) const { return end_by_name(state_, std::move(name)); }
    /// The leases that have a name, by that. *Errors*: `corrupt_repository`.
    [[nodiscard]] std::vector<timed_lease> leases() const;

protected:
    explicit basic_space(std::shared_ptr<state> opened) : state_(std::move(opened)) {}

    static asio::awaitable<void> sweep(std::shared_ptr<state> owner);

    std::shared_ptr<state> state_;

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_layer;

    static asio::awaitable<collect_report> collect_all(std::shared_ptr<state> owner, collect_options options);
    static asio::awaitable<void> remove_one_layer(std::shared_ptr<state> owner, chain_id chain);
    static asio::awaitable<std::vector<digest>> remove_unused(std::shared_ptr<state> owner);
    static asio::awaitable<usage_report> measure(std::shared_ptr<state> owner);
    static asio::awaitable<overmount::lease> lease_now(std::shared_ptr<state> owner, lease_request what);
    static asio::awaitable<void> lease_by_name(std::shared_ptr<state> owner, std::string name, std::chrono::seconds time,
                                               lease_request what);
    static asio::awaitable<void> end_by_name(std::shared_ptr<state> owner, std::string name);
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/space.ipp>
#endif

#endif

#ifndef OVERMOUNT_REPOSITORY_SPACE_HPP
#define OVERMOUNT_REPOSITORY_SPACE_HPP

#include <overmount/collect.hpp>
#include <overmount/core/handle.hpp>
#include <overmount/lease.hpp>
#include <overmount/repository/fwd.hpp>
#include <overmount/runtime/asio.hpp>
#include <overmount/runtime/operation.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// The part of `basic_repository` that leases images and layers, and removes what nothing needs.
///
/// Images and tags stay until they are removed. Layers, diffs, manifests and blobs stay as long as an image, a tag, a mount or a
/// lease needs them, and after that until they are collected. See docs/design/collection.md.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_space
{
    using state = detail::repository_state<Storage>;

public:
    /// Whether the handle has an opened repository, and is not empty.
    [[nodiscard]] explicit operator bool() const noexcept { return state_ != nullptr; }

    /// Removes what nothing needs, also leftovers of dead processes and expired leases. Other operations and processes may run at
    /// the same time: none of them is stopped, and what they rely on stays.
    ///
    /// *Returns*: what was removed, and what could not be. *Errors*: `corrupt_repository` if the record of an image, a tag, an
    /// import, a mount or a lease cannot be read: nothing that it may need is removed; `unsupported_repository` if the repository is
    /// read-only, except for a dry run; `repository_busy`; errno values. *Cancellation*: any; objects that were already taken out of
    /// the repository are deleted before the operation completes, and the repository is consistent.
    [[nodiscard]] asio::awaitable<collect_report> collect(collect_options options = collect_options()) const
    {
        return detail::operation(collect_all(opened(), std::move(options)));
    }

    /// Removes one layer; its diff and the layers below stay until they are collected.
    ///
    /// *Errors*: `layer_in_use` if an image, another layer, a mount or a lease needs it; `layer_not_found`; those of `collect`.
    /// *Cancellation*: any, until the removal has begun.
    [[nodiscard]] asio::awaitable<void> remove_layer(chain_id chain) const { return detail::operation(remove_one_layer(opened(), std::move(chain))); }

    /// Removes all images that have no tag, no mount and no lease at the time of the call.
    ///
    /// *Returns*: their IDs. *Errors*: those of `collect`. *Cancellation*: any; some may have been removed.
    [[nodiscard]] asio::awaitable<std::vector<digest>> remove_unused_images() const { return detail::operation(remove_unused(opened())); }

    /// Measures the repository's content. Takes no lock: a concurrent change may or may not be counted.
    ///
    /// *Errors*: those of a dry run of `collect`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<usage_report> usage() const { return detail::operation(measure(opened())); }

    /// Keeps images and layers from being collected as long as the returned object and its process live.
    ///
    /// *Errors*: `image_not_found`, `layer_not_found`, `repository_busy`. *Cancellation*: any; nothing is leased then.
    [[nodiscard]] asio::awaitable<overmount::lease> lease(lease_request what) const
    {
        return detail::operation(lease_now(opened(), std::move(what)));
    }
    /// Keeps images and layers for a time, also after the process has ended. A lease of the same name is replaced, and so renewed.
    /// The time is measured by the boot clock until a reboot, and by the wall clock afterwards: setting that clock forward ends the
    /// lease early, setting it back prolongs it.
    ///
    /// \param name any text, such as the program that needs them
    /// *Errors*: those of `lease`. *Cancellation*: any; a lease of that name is then either the old or the new one.
    [[nodiscard]] asio::awaitable<void> lease_for(std::string name, std::chrono::seconds time, lease_request what) const
    {
        return detail::operation(lease_by_name(opened(), std::move(name), time, std::move(what)));
    }
    /// Ends a named lease before it expires. *Errors*: `lease_not_found`, `repository_busy`. *Cancellation*: any.
    [[nodiscard]] asio::awaitable<void> end_lease(std::string name) const { return detail::operation(end_by_name(opened(), std::move(name))); }
    /// The leases that have a name, sorted by name. *Errors*: `corrupt_repository`.
    [[nodiscard]] std::vector<timed_lease> leases() const;

protected:
    basic_space() = default;
    explicit basic_space(std::shared_ptr<state> owner) : state_(std::move(owner)) {}

    // Throws `invalid_handle`.
    [[nodiscard]] const std::shared_ptr<state>& opened() const { return detail::valid(state_); }

    static asio::awaitable<void> sweep(std::shared_ptr<state> owner);

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

    std::shared_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/space.ipp>
#endif

#endif

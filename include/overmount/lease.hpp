#ifndef OVERMOUNT_LEASE_HPP
#define OVERMOUNT_LEASE_HPP

#include <overmount/core/digest.hpp>
#include <overmount/repository/fwd.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// What a lease keeps from being collected: images, with their layers, manifests and kept blobs, and layers, with all layers below.
class lease_request
{
public:
    lease_request& image(const digest& id)
    {
        images_.push_back(id);
        return *this;
    }
    lease_request& layer(const chain_id& top)
    {
        layers_.push_back(top);
        return *this;
    }
    [[nodiscard]] const std::vector<digest>& images() const noexcept { return images_; }
    [[nodiscard]] const std::vector<chain_id>& layers() const noexcept { return layers_; }

private:
    std::vector<digest> images_;
    std::vector<chain_id> layers_;
};

/// Keeps images and layers from being collected until the object is destroyed, or its process ends in whatever way. An image can
/// still be removed; its layers stay. An object that was default constructed or moved from keeps nothing.
///
/// *Concurrency*: one object must not be used by two threads at once.
class lease
{
    struct held // type-erased: basic_space::lease_now derives from it
    {
        virtual ~held() = default;
    };

public:
    lease() = default;

    /// Ends the lease; does nothing if it keeps nothing.
    void end() noexcept { held_.reset(); }
    [[nodiscard]] bool is_held() const noexcept { return held_ != nullptr; }
    [[nodiscard]] explicit operator bool() const noexcept { return is_held(); }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_space;
    explicit lease(std::unique_ptr<held> what) : held_(std::move(what)) {}

    std::unique_ptr<held> held_;
};

/// A lease that has a name and expires, and outlives its process.
struct timed_lease
{
    std::string name;
    std::chrono::seconds left; ///< negative if it has expired; such a lease stays until the next collection
    std::vector<digest> images;
    std::vector<chain_id> layers; ///< all leased layers, with those of the images
};

} // namespace overmount::OVERMOUNT_ABI

#endif

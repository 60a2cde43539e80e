#ifndef OVERMOUNT_LEASE_HPP
#define OVERMOUNT_LEASE_HPP

#include <overmount/core/digest.hpp>
#include <overmount/repository/fwd.hpp>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// What a lease keeps from a collection: images, with their layers, manifests and kept blobs, and layers, with all below them.
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

/// Keeps what it was made for until it is destroyed, or its process ends in whatever way. An image that is removed
/// meanwhile is gone by name; its layers stay.
///
/// *Concurrency*: one object is not for two threads at once.
class lease
{
    struct held // by whom it is known what it is
    {
        virtual ~held() = default;
    };

public:
    lease() = default;

    /// Gives it up.
    void end() noexcept { held_.reset(); }
    [[nodiscard]] bool is_held() const noexcept { return held_ != nullptr; }

private:
    template <storage_policy, optional_mount_policy>
    friend class basic_space;
    explicit lease(std::unique_ptr<held> what) : held_(std::move(what)) {}

    std::unique_ptr<held> held_;
};

/// A lease that has a name and an end, and outlives its process.
struct timed_lease
{
    std::string name;
    std::chrono::seconds left; ///< negative when it is over, and stays until the next collection
    std::vector<digest> images;
    std::vector<chain_id> layers; ///< all of them, those of the images too
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif

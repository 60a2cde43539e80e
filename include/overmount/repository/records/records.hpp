#ifndef OVERMOUNT_REPOSITORY_RECORDS_RECORDS_HPP
#define OVERMOUNT_REPOSITORY_RECORDS_RECORDS_HPP

#include <overmount/core/digest.hpp>
#include <overmount/mount/mount_identity.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// A layer as the repository records it.
struct layer_record
{
    diff_id diff;
    std::optional<chain_id> parent;
};

/// A tag as the repository records it.
struct tag_record
{
    std::string name;
    digest image;
    std::optional<digest> manifest;
    std::string source; ///< where the image came from, for people
    std::string time;   ///< RFC 3339
    std::optional<digest> index = {}; ///< the index by which the manifest was found
};

/// Whether a recorded mount exists.
enum class mount_state
{
    /// It is mounted, or that it is not is not certain: it may be in another mount namespace, or be held by a process after
    /// a lazy unmount.
    alive,
    /// It is certain that it is mounted nowhere. What was written in it is kept: mount it again, commit it, or remove it.
    stopped,
};

[[nodiscard]] constexpr std::string_view to_string(mount_state value) noexcept
{
    return value == mount_state::alive ? "alive" : "stopped";
}

/// What a mount shows: an image, by its ID, or a layer with all below it.
using mount_subject = std::variant<digest, chain_id>;

/// A mount as the repository records it.
struct mount_record
{
    mount_record(std::string name, const mount_subject& of, std::string place, bool takes_changes)
        : id(std::move(name)), target(std::move(place)), writable(takes_changes)
    {
        if (const digest* of_image = std::get_if<digest>(&of))
            image = *of_image;
        else
            layer = std::get<chain_id>(of);
    }

    std::string id;
    std::optional<digest> image;   ///< nothing where a layer was mounted
    std::optional<chain_id> layer; ///< nothing where an image was mounted
    std::string target;            ///< absolute path of the mount point
    bool writable = false;
    /// Nothing that is written in it is synced: after a crash files may be incomplete, in whatever order.
    bool is_volatile = false;
    /// As the kernel knows it. A record of an older version, or of a process that was killed while it mounted, has the
    /// boot and the namespace only.
    mount_identity identity;
    /// The directories of the diffs that it was given, topmost first, below `diffs/`.
    std::vector<std::string> lowers;

    [[nodiscard]] mount_subject subject() const { return image ? mount_subject(*image) : mount_subject(*layer); }
    /// What mountinfo shows as its source.
    [[nodiscard]] std::string source() const { return "overmount-" + id; }
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif

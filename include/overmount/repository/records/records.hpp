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

namespace overmount::OVERMOUNT_ABI {

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
    std::string source; ///< where the image came from, as text for people
    std::string time;   ///< RFC 3339
    std::optional<digest> index = {}; ///< the index by which the manifest was found
};

/// Whether a recorded mount exists.
enum class mount_state
{
    /// It is mounted, or may be: it can be in another mount namespace, or still be held by a process after a lazy unmount.
    alive,
    /// It is certainly mounted nowhere. The changes in its upper directory are kept: mount it again, commit it, or remove it.
    stopped,
};

[[nodiscard]] constexpr std::string_view to_string(mount_state value) noexcept
{
    return value == mount_state::alive ? "alive" : "stopped";
}

/// What is mounted: an image, by its ID, or a layer with all layers below it.
using mount_subject = std::variant<digest, chain_id>;

/// A mount as the repository records it.
struct mount_record
{
    mount_record(std::string name, const mount_subject& of, std::string target_path, bool is_writable)
        : id(std::move(name)), target(std::move(target_path)), writable(is_writable)
    {
        if (const digest* of_image = std::get_if<digest>(&of))
            image = *of_image;
        else
            layer = std::get<chain_id>(of);
    }

    std::string id;
    std::optional<digest> image;   ///< empty if a layer is mounted
    std::optional<chain_id> layer; ///< empty if an image is mounted
    std::string target;            ///< absolute path of the mount point
    bool writable = false;
    /// Mounted with overlayfs's `volatile`: no write is synced, and a crash may leave any of its files incomplete.
    bool is_volatile = false;
    /// How the kernel identifies the mount. A record written by an older version, or by a process that was killed while it
    /// mounted, has only the boot ID and the mount namespace.
    mount_identity identity;
    /// The diff directories that are its lower directories, topmost first, as paths below `diffs/`.
    std::vector<std::string> lowers;

    [[nodiscard]] mount_subject subject() const { return image ? mount_subject(*image) : mount_subject(*layer); }
    /// The mount source in mountinfo.
    [[nodiscard]] std::string source() const { return "overmount-" + id; }
};

} // namespace overmount::OVERMOUNT_ABI

#endif

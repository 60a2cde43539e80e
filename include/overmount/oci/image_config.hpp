#ifndef OVERMOUNT_OCI_IMAGE_CONFIG_HPP
#define OVERMOUNT_OCI_IMAGE_CONFIG_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/core/platform.hpp>

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// One step of an image's history.
struct history_entry
{
    std::string created, created_by, comment;
    bool empty_layer = false; ///< the step created no layer
    std::string author = {};
};

/// The config of an image. It is kept byte for byte: `bytes()` also has the members that this class does not know.
/// See OCI image spec, config.md.
class image_config
{
public:
    /// Throws `invalid_config`, `malformed_json`, `json_limit_exceeded`.
    OVERMOUNT_LAZY [[nodiscard]] static image_config parse(std::string bytes, const limits& bounds);

    /// The digest of the config: the image's ID.
    [[nodiscard]] const digest& id() const noexcept { return id_; }
    [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; } ///< verbatim
    [[nodiscard]] const std::vector<diff_id>& diff_ids() const noexcept { return diff_ids_; } ///< lowest first
    [[nodiscard]] const overmount::platform& platform() const noexcept { return platform_; }
    [[nodiscard]] const std::string& created() const noexcept { return created_; } ///< RFC 3339, or empty
    [[nodiscard]] const std::vector<std::string>& environment() const noexcept { return environment_; }
    [[nodiscard]] const std::vector<std::string>& entrypoint() const noexcept { return entrypoint_; }
    [[nodiscard]] const std::vector<std::string>& command() const noexcept { return command_; }
    [[nodiscard]] const std::string& working_directory() const noexcept { return working_directory_; }
    [[nodiscard]] const std::string& user() const noexcept { return user_; }
    [[nodiscard]] const std::string& author() const noexcept { return author_; }
    [[nodiscard]] const std::string& stop_signal() const noexcept { return stop_signal_; } ///< such as `SIGTERM`, or empty
    [[nodiscard]] const std::map<std::string, std::string>& labels() const noexcept { return labels_; }
    /// Such as `80`, `80/tcp`, `53/udp`.
    [[nodiscard]] const std::set<std::string>& exposed_ports() const noexcept { return exposed_ports_; }
    [[nodiscard]] const std::set<std::string>& volumes() const noexcept { return volumes_; } ///< paths
    [[nodiscard]] const std::vector<history_entry>& history() const noexcept { return history_; }

private:
    image_config(std::string bytes, const digest& id) : bytes_(std::move(bytes)), id_(id), platform_("", "") {}

    std::string bytes_;
    digest id_;
    overmount::platform platform_;
    std::vector<diff_id> diff_ids_;
    std::string created_, author_, working_directory_, user_, stop_signal_;
    std::vector<std::string> environment_, entrypoint_, command_;
    std::map<std::string, std::string> labels_;
    std::set<std::string> exposed_ports_, volumes_;
    std::vector<history_entry> history_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/oci/impl/image_config.ipp>
#endif

#endif

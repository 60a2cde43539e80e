#ifndef OVERMOUNT_OCI_IMAGE_CONFIG_EDIT_HPP
#define OVERMOUNT_OCI_IMAGE_CONFIG_EDIT_HPP

#include <overmount/oci/image_config.hpp>

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {

/// Builds a config: an edited copy of an existing one, or a new one.
///
/// Members that are not set keep their value and position, including those that only docker knows; numbers beyond 64
/// bits are rounded. Setting an empty value removes the member. Setters return `*this`:
/// `image_config_edit(image.config()).set_environment("LANG", "C").command({"/bin/sh"}).build(limits())`.
///
/// **History.** It is optional, but if there is one, tools require as many steps that created a layer as there are
/// layers. An edit of layers or history therefore first appends, for each layer without a step, a step which says that its
/// origin is not recorded. If there are more such steps than layers, `build` fails.
class image_config_edit
{
public:
    OVERMOUNT_LAZY explicit image_config_edit(const image_config& from);
    /// A new config, without layers.
    explicit image_config_edit(overmount::platform on) : platform_(std::move(on)) {}

    image_config_edit& platform(overmount::platform on) { return set(platform_, std::move(on)); }
    /// \param time in the format of RFC 3339, such as `2024-01-02T03:04:05Z`
    image_config_edit& created(std::string time) { return set(created_, std::move(time)); }
    image_config_edit& author(std::string name) { return set(author_, std::move(name)); }

    /// Replaces the whole environment; each element is `NAME=value`.
    image_config_edit& environment(std::vector<std::string> all) { return set(environment_, std::move(all)); }
    /// Sets one variable; replaces any of the same name.
    ///
    /// *Errors*: `invalid_config` if the name is empty or contains `=`.
    OVERMOUNT_LAZY image_config_edit& set_environment(std::string_view name, std::string_view value);
    image_config_edit& entrypoint(std::vector<std::string> words) { return set(entrypoint_, std::move(words)); }
    image_config_edit& command(std::vector<std::string> words) { return set(command_, std::move(words)); }
    image_config_edit& working_directory(std::string path) { return set(working_directory_, std::move(path)); }
    image_config_edit& user(std::string name) { return set(user_, std::move(name)); }
    image_config_edit& stop_signal(std::string name) { return set(stop_signal_, std::move(name)); }
    OVERMOUNT_LAZY image_config_edit& label(std::string name, std::string value);
    OVERMOUNT_LAZY image_config_edit& remove_label(std::string name);
    /// Adds one exposed port, such as `80/tcp`.
    OVERMOUNT_LAZY image_config_edit& expose(std::string port);
    image_config_edit& exposed_ports(std::set<std::string> all) { return set(ports_, std::move(all)); }
    image_config_edit& volumes(std::set<std::string> paths) { return set(volumes_, std::move(paths)); }

    /// Adds a layer on top, and the history step that created it.
    OVERMOUNT_LAZY image_config_edit& append_layer(const diff_id& diff, history_entry step);
    /// Adds a history step that created no layer.
    OVERMOUNT_LAZY image_config_edit& append_empty(history_entry step);
    /// Replaces the layers, lowest first, and keeps the history.
    OVERMOUNT_LAZY image_config_edit& replace_layers(std::vector<diff_id> layers);
    /// Replaces layers and history. The history is empty, or has one step for each layer plus any number of steps that
    /// created none.
    OVERMOUNT_LAZY image_config_edit& replace_layers(std::vector<diff_id> layers, std::vector<history_entry> history);

    /// Builds the config as compact JSON: the same edits of the same bytes give the same ID.
    ///
    /// *Errors*: `invalid_config` for a malformed time, text that is not UTF-8, or a history that does not match the
    /// layers; those of `image_config::parse`.
    OVERMOUNT_LAZY [[nodiscard]] image_config build(const limits& bounds) const;

private:
    template <class Json>
    [[nodiscard]] std::string document() const;
    template <class Value>
    image_config_edit& set(std::optional<Value>& member, Value value)
    {
        member = std::move(value);
        return *this;
    }

    std::string base_; // bytes of the edited config; empty for a new one
    std::vector<std::string> old_environment_;
    std::map<std::string, std::string> old_labels_;
    std::set<std::string> old_ports_;
    std::vector<diff_id> layers_;

    // The edits.
    std::optional<overmount::platform> platform_;
    std::optional<std::string> created_, author_, working_directory_, user_, stop_signal_;
    std::optional<std::vector<std::string>> environment_, entrypoint_, command_;
    std::optional<std::map<std::string, std::string>> labels_;
    std::optional<std::set<std::string>> ports_, volumes_;
    bool edits_layers_ = false, replaces_history_ = false;
    std::vector<history_entry> steps_; // appended to the history
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/oci/impl/image_config_edit.ipp>
#endif

#endif

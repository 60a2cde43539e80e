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

namespace overmount::inline OVERMOUNT_ABI {

/// A config in the making: an image's config and what is to be different, or a new one.
///
/// What nobody set stays with its value and at its place, the members that only docker has as well; numbers beyond 64
/// bits are rounded. A value that is set empty is left out. Setters return `*this`:
/// `image_config_edit(image.config()).set_environment("LANG", "C").command({"/bin/sh"}).build(limits())`.
///
/// **History.** It is optional, but where there is one, tools demand that its steps that made a layer are as many as
/// the layers. An edit that concerns layers or history therefore first gives each layer that has no step one that
/// says so, after the steps that are there; a history with more such steps than layers is an error of `build`.
class image_config_edit
{
public:
    OVERMOUNT_LAZY explicit image_config_edit(const image_config& from);
    /// A new one, without layers.
    explicit image_config_edit(overmount::platform on) : platform_(std::move(on)) {}

    image_config_edit& platform(overmount::platform on) { return set(platform_, std::move(on)); }
    /// \param time is of RFC 3339, such as `2024-01-02T03:04:05Z`
    image_config_edit& created(std::string time) { return set(created_, std::move(time)); }
    image_config_edit& author(std::string name) { return set(author_, std::move(name)); }

    /// All of it; `NAME=value` each.
    image_config_edit& environment(std::vector<std::string> all) { return set(environment_, std::move(all)); }
    /// One variable, in the place of what has its name.
    ///
    /// *Errors*: `invalid_config` for a name that is empty or has a `=`.
    OVERMOUNT_LAZY image_config_edit& set_environment(std::string_view name, std::string_view value);
    image_config_edit& entrypoint(std::vector<std::string> words) { return set(entrypoint_, std::move(words)); }
    image_config_edit& command(std::vector<std::string> words) { return set(command_, std::move(words)); }
    image_config_edit& working_directory(std::string path) { return set(working_directory_, std::move(path)); }
    image_config_edit& user(std::string name) { return set(user_, std::move(name)); }
    image_config_edit& stop_signal(std::string name) { return set(stop_signal_, std::move(name)); }
    OVERMOUNT_LAZY image_config_edit& label(std::string name, std::string value);
    OVERMOUNT_LAZY image_config_edit& remove_label(std::string name);
    /// One more, such as `80/tcp`.
    OVERMOUNT_LAZY image_config_edit& expose(std::string port);
    image_config_edit& exposed_ports(std::set<std::string> all) { return set(ports_, std::move(all)); }
    image_config_edit& volumes(std::set<std::string> paths) { return set(volumes_, std::move(paths)); }

    /// A layer on top, and the step that made it.
    OVERMOUNT_LAZY image_config_edit& append_layer(const diff_id& diff, history_entry step);
    /// A step that made no layer.
    OVERMOUNT_LAZY image_config_edit& append_empty(history_entry step);
    /// Other layers, lowest first, for the steps that are there.
    OVERMOUNT_LAZY image_config_edit& replace_layers(std::vector<diff_id> layers);
    /// Other layers and steps; no steps at all, or one for each layer and any that made none.
    OVERMOUNT_LAZY image_config_edit& replace_layers(std::vector<diff_id> layers, std::vector<history_entry> history);

    /// The config, as compact JSON: the same edits of the same bytes give the same ID.
    ///
    /// *Errors*: `invalid_config` for a time that is none, text that is not UTF-8, and steps that do not fit the
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

    std::string base_; // empty: a new one
    std::vector<std::string> old_environment_;
    std::map<std::string, std::string> old_labels_;
    std::set<std::string> old_ports_;
    std::vector<diff_id> layers_;

    // What differs.
    std::optional<overmount::platform> platform_;
    std::optional<std::string> created_, author_, working_directory_, user_, stop_signal_;
    std::optional<std::vector<std::string>> environment_, entrypoint_, command_;
    std::optional<std::map<std::string, std::string>> labels_;
    std::optional<std::set<std::string>> ports_, volumes_;
    bool touches_layers_ = false, replaces_history_ = false;
    std::vector<history_entry> steps_; // behind the old ones
};

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/oci/impl/image_config_edit.ipp>
#endif

#endif

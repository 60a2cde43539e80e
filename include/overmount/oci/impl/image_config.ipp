#ifndef OVERMOUNT_OCI_IMPL_IMAGE_CONFIG_IPP
#define OVERMOUNT_OCI_IMPL_IMAGE_CONFIG_IPP

#include <overmount/oci/detail/json.hpp>
#include <overmount/oci/image_config.hpp>

namespace overmount::OVERMOUNT_ABI {

OVERMOUNT_LAZY_BODY image_config image_config::parse(std::string bytes, const limits& bounds)
{
    using detail::json_object, detail::json_text, detail::json_texts;
    const digest id = digest::of(bytes);
    image_config out(std::move(bytes), id);
    std::string os, architecture, variant;
    history_entry step;
    const auto type = [](const std::string& value) {
        if (value != "layers")
            throw error(errc::invalid_config).subject(value).detail("the type of a rootfs must be layers");
    };
    const auto take_diff = [&](const std::string& value) {
        const auto diff = digest::try_parse(value);
        if (!diff)
            throw error(errc::invalid_config).subject(value).detail("this is not a valid diff ID");
        out.diff_ids_.emplace_back(*diff);
    };
    const auto rootfs =
        json_object({{"type", json_text(type).required()},
                     {"diff_ids", detail::json_list(json_text(take_diff), bounds.layers).required_or_null()}})
            .required();
    std::string* label = nullptr;
    const auto labels = detail::json_dictionary(json_text([&](std::string value) { *label = std::move(value); }),
                                                [&](std::string name) { label = &out.labels_[std::move(name)]; });
    const auto keys_of = [](std::set<std::string>& names) { // the value of each key is an empty object
        return detail::json_dictionary(detail::json_map({}),
                                       [&names](std::string name) { names.insert(std::move(name)); });
    };
    const auto config = json_object({{"Env", json_texts(out.environment_)},
                                     {"Entrypoint", json_texts(out.entrypoint_)},
                                     {"Cmd", json_texts(out.command_)},
                                     {"WorkingDir", json_text(out.working_directory_)},
                                     {"User", json_text(out.user_)},
                                     {"StopSignal", json_text(out.stop_signal_)},
                                     {"Labels", labels},
                                     {"ExposedPorts", keys_of(out.exposed_ports_)},
                                     {"Volumes", keys_of(out.volumes_)}});
    const auto history =
        detail::json_list(json_object({{"created", json_text(step.created)},
                                       {"created_by", json_text(step.created_by)},
                                       {"comment", json_text(step.comment)},
                                       {"author", json_text(step.author)},
                                       {"empty_layer", detail::json_flag(step.empty_layer)}},
                                      [&] { out.history_.push_back(std::exchange(step, {})); }));
    detail::read_json(out.bytes_, bounds, errc::invalid_config,
                      json_object({{"os", json_text(os)},
                                   {"architecture", json_text(architecture)},
                                   {"variant", json_text(variant)},
                                   {"created", json_text(out.created_)},
                                   {"author", json_text(out.author_)},
                                   {"rootfs", rootfs},
                                   {"config", config},
                                   {"history", history}}));
    out.platform_ = {std::move(os), std::move(architecture), std::move(variant)};
    return out;
}

} // namespace overmount::OVERMOUNT_ABI

#endif

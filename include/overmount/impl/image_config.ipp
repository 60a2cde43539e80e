#ifndef OVERMOUNT_IMPL_IMAGE_CONFIG_IPP
#define OVERMOUNT_IMPL_IMAGE_CONFIG_IPP

#include <overmount/image_config.hpp>
#include <overmount/impl/manifest.ipp>

namespace overmount::inline OVERMOUNT_ABI {
namespace detail {

inline std::vector<std::string> strings_of(const nlohmann::json& object, const char* key)
{
    const auto found = object.find(key);
    return found == object.end() || found->is_null() ? std::vector<std::string>()
                                                     : found->get<std::vector<std::string>>();
}

} // namespace detail

OVERMOUNT_DECL image_config image_config::parse(std::string bytes, const limits& bounds)
{
    return detail::read_json(bytes, bounds, errc::invalid_config, [&](const nlohmann::json& value) {
        image_config out(bytes, digest::of(bytes));
        out.platform_ = {detail::string_or_empty(value, "os"), detail::string_or_empty(value, "architecture"),
                         detail::string_or_empty(value, "variant")};
        out.created_ = detail::string_or_empty(value, "created");
        const auto& rootfs = value.at("rootfs");
        const auto& ids = rootfs.at("diff_ids");
        if (rootfs.at("type") != "layers" || !(ids.is_null() || ids.is_array()) || ids.size() > bounds.layers)
            throw error(errc::invalid_config).at(stage::manifest).detail("its rootfs is not of layers");
        if (!ids.is_null())
            for (const auto& id : ids) {
                const auto value_of = digest::try_parse(id.get<std::string>());
                if (!value_of)
                    throw error(errc::invalid_config)
                        .at(stage::manifest)
                        .subject(id.get<std::string>())
                        .detail("not a diff ID");
                out.diff_ids_.emplace_back(*value_of);
            }
        if (const auto found = value.find("config"); found != value.end() && found->is_object()) {
            out.environment_ = detail::strings_of(*found, "Env");
            out.entrypoint_ = detail::strings_of(*found, "Entrypoint");
            out.command_ = detail::strings_of(*found, "Cmd");
            out.working_directory_ = detail::string_or_empty(*found, "WorkingDir");
            out.user_ = detail::string_or_empty(*found, "User");
        }
        if (const auto found = value.find("history"); found != value.end() && found->is_array())
            for (const auto& step : *found)
                out.history_.push_back({detail::string_or_empty(step, "created"),
                                        detail::string_or_empty(step, "created_by"),
                                        detail::string_or_empty(step, "comment"), step.value("empty_layer", false)});
        return out;
    });
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif

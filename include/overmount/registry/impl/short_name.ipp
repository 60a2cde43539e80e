#ifndef OVERMOUNT_REGISTRY_IMPL_SHORT_NAME_IPP
#define OVERMOUNT_REGISTRY_IMPL_SHORT_NAME_IPP

#include <overmount/core/error.hpp>
#include <overmount/registry/short_name.hpp>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::registry {

OVERMOUNT_DECL std::vector<reference> references_for(std::string_view name, const registries_conf& conf)
{
    const std::string text(name);
    const reference in_docker_io = reference::parse(text);
    if (reference::states_domain(text))
        return {in_docker_io};
    const std::size_t digest = std::min(text.find('@'), text.size()), slash = text.rfind('/', digest);
    const std::size_t tag = std::min(text.find(':', slash == std::string::npos ? 0 : slash), digest);
    if (const auto full = conf.alias(text.substr(0, tag)))
        return {reference::parse(*full + text.substr(tag))};
    const std::vector<std::string> places = conf.unqualified_search_registries();
    if (places.empty())
        return {in_docker_io};
    if (places.size() > 1 && conf.short_name_mode() == short_name_mode::enforcing)
        throw error(errc::invalid_reference)
            .at(stage::source)
            .subject(text)
            .detail("the short name may be of several registries of registries.conf: write the registry before it");
    std::vector<reference> out;
    for (const std::string& place : places)
        out.push_back(reference::parse(place + "/" + text));
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif

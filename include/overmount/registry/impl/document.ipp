#ifndef OVERMOUNT_REGISTRY_IMPL_DOCUMENT_IPP
#define OVERMOUNT_REGISTRY_IMPL_DOCUMENT_IPP

#include <overmount/oci/detail/json.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/registry/ascii.hpp>
#include <overmount/registry/document.hpp>

#include <algorithm>
#include <string>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// The media type in a Content-Type, without parameters, in lower case.
inline std::string media_type_of(std::string_view content_type)
{
    content_type = content_type.substr(0, content_type.find(';'));
    const auto first = std::min(content_type.find_first_not_of(" \t"), content_type.size());
    return ascii_lower(content_type.substr(first, content_type.find_last_not_of(" \t") + 1 - first));
}

inline error refused_document(std::string_view type, std::string_view why)
{
    return error(errc::unsupported_media_type).at(stage::source).operation("read manifest").subject(type).detail(why);
}
inline error schema_1(std::string_view type)
{
    return refused_document(type, "docker schema 1 is not supported: push the image again with a current tool");
}

// nullopt if the type says nothing.
inline std::optional<document_kind> kind_of(std::string_view type)
{
    if (is_manifest_media_type(type))
        return document_kind::manifest;
    if (is_index_media_type(type))
        return document_kind::index;
    if (type.empty() || type == "application/json" || type == "application/octet-stream" || type == "binary/octet-stream" ||
        type == "text/plain")
        return std::nullopt;
    if (type == "application/vnd.docker.distribution.manifest.v1+json" ||
        type == "application/vnd.docker.distribution.manifest.v1+prettyjws")
        throw schema_1(type);
    throw refused_document(type, "this is not the media type of a manifest or index");
}

} // namespace detail

OVERMOUNT_DECL std::string_view accept_header() noexcept
{
    return "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
           "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
}

OVERMOUNT_DECL document_kind classify(std::string_view content_type, std::string_view body, const limits& bounds)
{
    namespace json = overmount::detail;
    const std::string type = detail::media_type_of(content_type);
    const auto of_header = detail::kind_of(type);

    std::string own_type, artifact, config;
    std::uint64_t version = 0;
    bool has_config = false, has_manifests = false;
    json::read_json(body, bounds, errc::malformed_answer,
                    json::json_object({{"schemaVersion", json::json_number(version)},
                                       {"mediaType", json::json_text(own_type)},
                                       {"artifactType", json::json_text(artifact)},
                                       {"config", json::json_object({{"mediaType", json::json_text(config)}}, [&] { has_config = true; })},
                                       {"manifests", json::json_list(json::json_object({}, [&] { has_manifests = true; }))}}),
                    stage::source);
    if (version == 1)
        throw detail::schema_1(own_type.empty() ? type : own_type);
    if (!artifact.empty() && config != "application/vnd.oci.image.config.v1+json" &&
        config != "application/vnd.docker.container.image.v1+json")
        throw detail::refused_document(artifact, "this is an artifact, not an image");
    const auto of_body = detail::kind_of(own_type);
    const auto contradiction = [&own_type](std::string_view why) {
        return error(errc::malformed_answer).at(stage::source).operation("read manifest").subject(own_type).detail(why);
    };
    if (of_header && of_body && *of_header != *of_body)
        throw contradiction("mediaType contradicts the Content-Type " + type);
    if (of_header || of_body)
        return of_header ? *of_header : *of_body;
    if (has_config && has_manifests)
        throw contradiction("the document has the fields of a manifest and of an index");
    if (!has_config && !has_manifests)
        throw detail::refused_document(type, "the document is neither a manifest nor an index");
    return has_config ? document_kind::manifest : document_kind::index;
}

OVERMOUNT_DECL void verify_document(std::string_view body, const std::optional<digest>& wanted, std::optional<std::uint64_t> size)
{
    const auto failure = [&wanted](errc code, const std::string& why) {
        const std::string name = wanted ? wanted->string() : std::string();
        return error(code).at(stage::source).operation("read document").subject(name).detail(why);
    };
    if (size && body.size() != *size)
        throw failure(errc::size_mismatch,
                      "it has " + std::to_string(body.size()) + " bytes instead of " + std::to_string(*size));
    if (!wanted)
        return;
    const digest actual = digest::of(body, wanted->algorithm());
    if (actual != *wanted)
        throw failure(errc::digest_mismatch, "the content has the digest " + actual.string());
}

OVERMOUNT_DECL bool head_is_trusted(unsigned status, std::optional<std::string_view> digest,
                                    std::optional<std::uint64_t> length) noexcept
{
    return status == 200 && digest && overmount::digest::try_parse(*digest) && length && *length != 0;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif

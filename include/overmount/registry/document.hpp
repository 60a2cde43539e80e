#ifndef OVERMOUNT_REGISTRY_DOCUMENT_HPP
#define OVERMOUNT_REGISTRY_DOCUMENT_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/limits.hpp>

#include <cstdint>
#include <optional>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {

/// The value of Accept for a manifest, by tag and by digest: the manifests and indexes of OCI and docker schema 2.
[[nodiscard]] std::string_view accept_header() noexcept;

enum class document_kind
{
    manifest,
    index,
};

/// Finds out whether an answer is a manifest or an index. The Content-Type decides; if it is missing or says nothing
/// (`application/json`, `application/octet-stream`, `binary/octet-stream`, `text/plain`), `mediaType` in the body does; if that
/// is missing too, the fields do: `manifests` or `config`. Whether the body is a valid document of that kind is for
/// `manifest::parse` and `index::parse` to say; those also refuse an artifact by the media type of its config.
/// \param content_type Empty if the header is missing. Case and parameters do not count.
/// Throws `unsupported_media_type`, with the media type, for docker's schema 1, for an artifact (with its `artifactType`), and for
/// everything else that is no manifest; `malformed_answer` if the Content-Type and `mediaType` are not of one kind, or a field has the wrong type;
/// `malformed_json`, `json_limit_exceeded`. See distribution spec, "Pulling manifests".
[[nodiscard]] document_kind classify(std::string_view content_type, std::string_view body, const limits& bounds);

/// Checks the body of a manifest, config or other document. Docker-Content-Digest has no part in this: it may be absent or wrong.
/// \param wanted The digest that was asked for or that the descriptor has; nullopt for a tag.
/// \param size The descriptor's size in bytes, if there is a descriptor.
/// Throws `size_mismatch`, `digest_mismatch`.
void verify_document(std::string_view body, const std::optional<digest>& wanted, std::optional<std::uint64_t> size);

/// Whether the answer to HEAD tells enough about a manifest: a 200 with a valid digest and a length. Otherwise use GET:
/// registries answer 403 or 405, or leave out either header. The digest is a hint that the manifest is here already, never a
/// proof of its content.
/// \param digest The value of Docker-Content-Digest.
/// \param length The value of Content-Length.
[[nodiscard]] bool head_is_trusted(unsigned status, std::optional<std::string_view> digest,
                                   std::optional<std::uint64_t> length) noexcept;

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/document.ipp>
#endif

#endif

#ifndef OVERMOUNT_REGISTRY_BASE64_HPP
#define OVERMOUNT_REGISTRY_BASE64_HPP

#include <overmount/core/config.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {

/// The base64 form of `bytes`, with padding and without line breaks. Throws `std::length_error` above 1 GiB. See RFC 4648,
/// section 4.
[[nodiscard]] std::string base64_encode(std::string_view bytes);

/// The bytes that `text` stands for, or nothing if it is not base64. It is as lenient as docker is with `auth` in its
/// `config.json`: line breaks are skipped, padding may be missing, and NULs at the end of the bytes are cut off.
[[nodiscard]] std::optional<std::string> base64_decode(std::string_view text);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/base64.ipp>
#endif

#endif

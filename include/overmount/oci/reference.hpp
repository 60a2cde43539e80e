#ifndef OVERMOUNT_OCI_REFERENCE_HPP
#define OVERMOUNT_OCI_REFERENCE_HPP

#include <overmount/core/digest.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI {

/// The name of an image by docker's rules: `[DOMAIN/]PATH[:TAG][@DIGEST]`. The default domain is `docker.io`; there, a
/// path without a slash is in `library/`.
/// See distribution, reference/reference.go, for the grammar.
class reference
{
public:
    /// Throws `error` with `errc::invalid_reference`.
    OVERMOUNT_LAZY [[nodiscard]] static reference parse(std::string_view text);

    /// Whether a name states its domain: its first component has a `.`, a `:` or an upper-case letter, or is `localhost`.
    OVERMOUNT_LAZY [[nodiscard]] static bool states_domain(std::string_view name) noexcept;

    [[nodiscard]] const std::string& domain() const noexcept { return domain_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] const std::optional<std::string>& tag() const noexcept { return tag_; }
    [[nodiscard]] const std::optional<overmount::digest>& digest() const noexcept { return digest_; }

    /// This reference, with the tag `latest` if it has neither tag nor digest.
    OVERMOUNT_LAZY [[nodiscard]] reference with_default_tag() const;
    /// The full name: `docker.io/library/busybox:1.36`.
    OVERMOUNT_LAZY [[nodiscard]] std::string string() const;
    /// The short form that people write: `busybox:1.36`. It parses to the same reference: the domain is kept where the
    /// short form would be read as a different name.
    OVERMOUNT_LAZY [[nodiscard]] std::string familiar() const;

    friend bool operator==(const reference&, const reference&) = default;

private:
    reference() = default;
    std::string domain_, path_;
    std::optional<std::string> tag_;
    std::optional<overmount::digest> digest_;
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/oci/impl/reference.ipp>
#endif

#endif

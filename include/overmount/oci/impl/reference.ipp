#ifndef OVERMOUNT_OCI_IMPL_REFERENCE_IPP
#define OVERMOUNT_OCI_IMPL_REFERENCE_IPP

#include <overmount/oci/reference.hpp>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

inline bool is_lower_or_digit(char c) noexcept
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}
inline bool is_word(char c) noexcept
{
    return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
inline bool is_path_component(std::string_view text) noexcept
{
    for (std::size_t i = 0; i < text.size();) {
        if (is_lower_or_digit(text[i])) {
            ++i;
            continue;
        }
        const std::size_t end = std::min(text.find_first_not_of(text[i], i), text.size());
        const std::size_t run = end - i;
        const bool fits = text[i] == '-' || (text[i] == '.' && run == 1) || (text[i] == '_' && run <= 2);
        if (!fits || i == 0 || end == text.size() || !is_lower_or_digit(text[end]))
            return false;
        i = end;
    }
    return !text.empty();
}

inline bool is_host_label(std::string_view text) noexcept
{
    for (const char c : text)
        if (!is_word(c) && c != '-')
            return false;
    return !text.empty() && text.front() != '-' && text.back() != '-';
}

inline bool is_domain(std::string_view text) noexcept
{
    const auto colon = text.rfind(':');
    const bool bracketed = text.starts_with('[');
    if (colon != std::string_view::npos && !(bracketed && text.ends_with(']'))) {
        const auto port = text.substr(colon + 1);
        if (port.empty() || port.find_first_not_of("0123456789") != std::string_view::npos)
            return false;
        text = text.substr(0, colon);
    }
    if (bracketed)
        return text.size() > 2 && text.ends_with(']') &&
               text.substr(1, text.size() - 2).find_first_not_of("0123456789abcdefABCDEF:") ==
                   std::string_view::npos;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find('.', begin), text.size());
        if (!is_host_label(text.substr(begin, end - begin)))
            return false;
        begin = end + 1;
    }
    return true;
}

// Whether the first component of a name is a domain. As in docker, it has a `.`, a `:` or an upper-case letter, or is `localhost`.
inline bool looks_like_domain(std::string_view part) noexcept
{
    return part.find_first_of(".:ABCDEFGHIJKLMNOPQRSTUVWXYZ") != std::string_view::npos ||
           part == "localhost";
}

// Whether docker takes `text` for the ID of an image rather than for its name.
inline bool is_image_id(std::string_view text) noexcept
{
    return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

inline bool is_tag(std::string_view text) noexcept
{
    for (const char c : text)
        if (!is_word(c) && c != '_' && c != '.' && c != '-')
            return false;
    return !text.empty() && text.size() <= 128 && text.front() != '.' && text.front() != '-';
}

} // namespace detail

OVERMOUNT_LAZY_BODY bool reference::states_domain(std::string_view name) noexcept
{
    const auto slash = name.find('/');
    return slash != std::string_view::npos && detail::looks_like_domain(name.substr(0, slash));
}

OVERMOUNT_LAZY_BODY reference reference::parse(std::string_view text)
{
    const auto refuse = [text](const char* why) {
        return error(errc::invalid_reference).subject(text).detail(why);
    };
    reference out;
    std::string_view rest = text;
    if (const auto at = rest.find('@'); at != std::string_view::npos) {
        out.digest_ = overmount::digest::try_parse(rest.substr(at + 1));
        if (!out.digest_)
            throw refuse("the part after @ is not a valid digest");
        rest = rest.substr(0, at);
    }
    const auto slash = rest.rfind('/');
    if (const auto colon = rest.rfind(':');
        colon != std::string_view::npos && (slash == std::string_view::npos || colon > slash)) {
        out.tag_ = rest.substr(colon + 1);
        if (!detail::is_tag(*out.tag_))
            throw refuse("the tag is not valid: at most 128 letters, digits and _ . -, not starting with . or -");
        rest = rest.substr(0, colon);
    }
    if (detail::is_image_id(text))
        throw refuse("64 hex digits are an image ID, not a name");
    const auto first = rest.find('/');
    const std::string_view front = rest.substr(0, std::min(first, rest.size()));
    const bool domain = first != std::string_view::npos && detail::looks_like_domain(front);
    out.domain_ = domain ? front : "docker.io";
    if (out.domain_ == "index.docker.io")
        out.domain_ = "docker.io";
    out.path_ = domain ? rest.substr(first + 1) : rest;
    if (!detail::is_domain(out.domain_))
        throw refuse("the domain is not valid");
    for (std::size_t begin = 0; begin <= out.path_.size();) {
        const std::size_t end = std::min(out.path_.find('/', begin), out.path_.size());
        if (!detail::is_path_component(std::string_view(out.path_).substr(begin, end - begin)))
            throw refuse("a name consists of lower-case letters and digits, separated by . _ - or /");
        begin = end + 1;
    }
    if (out.domain_ == "docker.io" && out.path_.find('/') == std::string::npos)
        out.path_.insert(0, "library/");
    if (out.domain_.size() + 1 + out.path_.size() > 255)
        throw refuse("the name is longer than 255 characters");
    return out;
}

OVERMOUNT_LAZY_BODY reference reference::with_default_tag() const
{
    reference out = *this;
    if (!tag_ && !digest_)
        out.tag_ = "latest";
    return out;
}

OVERMOUNT_LAZY_BODY std::string reference::string() const
{
    std::string out = domain_ + "/" + path_;
    if (tag_)
        out += ":" + *tag_;
    if (digest_)
        out += "@" + digest_->string();
    return out;
}

OVERMOUNT_LAZY_BODY std::string reference::familiar() const
{
    const std::string full = string();
    if (domain_ != "docker.io")
        return full;
    const std::string_view short_form = std::string_view(full).substr(domain_.size() + 1);
    constexpr std::string_view official = "library/";
    const std::string_view name =
        std::string_view(path_).substr(path_.starts_with(official) ? official.size() : 0);
    if (name.size() < path_.size() && name.find('/') == std::string_view::npos) {
        const std::string_view shorter = short_form.substr(official.size());
        return std::string(detail::is_image_id(shorter) ? short_form : shorter);
    }
    return detail::looks_like_domain(std::string_view(path_).substr(0, path_.find('/')))
               ? full
               : std::string(short_form);
}

} // namespace overmount::OVERMOUNT_ABI

#endif

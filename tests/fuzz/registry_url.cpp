#include "fuzz.hpp"

#include <overmount/registry/redirect.hpp>

using overmount::registry::url;

namespace {

void check_invariants(const url& value)
{
    const std::string text = value.string();
    MUST(url::parse(text) == value);
    MUST(text.size() <= overmount::registry::max_url_bytes);
    MUST(value.scheme() == "http" || value.scheme() == "https");
    MUST(!value.host().empty() && value.port() != 0);
    MUST(value.target().starts_with('/'));
    for (const char c : text)
        MUST(c > ' ' && c < '\x7f' && c != '\\' && c != '#');
    MUST(value.authority().find('@') == std::string::npos);
    MUST(value.without_query().find('?') == std::string::npos && text.starts_with(value.without_query()));
    MUST(url::parse(value.origin()).same_origin(value));
    MUST(value.resolve(text) == value && value.resolve(value.target().starts_with("//") ? "" : value.target()) == value);
}

} // namespace

// The first line is a URL, the second a reference to resolve against it. A single line is a reference.
void check(std::string_view input)
{
    const std::size_t end = input.find('\n');
    const bool two = end != std::string_view::npos;
    const url base = url::parse(two ? input.substr(0, end) : "https://registry.example:5000/v2/a/blobs/x?y");
    check_invariants(base);
    const std::string_view reference = two ? input.substr(end + 1) : input;
    const url resolved = base.resolve(reference);
    check_invariants(resolved);
    MUST(reference.find(':') != std::string_view::npos || resolved.scheme() == base.scheme());
    const auto [target, same_origin] = overmount::registry::follow(base, 307, reference, 0);
    MUST(target == resolved && same_origin == target.same_origin(base));
    MUST(target.is_https() || !base.is_https());
}

#include "fuzz.hpp"

#include <overmount/oci/reference.hpp>

// Each form of a name reads back as the same reference.
void check(std::string_view input)
{
    using overmount::reference;
    const reference value = reference::parse(input);
    MUST(reference::parse(value.string()) == value);
    MUST(reference::parse(value.familiar()) == value);
    MUST(value.familiar().size() <= value.string().size());
    MUST(value.domain().size() + 1 + value.path().size() <= 255);
    const reference tagged = value.with_default_tag();
    MUST(tagged.tag() || tagged.digest());
    MUST(tagged.with_default_tag() == tagged);
    // It may be a part of a path or of a URL.
    MUST(value.string().find("..") == std::string::npos || value.tag());
    MUST(value.path().find("//") == std::string::npos && value.path().find('%') == std::string::npos);
}

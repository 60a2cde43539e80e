#ifndef OVERMOUNT_TAR_IMPL_PATH_IPP
#define OVERMOUNT_TAR_IMPL_PATH_IPP

#include <overmount/tar/path.hpp>

namespace overmount::OVERMOUNT_ABI::tar {

OVERMOUNT_DECL std::string normalise(std::string_view path, const limits& bounds)
{
    const auto fail = [path](errc code) { return error(code).at(stage::framing).entry(path); };
    if (path.find('\0') != std::string_view::npos)
        throw fail(errc::entry_escapes_layer);
    std::string out;
    unsigned depth = 0;
    for (std::size_t begin = 0; begin <= path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        const std::string_view part = path.substr(begin, end - begin);
        begin = end + 1;
        if (part.empty() || part == ".")
            continue;
        if (part == "..")
            throw fail(errc::entry_escapes_layer);
        if (part.size() > bounds.name_bytes + (part.starts_with(".wh.") ? 4u : 0u))
            throw fail(errc::path_too_long);
        if (++depth > bounds.path_depth)
            throw fail(errc::path_too_deep);
        if (!out.empty())
            out += '/';
        out += part;
    }
    if (out.size() > bounds.path_bytes)
        throw fail(errc::path_too_long);
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::tar

#endif

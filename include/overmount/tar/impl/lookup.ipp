#ifndef OVERMOUNT_TAR_IMPL_LOOKUP_IPP
#define OVERMOUNT_TAR_IMPL_LOOKUP_IPP

#include <overmount/core/error.hpp>
#include <overmount/tar/lookup.hpp>
#include <overmount/tar/path.hpp>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Pushes the components of a path on a stack, the first one on top. A trailing slash becomes `.`, which requires a directory.
inline void push_parts(std::vector<std::string>& stack, std::string_view path)
{
    std::vector<std::string> parts;
    for (std::size_t begin = 0; begin <= path.size();) {
        const std::size_t end = std::min(path.find('/', begin), path.size());
        if (end != begin)
            parts.emplace_back(path.substr(begin, end - begin));
        begin = end + 1;
    }
    if (path.ends_with('/'))
        parts.emplace_back(".");
    stack.insert(stack.end(), std::make_move_iterator(parts.rbegin()), std::make_move_iterator(parts.rend()));
}

OVERMOUNT_DECL const merged_tree::paths::value_type& lookup(const merged_tree::paths& in, std::string_view path, last_link last)
{
    constexpr int max_links = 40;
    const auto fail = [path](error failure) { return failure.at(stage::storage).entry(path); };
    std::vector<std::string> pending;
    push_parts(pending, path);
    const auto root = in.find("");
    auto here = root;
    for (int links = 0; !pending.empty();) {
        const std::string name = std::move(pending.back());
        pending.pop_back();
        if (here->second->entry.type != tar::entry_type::directory)
            throw fail(error::from_errno(ENOTDIR).operation("look up").subject(here->first));
        if (name == ".")
            continue;
        if (name == "..") {
            here = in.find(tar::parent_of(here->first));
            continue;
        }
        const auto below = in.find(here->first.empty() ? name : here->first + '/' + name);
        if (below == in.end())
            throw fail(error(errc::entry_not_found));
        const tar::entry& found = below->second->entry;
        if (found.type != tar::entry_type::symbolic_link || (pending.empty() && last == last_link::keep)) {
            here = below;
            continue;
        }
        if (++links > max_links)
            throw fail(error::from_errno(ELOOP).operation("look up").subject(below->first));
        if (found.link_target.empty())
            throw fail(error(errc::entry_not_found));
        if (found.link_target.starts_with('/'))
            here = root;
        push_parts(pending, found.link_target);
    }
    return *here;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

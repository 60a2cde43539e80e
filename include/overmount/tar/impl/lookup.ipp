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

namespace overmount::inline OVERMOUNT_ABI::tar {

namespace detail {

// Puts the parts of a path on a stack, the first one on top; a slash at the end as a `.`, which asks for a directory.
OVERMOUNT_LAZY inline void push_parts(std::vector<std::string>& stack, std::string_view path)
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

} // namespace detail

OVERMOUNT_LAZY_BODY const merged_tree::paths::value_type& lookup(const merged_tree::paths& in, std::string_view path, last_link last)
{
    constexpr int most_links = 40;
    const auto fail = [path](error failure) { return failure.at(stage::storage).entry(path); };
    std::vector<std::string> todo;
    detail::push_parts(todo, path);
    const auto root = in.find("");
    auto here = root;
    for (int links = 0; !todo.empty();) {
        const std::string name = std::move(todo.back());
        todo.pop_back();
        if (here->second->entry.type != entry_type::directory)
            throw fail(error::from_errno(ENOTDIR).operation("look up").subject(here->first));
        if (name == ".")
            continue;
        if (name == "..") {
            here = in.find(parent_of(here->first));
            continue;
        }
        const auto below = in.find(here->first.empty() ? name : here->first + '/' + name);
        if (below == in.end())
            throw fail(error(errc::entry_not_found));
        const entry& found = below->second->entry;
        if (found.type != entry_type::symbolic_link || (todo.empty() && last == last_link::keep)) {
            here = below;
            continue;
        }
        if (++links > most_links)
            throw fail(error::from_errno(ELOOP).operation("look up").subject(below->first));
        if (found.link_target.empty())
            throw fail(error(errc::entry_not_found));
        if (found.link_target.starts_with('/'))
            here = root;
        detail::push_parts(todo, found.link_target);
    }
    return *here;
}

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif

#ifndef OVERMOUNT_TAR_IMPL_MERGED_TREE_IPP
#define OVERMOUNT_TAR_IMPL_MERGED_TREE_IPP

#include <overmount/tar/merged_tree.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>
#include <overmount/tar/xattr_rules.hpp>

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::tar {

namespace detail {

OVERMOUNT_LAZY inline std::string joined(std::string_view above, std::string_view name)
{
    std::string out(above);
    if (!out.empty())
        out += '/';
    return out += name;
}

// Removes what is below `path`: its names lie together, between `path/` and `path0`.
template <class Paths>
void erase_below(Paths& from, const std::string& path)
{
    if (path.empty())
        from.erase(from.upper_bound(""), from.end());
    else
        from.erase(from.lower_bound(path + '/'), from.lower_bound(path + '0'));
}

OVERMOUNT_LAZY inline std::uint64_t text_bytes(const entry& one)
{
    std::uint64_t out = one.path.size() + one.link_target.size();
    for (const xattr& attribute : one.xattrs)
        out += attribute.name.size() + attribute.value.size();
    return out;
}

OVERMOUNT_LAZY [[noreturn]] inline void no_directory()
{
    throw error(errc::entry_escapes_layer).operation("open directory").detail("what is above it is no directory");
}

OVERMOUNT_LAZY [[noreturn]] inline void no_target(const entry& link)
{
    throw error(errc::missing_hard_link_target).operation("link").subject(link.link_target);
}

} // namespace detail

OVERMOUNT_LAZY_BODY merged_tree::merged_tree(const limits& bounds) : bounds_(bounds)
{
    begin_layer();
    shown_.emplace("", make_implied());
}

OVERMOUNT_LAZY_BODY void merged_tree::begin_layer()
{
    layer_.clear();
    layer_bytes_ = 0;
    known_path_.clear();
    known_parent_.clear();
    layer_[""].what = make_implied();
}

OVERMOUNT_LAZY_BODY void merged_tree::count(std::uint64_t bytes)
{
    layer_bytes_ += bytes;
    if (layer_.size() + shown_.size() > bounds_.entries || layer_bytes_ + shown_bytes_ > bounds_.tree_bytes)
        throw error(errc::too_many_entries).detail("the merged view is too large");
}

OVERMOUNT_LAZY_BODY merged_tree::node merged_tree::make_implied() const
{
    auto out = std::make_shared<merged_node>();
    out->entry.type = entry_type::directory;
    out->entry.mode = 0755;
    out->layer = layers_;
    out->implied = true;
    return out;
}

OVERMOUNT_LAZY_BODY merged_tree::node merged_tree::make_node(const located_entry& one)
{
    auto out = std::make_shared<merged_node>();
    out->entry = one.entry;
    out->offset = one.offset;
    out->layer = layers_;
    const auto unseen = [&](const xattr& attribute) {
        return !stores_xattr(attribute.name, one.entry.type) ||
               (attribute.value.empty() && attribute.name.starts_with("system."));
    };
    std::erase_if(out->entry.xattrs, unseen);
    std::sort(out->entry.xattrs.begin(), out->entry.xattrs.end(),
              [](const xattr& a, const xattr& b) { return a.name < b.name; });
    out->entry.segments.clear();
    if (one.entry.type == entry_type::symbolic_link)
        out->entry.mode = 0777;
    count(detail::text_bytes(out->entry));
    return out;
}

OVERMOUNT_LAZY_BODY void merged_tree::add(const located_entry& one)
{
    try {
        apply(one);
    } catch (error& failure) {
        if (failure.entry().empty())
            failure.entry(one.entry.path);
        if (failure.at() == stage::none)
            failure.at(stage::storage);
        throw;
    }
}

OVERMOUNT_LAZY_BODY void merged_tree::apply(const located_entry& one)
{
    const std::string path = normalise(one.entry.path, bounds_);
    if (path.empty() && one.entry.type != entry_type::directory)
        throw error(errc::entry_escapes_layer);
    if (path.empty())
        return put_directory(path, one);
    const std::string_view name = name_of(path);
    const auto what = whiteout::of(name);
    if (what.kind == whiteout_kind::malformed)
        throw error(errc::invalid_whiteout);
    if (what.kind == whiteout_kind::leftover)
        return;
    // The first part that is no ordinary name.
    for (std::size_t end = path.find('/'), begin = 0; end != std::string::npos; end = path.find('/', begin = end + 1)) {
        const auto above = whiteout::of(std::string_view(path).substr(begin, end - begin)).kind;
        if (above == whiteout_kind::leftover || above == whiteout_kind::opaque)
            return;
        if (above != whiteout_kind::none)
            throw error(errc::invalid_whiteout);
    }
    const std::string above = parent(parent_of(path), true);
    if (what.kind == whiteout_kind::opaque)
        layer_.find(above)->second.opaque = true;
    else if (what.kind == whiteout_kind::whiteout)
        put_whiteout(detail::joined(above, what.name));
    else if (one.entry.type == entry_type::directory)
        put_directory(detail::joined(above, name), one);
    else if (one.entry.type == entry_type::hard_link)
        put_hard_link(detail::joined(above, name), one.entry);
    else
        put(detail::joined(above, name), one);
}

// The directory that `path` leads to, by its own path: links of this layer are followed as in a root of its own. With
// `make`, what is missing is made.
OVERMOUNT_LAZY_BODY std::string merged_tree::parent(std::string_view path, bool make)
{
    if (path == known_path_)
        return known_parent_;
    struct part
    {
        std::string name;
        bool of_link;
    };
    std::deque<part> todo;
    const auto push_front = [&todo](std::string_view text, bool of_link) {
        for (std::size_t end = text.size(); end != std::string_view::npos;) {
            const std::size_t slash = end == 0 ? std::string_view::npos : text.rfind('/', end - 1);
            const std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
            if (const auto name = text.substr(begin, end - begin); !name.empty() && name != ".")
                todo.push_front({std::string(name), of_link});
            end = slash;
        }
    };
    push_front(path, false);
    std::string here;
    for (int links = 0; !todo.empty();) {
        const part next = std::move(todo.front());
        todo.pop_front();
        if (next.name == "..") { // only of a link's target
            here = parent_of(here);
            continue;
        }
        std::string below = detail::joined(here, next.name);
        const auto found = layer_.find(below);
        const bool there = found != layer_.end();
        if (there && found->second.what && found->second.what->entry.type == entry_type::directory) {
            here = std::move(below);
        } else if (there && found->second.what) {
            const entry& link = found->second.what->entry;
            if (link.type != entry_type::symbolic_link || ++links > 40)
                detail::no_directory();
            if (link.link_target.starts_with('/'))
                here.clear();
            push_front(link.link_target, true);
        } else {
            if (!make || next.of_link)
                detail::no_directory();
            if (below.size() > bounds_.path_bytes)
                throw error(errc::path_too_long);
            local& made = layer_[below];
            made.opaque = made.cut = there; // it takes the place of a whiteout
            made.what = make_implied();
            count(below.size());
            here = std::move(below);
        }
    }
    known_path_ = path;
    known_parent_ = here;
    return here;
}

OVERMOUNT_LAZY_BODY void merged_tree::make_room(const std::string& path)
{
    detail::erase_below(layer_, path);
    known_path_.clear();
    known_parent_.clear();
}

OVERMOUNT_LAZY_BODY void merged_tree::put(const std::string& path, const located_entry& one)
{
    make_room(path);
    layer_[path] = {make_node(one)};
    count(path.size());
}

OVERMOUNT_LAZY_BODY void merged_tree::put_directory(const std::string& path, const located_entry& one)
{
    const auto [at, fresh] = layer_.try_emplace(path);
    if (!fresh && (!at->second.what || at->second.what->entry.type != entry_type::directory)) {
        at->second.opaque = at->second.cut = true; // what it replaces has hidden all that lies below
        make_room(path);
    }
    at->second.what = make_node(one);
    count(path.size());
}

OVERMOUNT_LAZY_BODY void merged_tree::put_hard_link(const std::string& path, const entry& link)
{
    const std::string wanted = normalise(link.link_target, bounds_);
    if (wanted.empty())
        detail::no_target(link);
    std::string target;
    try {
        target = detail::joined(parent(parent_of(wanted), false), name_of(wanted));
    } catch (const error&) {
        detail::no_target(link);
    }
    const auto found = layer_.find(target);
    if (found == layer_.end() || !found->second.what || found->second.what->entry.type == entry_type::directory)
        detail::no_target(link);
    const node what = found->second.what;
    if (const auto same = layer_.find(path); same != layer_.end() && same->second.what == what)
        return;
    make_room(path); // which may take the target away
    if (!layer_.contains(target))
        detail::no_target(link);
    layer_[path] = {what};
    count(path.size());
}

OVERMOUNT_LAZY_BODY void merged_tree::put_whiteout(const std::string& path)
{
    const auto [at, fresh] = layer_.try_emplace(path);
    if (fresh)
        return count(path.size());
    // The layer has that name as well, and keeps it; only what lies below is deleted.
    if (at->second.what && at->second.what->entry.type == entry_type::directory)
        at->second.opaque = at->second.cut = true;
}

OVERMOUNT_LAZY_BODY void merged_tree::end_layer()
{
    for (auto& [path, own] : layer_) { // parents first: what is hidden goes before this layer's names come
        const bool directory = own.what && own.what->entry.type == entry_type::directory;
        auto below = shown_.find(path);
        const bool merges = directory && below != shown_.end() && below->second->entry.type == entry_type::directory;
        if (!merges || own.opaque)
            detail::erase_below(shown_, path);
        if (!own.what)
            shown_.erase(path);
        else if (!merges || own.cut || !own.what->implied)
            shown_.insert_or_assign(path, std::move(own.what));
    }
    ++layers_;
    begin_layer();
    shown_bytes_ = 0;
    for (const auto& [path, what] : shown_)
        shown_bytes_ += path.size() + detail::text_bytes(what->entry);
}

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif

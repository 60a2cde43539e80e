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

namespace overmount::OVERMOUNT_ABI::detail {

inline std::string joined(std::string_view above, std::string_view name)
{
    std::string out(above);
    if (!out.empty())
        out += '/';
    return out += name;
}

// Removes everything below `path`. Its paths are contiguous in the map: from `path/` up to `path0` ('0' follows '/').
template <class Paths>
void erase_below(Paths& from, const std::string& path)
{
    if (path.empty())
        from.erase(from.upper_bound(""), from.end());
    else
        from.erase(from.lower_bound(path + '/'), from.lower_bound(path + '0'));
}

inline std::uint64_t text_bytes(const tar::entry& one)
{
    std::uint64_t out = one.path.size() + one.link_target.size();
    for (const tar::xattr& attribute : one.xattrs)
        out += attribute.name.size() + attribute.value.size();
    return out;
}

[[noreturn]] inline void throw_not_a_directory()
{
    throw error(errc::entry_escapes_layer).operation("open directory").detail("a component of its parent path is not a directory");
}

[[noreturn]] inline void throw_missing_target(const tar::entry& link)
{
    throw error(errc::missing_hard_link_target).operation("link").subject(link.link_target);
}

OVERMOUNT_DECL merged_tree::merged_tree(const limits& bounds) : bounds_(bounds)
{
    begin_layer();
    merged_.emplace("", make_implied());
}

OVERMOUNT_DECL void merged_tree::begin_layer()
{
    layer_.clear();
    layer_bytes_ = 0;
    cached_path_.clear();
    cached_parent_.clear();
    layer_[""].what = make_implied();
}

OVERMOUNT_DECL void merged_tree::count(std::uint64_t bytes)
{
    layer_bytes_ += bytes;
    if (layer_.size() + merged_.size() > bounds_.entries || layer_bytes_ + merged_bytes_ > bounds_.tree_bytes)
        throw error(errc::too_many_entries).detail("the merged view is too large");
}

OVERMOUNT_DECL merged_tree::node merged_tree::make_implied() const
{
    auto out = std::make_shared<merged_node>();
    out->entry.type = tar::entry_type::directory;
    out->entry.mode = 0755;
    out->layer = layers_;
    out->implied = true;
    return out;
}

OVERMOUNT_DECL merged_tree::node merged_tree::make_node(const tar::located_entry& one)
{
    auto out = std::make_shared<merged_node>();
    out->entry = one.entry;
    out->offset = one.offset;
    out->layer = layers_;
    const auto not_in_mount = [&](const tar::xattr& attribute) {
        return !tar::stores_xattr(attribute.name, one.entry.type) ||
               (attribute.value.empty() && attribute.name.starts_with("system."));
    };
    std::erase_if(out->entry.xattrs, not_in_mount);
    std::sort(out->entry.xattrs.begin(), out->entry.xattrs.end(),
              [](const tar::xattr& a, const tar::xattr& b) { return a.name < b.name; });
    out->entry.segments.clear();
    if (one.entry.type == tar::entry_type::symbolic_link)
        out->entry.mode = 0777;
    count(text_bytes(out->entry));
    return out;
}

OVERMOUNT_DECL void merged_tree::add(const tar::located_entry& one)
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

OVERMOUNT_DECL void merged_tree::apply(const tar::located_entry& one)
{
    const std::string path = tar::normalise(one.entry.path, bounds_);
    if (path.empty() && one.entry.type != tar::entry_type::directory)
        throw error(errc::entry_escapes_layer);
    if (path.empty())
        return put_directory(path, one);
    const std::string_view name = tar::name_of(path);
    const auto what = tar::whiteout::of_path(path);
    if (what.kind == tar::whiteout_kind::malformed)
        throw error(errc::invalid_whiteout);
    if (what.kind == tar::whiteout_kind::leftover)
        return;
    const std::string above = parent(tar::parent_of(path), true);
    if (what.kind == tar::whiteout_kind::opaque)
        layer_.find(above)->second.opaque = true;
    else if (what.kind == tar::whiteout_kind::whiteout)
        put_whiteout(joined(above, what.name));
    else if (one.entry.type == tar::entry_type::directory)
        put_directory(joined(above, name), one);
    else if (one.entry.type == tar::entry_type::hard_link)
        put_hard_link(joined(above, name), one.entry);
    else
        put(joined(above, name), one);
}

// Resolves the directory `path` within this layer; symbolic links are followed as in a chroot. With `make`, missing
// directories are created as implied ones.
OVERMOUNT_DECL std::string merged_tree::parent(std::string_view path, bool make)
{
    if (path == cached_path_)
        return cached_parent_;
    struct part
    {
        std::string name;
        bool of_link;
    };
    std::deque<part> pending;
    const auto push_front = [&pending](std::string_view text, bool of_link) {
        for (std::size_t end = text.size(); end != std::string_view::npos;) {
            const std::size_t slash = end == 0 ? std::string_view::npos : text.rfind('/', end - 1);
            const std::size_t begin = slash == std::string_view::npos ? 0 : slash + 1;
            if (const auto name = text.substr(begin, end - begin); !name.empty() && name != ".")
                pending.push_front({std::string(name), of_link});
            end = slash;
        }
    };
    push_front(path, false);
    std::string here;
    for (int links = 0; !pending.empty();) {
        const part next = std::move(pending.front());
        pending.pop_front();
        if (next.name == "..") { // can only come from a link target
            here = tar::parent_of(here);
            continue;
        }
        std::string below = joined(here, next.name);
        const auto found = layer_.find(below);
        const bool exists = found != layer_.end();
        if (exists && found->second.what && found->second.what->entry.type == tar::entry_type::directory) {
            here = std::move(below);
        } else if (exists && found->second.what) {
            const tar::entry& link = found->second.what->entry;
            if (link.type != tar::entry_type::symbolic_link || ++links > 40)
                throw_not_a_directory();
            if (link.link_target.starts_with('/'))
                here.clear();
            push_front(link.link_target, true);
        } else {
            if (!make || next.of_link)
                throw_not_a_directory();
            if (below.size() > bounds_.path_bytes)
                throw error(errc::path_too_long);
            layer_item& made = layer_[below];
            made.opaque = made.replaced = exists; // it replaces a whiteout
            made.what = make_implied();
            count(below.size());
            here = std::move(below);
        }
    }
    cached_path_ = path;
    cached_parent_ = here;
    return here;
}

OVERMOUNT_DECL void merged_tree::remove_below(const std::string& path)
{
    erase_below(layer_, path);
    cached_path_.clear();
    cached_parent_.clear();
}

OVERMOUNT_DECL void merged_tree::put(const std::string& path, const tar::located_entry& one)
{
    remove_below(path);
    layer_[path] = {make_node(one)};
    count(path.size());
}

OVERMOUNT_DECL void merged_tree::put_directory(const std::string& path, const tar::located_entry& one)
{
    const auto [at, fresh] = layer_.try_emplace(path);
    if (!fresh && (!at->second.what || at->second.what->entry.type != tar::entry_type::directory)) {
        at->second.opaque = at->second.replaced = true; // the replaced entry has hidden everything of the layers below
        remove_below(path);
    }
    at->second.what = make_node(one);
    count(path.size());
}

OVERMOUNT_DECL void merged_tree::put_hard_link(const std::string& path, const tar::entry& link)
{
    const std::string wanted = tar::normalise(link.link_target, bounds_);
    if (wanted.empty())
        throw_missing_target(link);
    std::string target;
    try {
        target = joined(parent(tar::parent_of(wanted), false), tar::name_of(wanted));
    } catch (const error&) {
        throw_missing_target(link);
    }
    const auto found = layer_.find(target);
    if (found == layer_.end() || !found->second.what || found->second.what->entry.type == tar::entry_type::directory)
        throw_missing_target(link);
    const node what = found->second.what;
    if (const auto same = layer_.find(path); same != layer_.end() && same->second.what == what)
        return;
    remove_below(path); // may remove the target
    if (!layer_.contains(target))
        throw_missing_target(link);
    layer_[path] = {what};
    count(path.size());
}

OVERMOUNT_DECL void merged_tree::put_whiteout(const std::string& path)
{
    const auto [at, fresh] = layer_.try_emplace(path);
    if (fresh)
        return count(path.size());
    // The layer has an entry of that name, which stays; the whiteout deletes only what the layers below have.
    if (at->second.what && at->second.what->entry.type == tar::entry_type::directory)
        at->second.opaque = at->second.replaced = true;
}

OVERMOUNT_DECL void merged_tree::end_layer()
{
    for (auto& [path, own] : layer_) { // parents first: remove what a path hides before adding the paths below it
        const bool directory = own.what && own.what->entry.type == tar::entry_type::directory;
        auto below = merged_.find(path);
        const bool merges = directory && below != merged_.end() && below->second->entry.type == tar::entry_type::directory;
        if (!merges || own.opaque)
            erase_below(merged_, path);
        if (!own.what)
            merged_.erase(path);
        else if (!merges || own.replaced || !own.what->implied)
            merged_.insert_or_assign(path, std::move(own.what));
    }
    ++layers_;
    begin_layer();
    merged_bytes_ = 0;
    for (const auto& [path, what] : merged_)
        merged_bytes_ += path.size() + text_bytes(what->entry);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

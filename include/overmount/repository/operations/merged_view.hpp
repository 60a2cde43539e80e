#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_MERGED_VIEW_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_MERGED_VIEW_HPP

#include <overmount/change.hpp>
#include <overmount/io/asset_stream.hpp>
#include <overmount/repository/operations/asset_read.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/tar/merged_tree.hpp>
#include <overmount/tar/writer.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The merged file tree of a chain of layers, and the diffs that its nodes refer to.
struct merged_view
{
    merged_tree tree;
    std::vector<diff_id> diffs; // lowest first
};

template <packable_storage Storage>
[[nodiscard]] merged_view load_view(const repository_state<Storage>& repository, std::vector<diff_id> diffs, const stop_flag& stop)
{
    limits bounds = kept_limits();
    bounds.entries = repository.bounds.entries;
    bounds.tree_bytes = repository.bounds.tree_bytes;
    merged_view out{merged_tree(bounds), std::move(diffs)};
    for (const diff_id& diff : out.diffs) {
        repository.require_believed(diff);
        try {
            auto entries = entries_of(repository.storage, diff);
            for (tar::located_entry one; entries.next(one);) {
                stop.throw_if_stopped();
                out.tree.add(one);
            }
            out.tree.end_layer();
        } catch (error& failure) {
            if (failure.layer().empty())
                failure.layer(diff.string());
            throw;
        }
    }
    return out;
}
template <packable_storage Storage>
[[nodiscard]] merged_view load_view(const repository_state<Storage>& repository, const std::optional<chain_id>& top,
                                    const stop_flag& stop)
{
    return load_view(repository, repository.diffs_of(top), stop);
}

// Makes the entries of a tar that has the whole view. Of several hard links, the first path has the data.
class view_entries
{
public:
    using item = merged_tree::paths::value_type;

    OVERMOUNT_LAZY explicit view_entries(const merged_tree& tree)
    {
        for (const auto& [path, what] : tree.items())
            if (what->entry.type != tar::entry_type::directory)
                first_names_.try_emplace(what.get(), &path);
    }
    // The entry for one path of the view; the root is `.`.
    OVERMOUNT_LAZY [[nodiscard]] tar::entry of(const item& one) const
    {
        const auto& [path, what] = one;
        tar::entry out = what->entry;
        out.path = path.empty() ? "." : path;
        out.sparse = false;
        if (out.type != tar::entry_type::directory && *first_names_.at(what.get()) != path) {
            out.type = tar::entry_type::hard_link;
            out.link_target = *first_names_.at(what.get());
            out.size = 0;
            out.xattrs.clear();
        }
        return out;
    }
    // Whether this is the root and no layer has an entry for it.
    OVERMOUNT_LAZY [[nodiscard]] static bool is_implied_root(const item& one) { return one.first.empty() && one.second->implied; }

private:
    std::unordered_map<const merged_node*, const std::string*> first_names_;
};

// A file of an unpacked diff.
class unpacked_file final : public asset_stream::source
{
public:
    OVERMOUNT_LAZY unpacked_file(const lower_directory& in, const diff_id& id, const std::string& path, std::uint64_t size)
        : layer_(id.string()), path_(path), left_(size)
    {
        file_ = open_in_root(in.fd->get(), path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        struct stat status;
        if (!file_ && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
            throw_errno("open", path);
        if (!file_ || ::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
            static_cast<std::uint64_t>(status.st_size) != size)
            changed();
    }
    std::size_t read(std::span<std::byte> into) override
    {
        if (left_ == 0)
            return 0;
        into = into.first(static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), left_)));
        const std::size_t count = read_some(file_.get(), into, "read", path_);
        if (count == 0)
            changed();
        left_ -= count;
        return count;
    }

private:
    OVERMOUNT_LAZY [[noreturn]] void changed() const
    {
        throw error(errc::diff_changed).at(stage::storage).layer(layer_).entry(path_);
    }

    std::string layer_, path_;
    std::uint64_t left_;
    unique_fd file_;
};

// Opens a regular file of a view: in the diff's directory if the storage unpacks diffs, else in its tar.
template <packable_storage Storage>
[[nodiscard]] std::shared_ptr<asset_stream::source>
open_merged(std::shared_ptr<repository_state<Storage>> owner, const merged_view& view, const std::string& path,
            const merged_node& file, const stop_flag& stop)
{
    const diff_id& id = view.diffs[file.layer];
    if constexpr (mountable_storage<Storage>) {
        return new_shared<unpacked_file>(owner->storage.lower(id), id, path, file.entry.size);
    } else {
        tar::located_entry found;
        found.entry = file.entry;
        found.offset = file.offset;
        return open_file(std::move(owner), id, found, stop);
    }
}

OVERMOUNT_LAZY [[nodiscard]] inline bool same_attributes(const tar::entry& one, const tar::entry& two)
{
    using tar::entry_type;
    if (one.type != two.type || one.mode != two.mode || one.uid != two.uid || one.gid != two.gid ||
        one.mtime != two.mtime || one.xattrs != two.xattrs)
        return false;
    switch (one.type) {
    case entry_type::regular: return one.size == two.size;
    case entry_type::symbolic_link: return one.link_target == two.link_target;
    case entry_type::character_device:
    case entry_type::block_device:
        return one.device_major == two.device_major && one.device_minor == two.device_minor;
    default: return true;
    }
}

OVERMOUNT_LAZY
[[nodiscard]] inline bool same_bytes(asset_stream::source& one, asset_stream::source& two, const stop_flag& stop)
{
    constexpr std::size_t size = 64 << 10;
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(2 * size);
    const auto fill = [&](asset_stream::source& from, std::byte* to) {
        std::size_t done = 0;
        while (done < size)
            if (const std::size_t count = from.read({to + done, size - done}))
                done += count;
            else
                break;
        return std::span<const std::byte>(to, done);
    };
    for (;;) {
        stop.throw_if_stopped();
        const auto a = fill(one, buffer.get()), b = fill(two, buffer.get() + size);
        if (!std::equal(a.begin(), a.end(), b.begin(), b.end()))
            return false;
        if (a.empty())
            return true;
    }
}

// Compares two views of one repository. Runs on a worker thread.
template <packable_storage Storage>
class view_comparison
{
public:
    view_comparison(std::shared_ptr<repository_state<Storage>> owner, const std::optional<chain_id>& from,
                    const std::optional<chain_id>& to, const stop_flag& stop)
        : owner_(std::move(owner)), from_(load_view(*owner_, from, stop)), to_(load_view(*owner_, to, stop)), stop_(stop)
    {
    }

    [[nodiscard]] std::vector<change> run() const
    {
        std::vector<change> out;
        const auto& old = from_.tree.items();
        const auto& now = to_.tree.items();
        auto before = old.begin(), after = now.begin();
        while (before != old.end() || after != now.end()) {
            stop_.throw_if_stopped();
            if (after == now.end() || (before != old.end() && before->first < after->first)) {
                out.push_back({change_kind::removed, before->first, before->second->entry.type});
                ++before;
            } else if (before == old.end() || after->first < before->first) {
                out.push_back({change_kind::added, after->first, after->second->entry.type});
                ++after;
            } else {
                if (!same(after->first, *before->second, *after->second))
                    out.push_back({change_kind::changed, after->first, after->second->entry.type});
                ++before;
                ++after;
            }
        }
        return out;
    }

private:
    [[nodiscard]] bool same(const std::string& path, const merged_node& one, const merged_node& two) const
    {
        if (!one.implied && !two.implied && one.offset == two.offset && from_.diffs[one.layer] == to_.diffs[two.layer])
            return true;
        if (!same_attributes(one.entry, two.entry))
            return false;
        if (one.entry.type != tar::entry_type::regular || one.entry.size == 0)
            return true;
        const auto a = open_merged(owner_, from_, path, one, stop_), b = open_merged(owner_, to_, path, two, stop_);
        return same_bytes(*a, *b, stop_);
    }

    std::shared_ptr<repository_state<Storage>> owner_;
    merged_view from_, to_;
    const stop_flag& stop_;
};

// One tar of a whole view, ordered by path. Of several hard links, the first path has the data. The same view always gives the same
// bytes. Directories without an entry in any layer get one here, except the root.
template <packable_storage Storage>
class flat_tar final : public asset_stream::source
{
public:
    flat_tar(std::shared_ptr<repository_state<Storage>> owner, merged_view view)
        : owner_(std::move(owner)), view_(std::move(view)), entries_(view_.tree), next_(view_.tree.items().begin())
    {
        if (view_entries::is_implied_root(*next_))
            ++next_;
    }

    // The size of the whole tar. Builds all headers, so it runs on a worker thread.
    [[nodiscard]] std::uint64_t size(const stop_flag& stop) const
    {
        std::uint64_t out = tar::end_marker().size();
        for (auto at = next_; at != view_.tree.items().end(); ++at) {
            stop.throw_if_stopped();
            const tar::entry made = entries_.of(*at);
            const std::uint64_t data = made.type == tar::entry_type::regular ? made.size : 0;
            out += tar::make_header(made).size() + data + tar::zeros_behind(data).size();
        }
        return out;
    }

    std::size_t read(std::span<std::byte> into) override
    {
        if (done_ == text_.size() && !file_ && !advance())
            return 0;
        if (done_ == text_.size()) {
            if (const std::size_t count = file_->read(into))
                return count;
            file_.reset();
            text_ = tar::zeros_behind(file_size_);
            done_ = 0;
            return read(into); // recurses once: there is no file now
        }
        const std::size_t count = std::min(into.size(), text_.size() - done_);
        const auto piece = std::as_bytes(std::span(text_)).subspan(done_, count);
        std::copy(piece.begin(), piece.end(), into.begin());
        done_ += count;
        return count;
    }

private:
    // Prepares the next header and opens the file whose data follow it; false at the end.
    bool advance()
    {
        if (over_)
            return false;
        done_ = 0;
        over_ = next_ == view_.tree.items().end();
        if (over_) {
            text_ = tar::end_marker();
            return true;
        }
        const tar::entry made = entries_.of(*next_);
        text_ = tar::make_header(made);
        if (made.type == tar::entry_type::regular && made.size != 0) {
            file_ = open_merged(owner_, view_, next_->first, *next_->second, stop_flag());
            file_size_ = made.size;
        }
        ++next_;
        return true;
    }

    std::shared_ptr<repository_state<Storage>> owner_;
    merged_view view_;
    view_entries entries_;
    merged_tree::paths::const_iterator next_;
    std::string text_; // a header, padding, or the end marker
    std::size_t done_ = 0;
    std::shared_ptr<asset_stream::source> file_;
    std::uint64_t file_size_ = 0;
    bool over_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

// Lists and reads the content of a stored diff.
#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_ASSET_READ_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_ASSET_READ_HPP

#include <overmount/io/asset_stream.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/tar/entry_walk.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>
#include <overmount/unpack/layer_input.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Reads a stored tar from its beginning. `Interface` is the base class of byte sources that it implements.
template <class Interface, packable_storage Storage>
class stored_tar final : public Interface
{
public:
    stored_tar(std::shared_ptr<repository_state<Storage>> owner, const diff_id& id)
        : owner_(std::move(owner)), reader_(owner_->storage.pack(id))
    {
    }
    std::size_t read(std::span<std::byte> into) override { return reader_.read(into); }

private:
    std::shared_ptr<repository_state<Storage>> owner_;
    typename Storage::reader reader_;
};

// Reads one file of a tar, with zeros in its holes. The walk's current entry is the file's.
template <packable_storage Storage>
class member_source final : public asset_stream::source
{
public:
    using walk = entry_walk<typename Storage::reader>;

    member_source(std::shared_ptr<repository_state<Storage>> owner, walk at)
        : owner_(std::move(owner)), walk_(std::move(at)), size_(walk_.entry().size)
    {
    }
    std::size_t read(std::span<std::byte> into) override
    {
        if (unread_.empty() && !over_) {
            const auto piece = walk_.data();
            unread_ = piece.bytes;
            over_ = unread_.empty();
            begin_ = over_ ? size_ : piece.offset;
        }
        const bool hole = position_ < begin_;
        const std::uint64_t available = hole ? begin_ - position_ : unread_.size();
        const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), available));
        if (hole) {
            std::fill_n(into.begin(), count, std::byte{0});
        } else {
            std::copy_n(unread_.begin(), count, into.begin());
            unread_ = unread_.subspan(count);
            begin_ += count;
        }
        position_ += count;
        return count;
    }

private:
    std::shared_ptr<repository_state<Storage>> owner_;
    walk walk_;
    std::uint64_t size_, position_ = 0;
    std::uint64_t begin_ = 0;           // offset of the next data in the file
    std::span<const std::byte> unread_; // the rest of the current piece of data
    bool over_ = false;                 // there are no more data
};

// A source of an asset stream, as the input of a decode step.
class asset_input final : public layer_input
{
public:
    explicit asset_input(std::shared_ptr<asset_stream::source> from) : from_(std::move(from)) {}
    [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) override { return from_->read(into); }

private:
    std::shared_ptr<asset_stream::source> from_;
};

template <packable_storage Storage>
[[nodiscard]] auto entries_of(const Storage& storage, const diff_id& id)
{
    if constexpr (indexed_storage<Storage>)
        return storage.entries(id);
    else
        return entry_walk<typename Storage::reader>(storage.pack(id), kept_limits());
}

// Whether the path is not a whiteout.
[[nodiscard]] inline bool is_ordinary(std::string_view path) noexcept
{
    return tar::whiteout::of_path(path).kind == tar::whiteout_kind::none;
}

// The entry that has the content of the regular file `path`: the last one of that name, or, if that is a hard link, the file that its
// target was at that point of the tar.
template <packable_storage Storage>
[[nodiscard]] tar::located_entry find_file(const Storage& storage, const diff_id& id, std::string_view path,
                                           const stop_flag& stop)
{
    const limits bounds = kept_limits();
    constexpr int max_links = 40; // each costs a pass over the tar
    std::string wanted = tar::normalise(path, bounds);
    std::uint64_t before = ~std::uint64_t{0};
    for (int links = 0; links < max_links; ++links) {
        std::optional<tar::located_entry> found;
        auto entries = entries_of(storage, id);
        for (tar::located_entry one; entries.next(one) && one.offset < before;) {
            stop.throw_if_stopped();
            const std::string name = tar::normalise(one.entry.path, bounds);
            const bool link = one.entry.type == tar::entry_type::hard_link;
            if (name == wanted && is_ordinary(name)) {
                if (!link || tar::normalise(one.entry.link_target, bounds) != wanted)
                    found = one; // ignore a link to itself
            } else if (found && one.entry.type != tar::entry_type::directory && is_ordinary(name) &&
                       wanted.starts_with(name + "/")) {
                found.reset(); // a directory above was replaced by another type
            }
        }
        if (!found)
            throw error(links == 0 ? errc::entry_not_found : errc::missing_hard_link_target)
                .at(stage::storage)
                .layer(id.string())
                .entry(path)
                .subject(links == 0 ? std::string() : wanted);
        if (found->entry.type == tar::entry_type::regular)
            return std::move(*found);
        if (found->entry.type != tar::entry_type::hard_link)
            throw error(errc::not_a_regular_file).at(stage::storage).layer(id.string()).entry(path);
        wanted = tar::normalise(found->entry.link_target, bounds);
        before = found->offset;
    }
    throw error(errc::not_a_regular_file)
        .at(stage::storage)
        .layer(id.string())
        .entry(path)
        .detail("it is a chain of more than " + std::to_string(max_links) + " hard links");
}

template <packable_storage Storage>
[[nodiscard]] std::shared_ptr<asset_stream::source>
open_file(std::shared_ptr<repository_state<Storage>> owner, const diff_id& id, const tar::located_entry& file,
          const stop_flag& stop)
{
    auto reader = owner->storage.pack(id);
    std::uint64_t begin = 0;
    if constexpr (indexed_storage<Storage>) {
        begin = file.offset;
        reader.seek(begin);
    }
    entry_walk<typename Storage::reader> walk(std::move(reader), kept_limits());
    while (walk.next()) {
        stop.throw_if_stopped();
        if (begin + walk.offset() < file.offset)
            continue;
        if (walk.entry().path != file.entry.path || walk.entry().size != file.entry.size)
            break;
        return new_shared<member_source<Storage>>(std::move(owner), std::move(walk));
    }
    throw error(errc::invalid_asset).at(stage::storage).layer(id.string()).entry(file.entry.path);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

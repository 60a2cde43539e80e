#ifndef OVERMOUNT_STORAGE_IMPL_VIRTUAL_STORAGE_IPP
#define OVERMOUNT_STORAGE_IMPL_VIRTUAL_STORAGE_IPP

#include <overmount/runtime/new_shared.hpp>
#include <overmount/storage/virtual_storage.hpp>
#include <overmount/tar/comparer.hpp>
#include <overmount/tar/entry_walk.hpp>
#include <overmount/tar/index.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <optional>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

inline file_range stored_file(unique_fd fd)
{
    struct stat status;
    checked(::fstat(fd.get(), &status), "stat");
    if (!S_ISREG(status.st_mode)) // on some file systems a directory has a size like a file
        throw error(errc::invalid_asset).at(stage::storage).detail("the stored file is not a regular file");
    return {new_shared<const unique_fd>(std::move(fd)), 0, static_cast<std::uint64_t>(status.st_size)};
}

} // namespace detail

// Writes `layer.tar` and `index` in `<staging>/<name>/`, and at the end `diff.json`.
struct virtual_storage::writer::state
{
    state(const detail::diff_directory& diffs, const write_context& context)
        : place(diffs.place()), staging(context.staging()), name(context.name()), bounds(context.bounds()),
          frames(bounds)
    {
        detail::make_directory(staging, name, 0700);
        directory = detail::open_directory(staging, name);
        tar = make("layer.tar");
        index_file = make("index");
        index.emplace(index_file.get());
        record.form = form();
        record.sync = place.sync();
        record.boot = diffs.boot();
    }

    [[nodiscard]] unique_fd make(const char* file) const
    {
        return unique_fd(detail::checked(
            ::openat(directory.get(), file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600), "create",
            file));
    }
    void take_entry();
    void check_entry(const tar::entry& entry);
    void close(unique_fd& file) const;

    storage_place place;
    int staging;
    std::string name;
    limits bounds;
    unique_fd directory, tar, index_file;
    tar::framing frames;
    detail::comparer libarchive;
    std::optional<detail::index_writer> index;
    diff_record record;
};

OVERMOUNT_DECL virtual_storage::writer::writer(std::unique_ptr<state> implementation) noexcept
    : state_(std::move(implementation))
{
}
OVERMOUNT_DECL virtual_storage::writer::writer(writer&&) noexcept = default;
OVERMOUNT_DECL virtual_storage::writer& virtual_storage::writer::operator=(writer&&) noexcept = default;
OVERMOUNT_DECL virtual_storage::writer::~writer() = default;

// Refuses each entry that unpacking would refuse by itself, without regard to other entries. Readers of the tar rely on it.
OVERMOUNT_DECL void virtual_storage::writer::state::check_entry(const tar::entry& entry)
{
    const std::string path = tar::normalise(entry.path, bounds);
    if (path.empty() && entry.type != tar::entry_type::directory)
        throw error(errc::entry_escapes_layer);
    record.implied_root = record.implied_root && !path.empty();
    record.opaque_root = record.opaque_root || path == ".wh..wh..opq";
    const tar::whiteout_kind kind = tar::whiteout::of_path(path).kind;
    if (kind == tar::whiteout_kind::malformed)
        throw error(errc::invalid_whiteout);
    if (kind != tar::whiteout_kind::none)
        return; // a whiteout is not stored under its own name, so the checks below do not apply
    const std::string& target = entry.link_target;
    if (entry.type == tar::entry_type::hard_link && tar::normalise(target, bounds).empty())
        throw error(errc::missing_hard_link_target).operation("link").subject(target);
    if (entry.type == tar::entry_type::symbolic_link) {
        if (target.empty() || target.find('\0') != std::string::npos)
            throw error(errc::entry_escapes_layer).operation("symlink");
        if (target.size() > bounds.path_bytes)
            throw error(errc::path_too_long).operation("symlink");
    }
    if (entry.type == tar::entry_type::character_device && entry.device_major == 0 && entry.device_minor == 0)
        throw error(errc::unsupported_entry_type).operation("mknod").detail("overlayfs would take a character device 0:0 for a whiteout");
}

OVERMOUNT_DECL void virtual_storage::writer::state::take_entry()
{
    const tar::entry& entry = frames.entry();
    try {
        libarchive.compare(entry, frames.header_blocks(), frames.skippable());
        check_entry(entry);
        tar::located_entry found;
        found.entry = entry;
        found.offset = frames.stream_offset() - frames.header_blocks().size();
        index->add(found);
    } catch (error& failure) {
        if (failure.entry().empty())
            failure.entry(entry.path);
        if (failure.at() == stage::none)
            failure.at(stage::storage);
        throw;
    }
}

OVERMOUNT_DECL void virtual_storage::writer::write(std::span<const std::byte> bytes)
{
    // Check the bytes before they are written: a tar that is refused takes no disk space.
    std::span<const std::byte> rest = bytes;
    for (auto found = tar::event::entry; found != tar::event::need_input;) {
        found = state_->frames.next(rest);
        if (found == tar::event::entry)
            state_->take_entry();
    }
    detail::write_all(state_->tar.get(), bytes);
}

OVERMOUNT_DECL void virtual_storage::writer::state::close(unique_fd& file) const
{
    if (place.sync() == durability::full)
        detail::checked(::fsync(file.get()), "fsync");
    file.reset();
}

OVERMOUNT_DECL diff_record virtual_storage::writer::finish()
{
    state& mine = *state_;
    mine.frames.finish();
    mine.record.entries = mine.frames.entries();
    mine.record.bytes = mine.frames.stream_offset();
    mine.index->finish(mine.record.bytes);
    mine.close(mine.tar);
    mine.close(mine.index_file);
    detail::diff_directory::write_record(mine.place, mine.directory.get(), mine.record);
    mine.directory.reset(); // do not hold a descriptor: many layers may be finished before the first one is published
    return mine.record;
}

OVERMOUNT_DECL void virtual_storage::writer::rewrite(const diff_record& record)
{
    detail::diff_directory::rewrite(state_->staging, state_->name, record);
}

OVERMOUNT_DECL bool virtual_storage::writer::publish(const diff_id& id)
{
    return detail::diff_directory::publish(state_->place, state_->staging, state_->name, id);
}

OVERMOUNT_DECL void virtual_storage::writer::replace(const diff_id& id)
{
    detail::diff_directory::replace(state_->place, state_->staging, state_->name, id);
}

OVERMOUNT_DECL virtual_storage::writer virtual_storage::create(const write_context& context)
{
    return writer(std::make_unique<writer::state>(diffs_, context));
}

OVERMOUNT_DECL virtual_storage::reader virtual_storage::pack(const diff_id& id) const
{
    return reader(detail::stored_file(diffs_.open(id, "layer.tar")));
}

// Exactly one of the two is set.
struct virtual_storage::entry_reader::state
{
    std::optional<detail::index_reader> by_index;
    std::optional<detail::entry_walk<reader>> by_tar;
};

OVERMOUNT_DECL virtual_storage::entry_reader::entry_reader(std::unique_ptr<state> implementation) noexcept
    : state_(std::move(implementation))
{
}
OVERMOUNT_DECL virtual_storage::entry_reader::entry_reader(entry_reader&&) noexcept = default;
OVERMOUNT_DECL virtual_storage::entry_reader& virtual_storage::entry_reader::operator=(entry_reader&&) noexcept = default;
OVERMOUNT_DECL virtual_storage::entry_reader::~entry_reader() = default;

OVERMOUNT_DECL bool virtual_storage::entry_reader::next(tar::located_entry& into)
{
    return state_->by_index ? state_->by_index->next(into) : state_->by_tar->next(into);
}

OVERMOUNT_DECL virtual_storage::entry_reader virtual_storage::entries(const diff_id& id) const
{
    reader whole = pack(id);
    auto out = std::make_unique<entry_reader::state>();
    try {
        const auto index = detail::stored_file(diffs_.open(id, "index"));
        out->by_index = detail::index_reader::open(index, whole.bytes_.size());
    } catch (const error& failure) {
        if (failure.code() != errc::layer_not_found)
            throw;
    }
    if (!out->by_index)
        out->by_tar.emplace(std::move(whole), detail::kept_limits());
    return entry_reader(std::move(out));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

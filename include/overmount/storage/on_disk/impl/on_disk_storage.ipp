#ifndef OVERMOUNT_STORAGE_ON_DISK_IMPL_ON_DISK_STORAGE_IPP
#define OVERMOUNT_STORAGE_ON_DISK_IMPL_ON_DISK_STORAGE_IPP

#include <overmount/codec/crc32c.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/storage/on_disk/extractor.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/tar/comparer.hpp>
#include <overmount/tar/framing.hpp>
#include <overmount/tar/recipe.hpp>

#include <fcntl.h>

#include <cerrno>
#include <optional>
#include <utility>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

inline int create_file(int directory, const char* name)
{
    constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    return checked(::openat(directory, name, flags, 0600), "create", name);
}

} // namespace detail

// Writes `rootfs` and `recipe` in `<staging>/<name>/`, `aside` if an entry replaced files, and at the end `diff.json`.
struct on_disk_storage::writer::state
{
    state(const detail::diff_directory& diffs, const write_context& context)
        : place(diffs.place()), staging(context.staging()), name(context.name()), boot_id(diffs.boot()),
          frames(context.bounds())
    {
        detail::make_directory(staging, name, 0700);
        directory = detail::open_directory(staging, name);
        detail::make_directory(directory.get(), "rootfs", 0700);
        rootfs = detail::open_directory(directory.get(), "rootfs");
        recipe_file.reset(detail::create_file(directory.get(), "recipe"));
        recipe.emplace([this](std::span<const std::byte> bytes) { detail::write_all(recipe_file.get(), bytes); });
        files.emplace(rootfs.get(), directory.get(), context.bounds(), place.sync() == durability::full);
        files->keep_replaced([this](std::string_view path) { recipe->moved(path); });
    }

    bool next(std::span<const std::byte>& bytes);
    void take(tar::event event, std::span<const std::byte> consumed);
    void begin();
    void take_data();
    void finish_recipe();

    storage_place place;
    int staging;
    std::string name, boot_id;
    unique_fd directory, rootfs, recipe_file;
    tar::framing frames;
    detail::comparer libarchive;
    std::optional<detail::extractor> files;
    std::optional<detail::recipe_writer> recipe;
    std::uint64_t data_left = 0; // of the current file
    detail::crc32c data_sum;
};

OVERMOUNT_DECL on_disk_storage::writer::writer(std::unique_ptr<state> implementation) noexcept
    : state_(std::move(implementation))
{
}
OVERMOUNT_DECL on_disk_storage::writer::writer(writer&&) noexcept = default;
OVERMOUNT_DECL on_disk_storage::writer& on_disk_storage::writer::operator=(writer&&) noexcept = default;
OVERMOUNT_DECL on_disk_storage::writer::~writer() = default;

OVERMOUNT_DECL void on_disk_storage::writer::state::begin()
{
    libarchive.compare(frames.entry(), frames.header_blocks(), frames.skippable());
    files->begin(frames.entry());
    data_left = frames.entry().stored_size;
    data_sum = detail::crc32c();
    if (data_left != 0 && !files->file_path().empty())
        recipe->file(files->file_path(), frames.entry().size);
}

OVERMOUNT_DECL void on_disk_storage::writer::state::take_data()
{
    const auto data = frames.data();
    files->data(frames.data_offset(), data);
    if (files->file_path().empty()) // the entry is a whiteout
        return recipe->bytes(data);
    recipe->piece(frames.data_offset(), data.size());
    data_sum.update(data);
    if ((data_left -= data.size()) == 0)
        recipe->end_file(data_sum.value());
}

// Handles one event of the tar. `consumed` are the bytes that were read for it.
OVERMOUNT_DECL void on_disk_storage::writer::state::take(tar::event event, std::span<const std::byte> consumed)
{
    try {
        if (event != tar::event::data)
            recipe->bytes(consumed);
        if (event == tar::event::entry)
            begin();
        else if (event == tar::event::data)
            take_data();
        else if (event == tar::event::entry_end)
            files->end();
    } catch (error& failure) {
        if (failure.entry().empty())
            failure.entry(frames.entry().path);
        if (failure.at() == stage::none)
            failure.at(stage::extract);
        throw;
    }
}

// Handles the next event of the tar; false if `bytes` is used up.
OVERMOUNT_DECL bool on_disk_storage::writer::state::next(std::span<const std::byte>& bytes)
{
    const auto before = bytes;
    const tar::event event = frames.next(bytes);
    take(event, before.first(before.size() - bytes.size()));
    return event != tar::event::need_input;
}

OVERMOUNT_DECL void on_disk_storage::writer::write(std::span<const std::byte> bytes)
{
    const detail::exact_modes of_entries; // files are created with their final modes and need no chmod
    state_->files->write_immediately();
    while (state_->next(bytes)) {
    }
}

OVERMOUNT_DECL bool on_disk_storage::writer::write_part(std::span<const std::byte>& bytes, deferred& work)
{
    const detail::exact_modes of_entries;
    state_->files->defer_to(work.files_);
    while (!work.files_.full())
        if (!state_->next(bytes))
            return true;
    return false;
}

OVERMOUNT_DECL void on_disk_storage::writer::state::finish_recipe()
{
    recipe->finish();
    recipe.reset();
    if (place.sync() == durability::full)
        detail::checked(::fsync(recipe_file.get()), "fsync", "recipe");
    recipe_file.reset();
}

OVERMOUNT_DECL diff_record on_disk_storage::writer::finish()
{
    state_->frames.finish();
    detail::tree_notes notes;
    try {
        notes = state_->files->finish();
        state_->finish_recipe();
    } catch (error& failure) {
        failure.at(stage::extract);
        throw;
    }
    state_->files.reset();

    diff_record record;
    record.form = form();
    record.xattrs = "trusted";
    record.sync = state_->place.sync();
    record.boot = state_->boot_id;
    record.entries = state_->frames.entries();
    record.bytes = state_->frames.stream_offset();
    record.implied_root = notes.implied_root;
    record.opaque_root = notes.opaque_root;
    record.skipped_xattrs = notes.skipped_xattrs;
    record.implied = std::move(notes.implied);
    record.whiteout_directories = std::move(notes.whiteout_directories);
    detail::diff_directory::write_record(state_->place, state_->directory.get(), record);
    // Do not hold descriptors: many layers may be finished before the first one is published.
    state_->rootfs.reset();
    state_->directory.reset();
    return record;
}

OVERMOUNT_DECL void on_disk_storage::writer::rewrite(const diff_record& record)
{
    detail::diff_directory::rewrite(state_->staging, state_->name, record);
}

OVERMOUNT_DECL bool on_disk_storage::writer::publish(const diff_id& id)
{
    return detail::diff_directory::publish(state_->place, state_->staging, state_->name, id);
}

OVERMOUNT_DECL void on_disk_storage::writer::replace(const diff_id& id)
{
    detail::diff_directory::replace(state_->place, state_->staging, state_->name, id);
}

OVERMOUNT_DECL on_disk_storage::writer on_disk_storage::create(const write_context& context)
{
    return writer(std::make_unique<writer::state>(diffs_, context));
}

OVERMOUNT_DECL lower_directory on_disk_storage::lower(const diff_id& id) const
{
    const std::string path = detail::directory_of(id) + "/rootfs";
    auto fd = detail::new_shared<unique_fd>(
        ::openat(diffs_.place().diffs(), path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!*fd && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
        detail::throw_errno("open directory", path);
    if (!*fd)
        throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
    return {std::move(fd), path};
}

} // namespace overmount::OVERMOUNT_ABI

#endif

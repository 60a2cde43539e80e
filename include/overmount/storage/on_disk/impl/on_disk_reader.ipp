// on_disk_storage::reader: reproduces the tar of a diff.
#ifndef OVERMOUNT_STORAGE_ON_DISK_IMPL_ON_DISK_READER_IPP
#define OVERMOUNT_STORAGE_ON_DISK_IMPL_ON_DISK_READER_IPP

#include <overmount/codec/crc32c.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/recipe.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

// The files and directories that were moved to `aside/` while the layer was unpacked, and where each file is now.
class moved_files
{
public:
    // Reads a recipe to its end. Each move in it must exist in `aside`, so that a damaged recipe cannot use more memory than
    // there are files on disk.
    void read(detail::recipe_reader recipe, int aside)
    {
        std::uint64_t files = 0;
        for (auto step = recipe.next(); step != detail::recipe_step::end; step = recipe.next()) {
            if (step == detail::recipe_step::file)
                ++files;
            if (step != detail::recipe_step::moved)
                continue;
            if (!exists(aside, std::to_string(moves_count_)))
                throw error(errc::diff_changed).entry(recipe.path()).detail("a file that the tar replaces is missing in aside/");
            moves_[recipe.path()].push_back({files, moves_count_++});
        }
    }

    // The path below `aside` of the recipe's file number `file`; empty if it was not moved.
    [[nodiscard]] std::string find(const std::string& path, std::uint64_t file) const
    {
        const move* first = nullptr;
        std::size_t end_of_first = 0;
        for (std::size_t end = 0; !moves_.empty() && end != std::string::npos;) {
            end = path.find('/', end + 1);
            const auto found = moves_.find(path.substr(0, end));
            if (found == moves_.end())
                continue;
            const auto later = std::upper_bound(found->second.begin(), found->second.end(), file,
                                                [](auto wanted, const move& one) { return wanted < one.files_before; });
            if (later != found->second.end() && (first == nullptr || later->number < first->number)) {
                first = &*later;
                end_of_first = std::min(end, path.size());
            }
        }
        return first == nullptr ? "" : std::to_string(first->number) + path.substr(end_of_first);
    }

private:
    struct move
    {
        std::uint64_t files_before, number;
    };
    std::map<std::string, std::vector<move>> moves_;
    std::uint64_t moves_count_ = 0;
};

} // namespace detail

struct on_disk_storage::reader::state
{
    state(int diffs, const std::string& path, const diff_id& id);

    [[nodiscard]] detail::recipe_reader read_recipe() const
    {
        return detail::recipe_reader([fd = recipe_file.get()](std::span<std::byte> into) {
            return detail::read_some(fd, into, "read recipe");
        });
    }
    [[noreturn]] void changed(const char* how) const
    {
        throw error(errc::diff_changed).at(stage::storage).layer(layer).entry(recipe->path()).detail(how);
    }
    bool advance();
    std::size_t take(std::span<std::byte> into);
    void open_parent(int top, const std::string& path);
    void open_file();

    std::string layer;
    unique_fd directory, rootfs, aside, recipe_file;
    detail::moved_files moved;
    std::optional<detail::recipe_reader> recipe;
    std::uint64_t files = 0;
    bool over = false, in_file = false;

    // The parent directory of the last file.
    unique_fd parent;
    int parent_top = -1;
    std::string parent_path;

    unique_fd file;
    std::uint64_t offset = 0, left = 0; // the current piece of `file`
    detail::crc32c sum;
    std::span<const std::byte> bytes;   // or bytes of the recipe itself
};

OVERMOUNT_DECL on_disk_storage::reader::state::state(int diffs, const std::string& path, const diff_id& id)
    : layer(id.string())
{
    constexpr int directory_flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    directory.reset(::openat(diffs, path.c_str(), directory_flags));
    if (!directory && errno == ENOENT)
        throw error(errc::layer_not_found);
    detail::checked(directory.get(), "open directory");
    rootfs.reset(detail::checked(::openat(directory.get(), "rootfs", directory_flags), "open directory", "rootfs"));
    recipe_file.reset(::openat(directory.get(), "recipe", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!recipe_file && errno == ENOENT)
        throw error(errc::missing_recipe).detail("it was unpacked by an older version: import it again");
    detail::checked(recipe_file.get(), "open", "recipe");
    aside.reset(::openat(directory.get(), "aside", directory_flags));
    if (!aside && errno != ENOENT)
        detail::throw_errno("open directory", "aside");
    if (aside) {
        moved.read(read_recipe(), aside.get());
        if (::lseek(recipe_file.get(), 0, SEEK_SET) != 0)
            detail::throw_errno("seek", "recipe");
    }
    recipe.emplace(read_recipe());
}

OVERMOUNT_DECL void on_disk_storage::reader::state::open_parent(int top, const std::string& path)
{
    if (parent && parent_top == top && parent_path == path)
        return;
    parent = detail::open_in_root(top, path, O_PATH | O_DIRECTORY);
    if (!parent && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP || errno == EXDEV))
        changed("its parent directory is missing");
    detail::checked(parent.get(), "open directory");
    parent_top = top;
    parent_path = path;
}

OVERMOUNT_DECL void on_disk_storage::reader::state::open_file()
{
    in_file = true;
    sum = detail::crc32c();
    const std::string aside_path = moved.find(recipe->path(), files++);
    const std::string& path = aside_path.empty() ? recipe->path() : aside_path;
    open_parent(aside_path.empty() ? rootfs.get() : aside.get(), std::string(tar::parent_of(path)));
    const std::string name(tar::name_of(path));
    struct stat found, opened;
    if (::fstatat(parent.get(), name.c_str(), &found, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
            changed("it is missing");
        detail::throw_errno("stat");
    }
    // Do not open a device or a fifo.
    if (!S_ISREG(found.st_mode))
        changed("it is not a regular file");
    if (static_cast<std::uint64_t>(found.st_size) != recipe->size())
        changed("its size differs");
    file.reset(detail::checked(
        ::openat(parent.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), "open"));
    detail::checked(::fstat(file.get(), &opened), "stat");
    if (opened.st_ino != found.st_ino || opened.st_dev != found.st_dev)
        changed("it was replaced while it was being read");
}

// Runs recipe steps until there are bytes to read; false at the end.
OVERMOUNT_DECL bool on_disk_storage::reader::state::advance()
{
    while (!over && bytes.empty() && left == 0) {
        switch (recipe->next()) {
        case detail::recipe_step::bytes: bytes = recipe->bytes(); break;
        case detail::recipe_step::file: open_file(); break;
        case detail::recipe_step::piece:
            offset = recipe->offset();
            left = recipe->count();
            break;
        case detail::recipe_step::end_file:
            in_file = false;
            file.reset();
            if (sum.value() != recipe->crc())
                changed("its content differs");
            break;
        case detail::recipe_step::moved: break;
        case detail::recipe_step::end: over = true; break;
        }
    }
    return !over;
}

OVERMOUNT_DECL std::size_t on_disk_storage::reader::state::take(std::span<std::byte> into)
{
    if (left == 0) {
        const auto part = bytes.first(std::min(bytes.size(), into.size()));
        std::memcpy(into.data(), part.data(), part.size());
        bytes = bytes.subspan(part.size());
        return part.size();
    }
    into = into.first(static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), left)));
    const std::size_t size = detail::read_some_at(file.get(), offset, into);
    if (size == 0)
        changed("its size differs");
    sum.update(into.first(size));
    offset += size;
    left -= size;
    return size;
}

OVERMOUNT_DECL on_disk_storage::reader::reader(std::unique_ptr<state> implementation) noexcept
    : state_(std::move(implementation))
{
}
OVERMOUNT_DECL on_disk_storage::reader::reader(reader&&) noexcept = default;
OVERMOUNT_DECL on_disk_storage::reader& on_disk_storage::reader::operator=(reader&&) noexcept = default;
OVERMOUNT_DECL on_disk_storage::reader::~reader() = default;

OVERMOUNT_DECL std::size_t on_disk_storage::reader::read(std::span<std::byte> into)
{
    std::size_t done = 0;
    try {
        while (done < into.size() && state_->advance())
            done += state_->take(into.subspan(done));
    } catch (error& failure) {
        if (state_->in_file)
            failure.entry(state_->recipe->path());
        failure.at(stage::storage).layer(state_->layer);
        throw;
    }
    return done;
}

OVERMOUNT_DECL on_disk_storage::reader on_disk_storage::pack(const diff_id& id) const
{
    try {
        return reader(std::make_unique<reader::state>(diffs_.place().diffs(), detail::directory_of(id), id));
    } catch (error& failure) {
        failure.at(stage::storage).layer(id.string());
        throw;
    }
}

} // namespace overmount::OVERMOUNT_ABI

#endif

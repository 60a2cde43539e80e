// What storages have in common that keep each diff in a directory `diffs/<algorithm>/<hex>/` with a `diff.json`.
#ifndef OVERMOUNT_STORAGE_DIFF_DIRECTORY_HPP
#define OVERMOUNT_STORAGE_DIFF_DIRECTORY_HPP

#include <overmount/posix/fs.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/storage/record_file.hpp>
#include <overmount/storage/share_extents.hpp>
#include <overmount/storage/storage_policy.hpp>
#include <overmount/storage/sync_tree.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Where a diff is below `diffs/`.
OVERMOUNT_LAZY [[nodiscard]] inline std::string directory_of(const diff_id& id) { return digest_path(id.value()); }

class diff_directory
{
public:
    explicit diff_directory(storage_place place) : place_(place), boot_(boot_id()) {}

    [[nodiscard]] const storage_place& place() const noexcept { return place_; }
    [[nodiscard]] const std::string& boot() const noexcept { return boot_; }

    // Whether it is there and believed. A diff of an earlier boot that was never synced is not: a power cut may have emptied its
    // files. Nor is one that was found damaged, or whose record is.
    OVERMOUNT_LAZY [[nodiscard]] bool contains(const diff_id& id) const
    {
        try {
            return !is_damaged(id) && find(id).has_value();
        } catch (const error& failure) {
            if (failure.code() != errc::corrupt_repository)
                throw;
            return false;
        }
    }

    // See `markable_storage`: a file `damaged` in the diff's directory.
    OVERMOUNT_LAZY [[nodiscard]] bool is_damaged(const diff_id& id) const
    {
        return exists(place_.diffs(), directory_of(id) + "/damaged");
    }
    OVERMOUNT_LAZY [[nodiscard]] diff_version version(const diff_id& id) const
    {
        constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        auto fd = new_shared<unique_fd>(::openat(place_.diffs(), directory_of(id).c_str(), flags));
        if (!*fd)
            throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
        return {std::move(fd)};
    }
    OVERMOUNT_LAZY [[nodiscard]] bool is_current(const diff_id& id, const diff_version& version) const
    {
        struct stat held, there;
        check(::fstat(version.directory->get(), &held), "stat", id.string());
        return ::fstatat(place_.diffs(), directory_of(id).c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
               there.st_ino == held.st_ino && there.st_dev == held.st_dev;
    }
    OVERMOUNT_LAZY static void mark_damaged(const diff_version& version, int staging)
    {
        put_record(staging, version.directory->get(), "damaged", "", durability::full, existing::keep);
    }
    OVERMOUNT_LAZY static void unmark_damaged(const diff_version& version)
    {
        if (::unlinkat(version.directory->get(), "damaged", 0) != 0 && errno != ENOENT)
            throw_errno("unlink", "damaged");
        sync_directory(version.directory->get());
    }

    OVERMOUNT_LAZY [[nodiscard]] diff_record record(const diff_id& id) const
    {
        auto found = find(id);
        if (!found)
            throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
        return std::move(*found);
    }

    // A file of the diff; `layer_not_found` where there is none.
    OVERMOUNT_LAZY [[nodiscard]] unique_fd open(const diff_id& id, const char* name) const
    {
        unique_fd fd(
            ::openat(place_.diffs(), (directory_of(id) + "/" + name).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
        if (!fd && errno != ENOENT)
            throw_errno("open", name);
        if (!fd)
            throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
        return fd;
    }

    // See `storage_policy`. Each file by itself, by a descriptor of its own: an error of write-back may have been reported to
    // whoever synced the file system meanwhile, but not to a file that nobody has synced.
    OVERMOUNT_LAZY void make_durable(const diff_id& id, int staging, const std::function<void()>& poll) const
    {
        diff_record noted = record(id);
        if (noted.sync == durability::none) {
            const unique_fd directory = open_directory(place_.diffs(), directory_of(id));
            try {
                sync_tree(directory.get(), poll);
            } catch (const error& failure) {
                if (failure.operation() != "fsync" && failure.operation() != "sync_file_range")
                    throw;
                // The disk has lost something, and the kernel says so once: nobody believes the diff from now on.
                noted.boot.clear();
                put_record(staging, directory.get(), "diff.json", noted.to_json(), durability::none, existing::replace);
                throw;
            }
            noted.sync = durability::batch;
            put_record(staging, directory.get(), "diff.json", noted.to_json(), durability::batch, existing::replace);
        }
        sync_parents(place_.diffs(), std::string(to_string(id.value().algorithm())));
    }

    // See `early_storage`.
    OVERMOUNT_LAZY [[nodiscard]] std::uint64_t identity(const diff_id& id) const
    {
        struct stat status;
        return ::fstatat(place_.diffs(), directory_of(id).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 ? status.st_ino : 0;
    }
    OVERMOUNT_LAZY bool mark_durable(const diff_id& id, std::uint64_t identity, int staging) const
    {
        const unique_fd directory = open_directory(place_.diffs(), directory_of(id));
        struct stat status;
        check(::fstat(directory.get(), &status), "stat", id.string());
        if (status.st_ino != identity)
            return false;
        diff_record noted = record(id);
        noted.sync = durability::batch;
        put_record(staging, directory.get(), "diff.json", noted.to_json(), durability::batch, existing::replace);
        return true;
    }
    OVERMOUNT_LAZY static void rewrite(int staging, const std::string& name, const diff_record& record)
    {
        put_record(staging, open_directory(staging, name).get(), "diff.json", record.to_json(), durability::none, existing::replace);
    }

    // See `detaching_storage`.
    OVERMOUNT_LAZY bool set_aside(const diff_id& id, int into, const std::string& name) const
    {
        if (::renameat(place_.diffs(), directory_of(id).c_str(), into, name.c_str()) == 0)
            return true;
        if (errno != ENOENT)
            throw_errno("rename", id.string());
        return false;
    }

    OVERMOUNT_LAZY void erase(const diff_id& id) const
    {
        const std::string gone = "erased-" + random_id();
        if (set_aside(id, place_.staging(), gone))
            remove_tree(place_.staging(), gone, place_.staging());
    }

    // Writes `diff.json` into a directory that is complete but for it.
    OVERMOUNT_LAZY static void write_record(const storage_place& place, int directory, const diff_record& record)
    {
        write_file(directory, "diff.json", record.to_json());
        if (place.sync() != durability::full)
            return;
        const unique_fd file(check(::openat(directory, "diff.json", O_RDONLY | O_CLOEXEC), "open", "diff.json"));
        check(::fsync(file.get()), "fsync", "diff.json");
        sync_directory(directory);
    }

    // Moves a finished directory to its place; false when one is there. With `batch`, what several
    // were moved into is synced once, by `repository_state::sync_published`.
    OVERMOUNT_LAZY [[nodiscard]] static bool publish(const storage_place& place, int staging, const std::string& name,
                                                     const diff_id& id)
    {
        const std::string algorithm(to_string(id.value().algorithm())), target = directory_of(id);
        bool made = ::renameat2(staging, name.c_str(), place.diffs(), target.c_str(), RENAME_NOREPLACE) == 0;
        if (!made && errno == ENOENT) // the first one
            make_directory(place.diffs(), algorithm, 0700);
        made = made || rename_into_place(staging, name, place.diffs(), target);
        if (made && place.sync() == durability::full)
            sync_directory(open_directory(place.diffs(), algorithm).get());
        return made;
    }

    // The same where one is there that gives way. The new one is put beside it first, as `<hex>.<n>`, and then exchanged for it:
    // the old one is whole at every moment, and what is left at `<hex>.<n>` is what nobody asks for by its ID, for the collection,
    // when no mount is on it. What is the same in both takes its space once, where the file system can do that.
    OVERMOUNT_LAZY static void replace(const storage_place& place, int staging, const std::string& name, const diff_id& id)
    {
        const std::string algorithm(to_string(id.value().algorithm())), target = directory_of(id);
        const unique_fd parent = open_directory(place.diffs(), algorithm);
        if (const unique_fd old(::openat(place.diffs(), target.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)); old)
            share_extents(old.get(), open_directory(staging, name).get());
        std::string beside;
        for (unsigned n = 1; beside.empty(); ++n)
            if (const std::string one = target + "." + std::to_string(n); rename_into_place(staging, name, place.diffs(), one))
                beside = one;
        while (::renameat2(place.diffs(), beside.c_str(), place.diffs(), target.c_str(), RENAME_EXCHANGE) != 0) {
            if (errno != ENOENT)
                throw_errno("exchange", id.string());
            if (rename_into_place(place.diffs(), beside, place.diffs(), target)) // it was erased meanwhile
                break;
        }
        if (place.sync() == durability::full)
            sync_directory(parent.get());
    }

private:
    OVERMOUNT_LAZY [[nodiscard]] std::optional<diff_record> find(const diff_id& id) const
    {
        const auto text = read_file(place_.diffs(), directory_of(id) + "/diff.json", 1ull << 30);
        if (!text)
            return std::nullopt;
        auto found = in_record("diffs/" + directory_of(id) + "/diff.json", [&text] { return diff_record::parse(*text); });
        if (found.sync == durability::none && found.boot != boot_)
            return std::nullopt;
        return found;
    }

    storage_place place_;
    std::string boot_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

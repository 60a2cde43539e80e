#ifndef OVERMOUNT_STORAGE_IMPL_RECORD_FILE_IPP
#define OVERMOUNT_STORAGE_IMPL_RECORD_FILE_IPP

#include <overmount/storage/record_file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace overmount::OVERMOUNT_ABI::detail {

// Uses its own descriptor: the kernel reports a write-back error once to each open file description.
inline void sync_file(int directory, const std::string& name)
{
    const unique_fd fd(checked(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open", name));
    checked(::fsync(fd.get()), "fsync", name);
}

// Syncs a file, or a directory and the files in it, but not the parent's entry for it.
inline void sync_record(int directory, const std::string& name)
{
    const unique_fd fd(checked(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open", name));
    struct stat status;
    checked(::fstat(fd.get(), &status), "stat", name);
    if (S_ISDIR(status.st_mode))
        for (const std::string& file : list_directory(fd.get(), ".")) {
            struct stat inner;
            checked(::fstatat(fd.get(), file.c_str(), &inner, AT_SYMLINK_NOFOLLOW), "stat", file);
            if (S_ISREG(inner.st_mode))
                sync_file(fd.get(), file);
        }
    checked(::fsync(fd.get()), "fsync", name);
}

// The part of the name before the last slash, or "." if there is none.
inline std::string parent_of(const std::string& name)
{
    const auto slash = name.rfind('/');
    return slash == std::string::npos ? "." : name.substr(0, slash);
}

OVERMOUNT_DECL void sync_parents(int directory, const std::string& parent)
{
    for (std::string above = parent; above != "."; above = parent_of(above))
        sync_directory(open_directory(directory, above).get());
    sync_directory(directory);
}

OVERMOUNT_DECL record_batch::record_batch(int staging, durability sync) : staging_(staging), sync_(sync) {}

OVERMOUNT_DECL record_batch::~record_batch()
{
    for (std::size_t i = published_; i < drafts_.size(); ++i) {
        try {
            remove_tree(staging_, drafts_[i].draft_name, staging_);
        } catch (const std::exception&) {
            // The failure that left the draft behind is the one to report; the staging directory is cleaned later.
        }
    }
}

OVERMOUNT_DECL void record_batch::make_parent(int directory, const std::string& name)
{
    const std::string parent = parent_of(name);
    if (parents_.emplace(directory, parent).second && parent != "." && !exists(directory, parent))
        make_directory(directory, parent, 0700);
}

OVERMOUNT_DECL record_batch::draft& record_batch::begin(int directory, const std::string& name, existing what, bool is_directory)
{
    drafts_.push_back({directory, name, (is_directory ? "draft-" : "record-") + random_id(), what, is_directory});
    return drafts_.back();
}

OVERMOUNT_DECL bool record_batch::add(int directory, const std::string& name, std::string_view content, existing what)
{
    make_parent(directory, name);
    if (what == existing::keep) {
        const auto there = read_file(directory, name, ~std::uint64_t{0} >> 1);
        if (there == content) {
            existing_.push_back({directory, name, std::string(content)});
            return false;
        }
        if (there)
            what = existing::replace;
    }
    write_file(staging_, begin(directory, name, what, false).draft_name, content);
    return true;
}

OVERMOUNT_DECL bool record_batch::add_directory(int directory, const std::string& name, const std::vector<file>& files)
{
    make_parent(directory, name);
    if (exists(directory, name)) {
        for (const file& one : files)
            add(directory, name + "/" + one.name, one.content, existing::keep);
        return false;
    }
    const std::string& draft_name = begin(directory, name, existing::keep, true).draft_name;
    make_directory(staging_, draft_name, 0700);
    for (const file& one : files)
        write_file(staging_, draft_name + "/" + one.name, one.content);
    return true;
}

OVERMOUNT_DECL void record_batch::sync_drafts() const
{
    if (sync_ == durability::none)
        return;
    for (std::size_t i = published_; i < drafts_.size(); ++i)
        sync_record(staging_, drafts_[i].draft_name);
}

OVERMOUNT_DECL void record_batch::publish(draft& one)
{
    if (one.what == existing::replace)
        rename_over(staging_, one.draft_name, one.directory, one.name);
    else if (!rename_into_place(staging_, one.draft_name, one.directory, one.name)) {
        // Another process published the record first: keep it, and make it durable.
        if (one.is_directory) {
            for (const std::string& name : list_directory(staging_, one.draft_name))
                existing_.push_back({one.directory, one.name + "/" + name,
                                      read_file(staging_, one.draft_name + "/" + name, record_limit).value_or("")});
        } else {
            existing_.push_back({one.directory, one.name, read_file(staging_, one.draft_name, record_limit).value_or("")});
        }
        remove_tree(staging_, one.draft_name, staging_);
    }
}

// If the sync fails, the disk has lost the record, and the kernel reports that only once: write it again, since a second fsync
// would succeed without having stored it.
OVERMOUNT_DECL void record_batch::make_durable(const existing_record& one) const
{
    try {
        sync_record(one.directory, one.name);
    } catch (const error&) {
        put_record(staging_, one.directory, one.name, one.content, sync_, existing::replace);
    }
}

// Existing records are synced first: a new mark next to one may say that it is durable.
OVERMOUNT_DECL void record_batch::publish()
{
    if (sync_ != durability::none)
        for (const existing_record& one : std::exchange(existing_, {}))
            make_durable(one);
    for (; published_ < drafts_.size(); ++published_)
        publish(drafts_[published_]);
    if (sync_ != durability::none) {
        for (const existing_record& one : existing_)
            make_durable(one);
        for (const auto& [directory, parent] : parents_)
            sync_parents(directory, parent);
    }
    existing_.clear();
}

OVERMOUNT_DECL void put_record(int staging, int directory, const std::string& name, std::string_view content,
                                    durability sync, existing what)
{
    record_batch one(staging, sync);
    one.add(directory, name, content, what);
    one.sync_drafts();
    one.publish();
}

OVERMOUNT_DECL bool remove_record(int staging, int directory, const std::string& name, durability sync)
{
    if (::renameat(directory, name.c_str(), staging, ("trash-" + random_id()).c_str()) != 0) {
        if (errno == ENOENT)
            return false;
        throw_errno("rename", name);
    }
    if (sync != durability::none)
        sync_directory(open_directory(directory, parent_of(name)).get());
    return true;
}

OVERMOUNT_DECL void make_record_last(int directory, const std::string& name)
{
    sync_record(directory, name);
    sync_parents(directory, parent_of(name));
}

OVERMOUNT_DECL std::vector<digest> listed_digests(int directory)
{
    std::vector<digest> out;
    for (const char* algorithm : {"sha256", "sha512"}) {
        if (!exists(directory, algorithm))
            continue;
        for (const std::string& name : list_directory(directory, algorithm))
            if (const auto id = digest::try_parse(std::string(algorithm) + ":" + name))
                out.push_back(*id);
    }
    std::sort(out.begin(), out.end());
    return out;
}

OVERMOUNT_DECL std::vector<digest> listed_digest_names(int directory, std::string_view ending)
{
    std::vector<digest> out;
    for (std::string name : list_directory(directory, ".")) {
        if (!name.ends_with(ending))
            continue;
        name.resize(name.size() - ending.size());
        if (const auto dash = name.find('-'); dash != std::string::npos)
            name[dash] = ':';
        if (const auto id = digest::try_parse(name))
            out.push_back(*id);
    }
    std::sort(out.begin(), out.end());
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

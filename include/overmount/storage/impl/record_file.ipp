#ifndef OVERMOUNT_STORAGE_IMPL_RECORD_FILE_IPP
#define OVERMOUNT_STORAGE_IMPL_RECORD_FILE_IPP

#include <overmount/storage/record_file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Through a descriptor of its own: the kernel tells each open file description of a write-back error once.
OVERMOUNT_LAZY inline void sync_file(int directory, const std::string& name)
{
    const unique_fd fd(check(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open", name));
    check(::fsync(fd.get()), "fsync", name);
}

// A file, or a directory with the files in it; not the entry that names it.
OVERMOUNT_LAZY inline void sync_record(int directory, const std::string& name)
{
    const unique_fd fd(check(::openat(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open", name));
    struct stat status;
    check(::fstat(fd.get(), &status), "stat", name);
    if (S_ISDIR(status.st_mode))
        for (const std::string& file : list_directory(fd.get(), ".")) {
            struct stat inner;
            check(::fstatat(fd.get(), file.c_str(), &inner, AT_SYMLINK_NOFOLLOW), "stat", file);
            if (S_ISREG(inner.st_mode))
                sync_file(fd.get(), file);
        }
    check(::fsync(fd.get()), "fsync", name);
}

// The directory in front of the name.
OVERMOUNT_LAZY inline std::string parent_of(const std::string& name)
{
    const auto slash = name.rfind('/');
    return slash == std::string::npos ? "." : name.substr(0, slash);
}

OVERMOUNT_LAZY_BODY void sync_parents(int directory, const std::string& parent)
{
    for (std::string above = parent; above != "."; above = parent_of(above))
        sync_directory(open_directory(directory, above).get());
    sync_directory(directory);
}

OVERMOUNT_LAZY_BODY record_batch::record_batch(int staging, durability sync) : staging_(staging), sync_(sync) {}

OVERMOUNT_DECL record_batch::~record_batch()
{
    for (std::size_t i = shown_; i < drafts_.size(); ++i) {
        try {
            remove_tree(staging_, drafts_[i].here, staging_);
        } catch (const std::exception&) {
            // The failure that left it here is the one to report; the staging is swept.
        }
    }
}

OVERMOUNT_LAZY_BODY void record_batch::make_parent(int directory, const std::string& name)
{
    const std::string parent = parent_of(name);
    if (parents_.emplace(directory, parent).second && parent != "." && !exists(directory, parent))
        make_directory(directory, parent, 0700);
}

OVERMOUNT_LAZY_BODY record_batch::draft& record_batch::begin(int directory, const std::string& name, existing what, bool whole)
{
    drafts_.push_back({directory, name, (whole ? "draft-" : "record-") + random_id(), what, whole});
    return drafts_.back();
}

OVERMOUNT_LAZY_BODY bool record_batch::add(int directory, const std::string& name, std::string_view content, existing what)
{
    make_parent(directory, name);
    if (what == existing::keep) {
        const auto there = read_file(directory, name, ~std::uint64_t{0} >> 1);
        if (there == content) {
            there_.push_back({directory, name, std::string(content)});
            return false;
        }
        if (there)
            what = existing::replace;
    }
    write_file(staging_, begin(directory, name, what, false).here, content);
    return true;
}

OVERMOUNT_LAZY_BODY bool record_batch::add_directory(int directory, const std::string& name, const std::vector<file>& files)
{
    make_parent(directory, name);
    if (exists(directory, name)) {
        for (const file& one : files)
            add(directory, name + "/" + one.name, one.content, existing::keep);
        return false;
    }
    const std::string& here = begin(directory, name, existing::keep, true).here;
    make_directory(staging_, here, 0700);
    for (const file& one : files)
        write_file(staging_, here + "/" + one.name, one.content);
    return true;
}

OVERMOUNT_LAZY_BODY void record_batch::sync_drafts() const
{
    if (sync_ == durability::none)
        return;
    for (std::size_t i = shown_; i < drafts_.size(); ++i)
        sync_record(staging_, drafts_[i].here);
}

OVERMOUNT_LAZY_BODY void record_batch::show(draft& one)
{
    if (one.what == existing::replace)
        rename_over(staging_, one.here, one.directory, one.name);
    else if (!rename_into_place(staging_, one.here, one.directory, one.name)) {
        // Another one was faster.
        if (one.whole) {
            for (const std::string& name : list_directory(staging_, one.here))
                there_.push_back({one.directory, one.name + "/" + name,
                                  read_file(staging_, one.here + "/" + name, record_limit).value_or("")});
        } else {
            there_.push_back({one.directory, one.name, read_file(staging_, one.here, record_limit).value_or("")});
        }
        remove_tree(staging_, one.here, staging_);
    }
}

// Where the disk has lost it, the kernel says so once: it is written again, and not believed when the next one asks.
OVERMOUNT_LAZY_BODY void record_batch::make_last(const kept& one) const
{
    try {
        sync_record(one.directory, one.name);
    } catch (const error&) {
        put_record(staging_, one.directory, one.name, one.content, sync_, existing::replace);
    }
}

// What was there already comes first: a mark beside it says that it lasts.
OVERMOUNT_LAZY_BODY void record_batch::show()
{
    if (sync_ != durability::none)
        for (const kept& one : std::exchange(there_, {}))
            make_last(one);
    for (; shown_ < drafts_.size(); ++shown_)
        show(drafts_[shown_]);
    if (sync_ != durability::none) {
        for (const kept& one : there_)
            make_last(one);
        for (const auto& [directory, parent] : parents_)
            sync_parents(directory, parent);
    }
    there_.clear();
}

OVERMOUNT_LAZY_BODY void put_record(int staging, int directory, const std::string& name, std::string_view content,
                                    durability sync, existing what)
{
    record_batch one(staging, sync);
    one.add(directory, name, content, what);
    one.sync_drafts();
    one.show();
}

OVERMOUNT_LAZY_BODY bool remove_record(int staging, int directory, const std::string& name, durability sync)
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

OVERMOUNT_LAZY_BODY void make_record_last(int directory, const std::string& name)
{
    sync_record(directory, name);
    sync_parents(directory, parent_of(name));
}

OVERMOUNT_LAZY_BODY std::vector<digest> listed_digests(int directory)
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

OVERMOUNT_LAZY_BODY std::vector<digest> listed_digest_names(int directory, std::string_view ending)
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

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_MOUNT_TABLE_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_MOUNT_TABLE_IPP

#include <overmount/repository/records/mount_table.hpp>
#include <overmount/storage/impl/diff_record.ipp>

#include <fcntl.h>

#include <algorithm>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY inline std::uint64_t mount_namespace()
{
    struct stat status;
    return ::stat("/proc/self/ns/mnt", &status) == 0 ? status.st_ino : 0;
}

// mountinfo leaves out what lies outside of the root of its reader: in a chroot it tells of some mounts only. There
// the root is no mount, or one that the first process sees in another place.
OVERMOUNT_LAZY inline bool shows_all(const mountinfo& now)
{
    const mountinfo_entry* root = now.find_by_target("/");
    if (root == nullptr)
        return false;
    const auto first = mountinfo::parse(read_file(AT_FDCWD, "/proc/1/mountinfo", 256u << 20).value_or(""));
    return std::none_of(first.entries().begin(), first.entries().end(), [root](const mountinfo_entry& entry) {
        return entry.id == root->id && entry.mount_point != "/";
    });
}

OVERMOUNT_LAZY_BODY mount_record mount_table::add(const digest& image, const std::string& target, bool writable)
{
    mount_record record{random_id(), image, target, writable, boot_id(), mount_namespace()};
    if (record.target.empty())
        record.target = (store_->base() / "mounts" / record.id / "target").string();
    else
        record.target = std::filesystem::absolute(from_working_directory(target)).lexically_normal().string();
    draft whole(store_->staging.fd(), "mount-");
    make_directory(store_->staging.fd(), whole.name(), 0700);
    const unique_fd made = open_directory(store_->staging.fd(), whole.name());
    for (const char* part : {"target", "upper", "work", "empty"})
        make_directory(made.get(), part, 0755);
    json_record content;
    content.text("id", record.id);
    content.text("image", record.image.string());
    content.text("target", percent_encode(record.target));
    content.flag("writable", record.writable);
    content.text("boot_id", record.boot);
    content.number("mount_namespace", record.mount_namespace);
    write_file(made.get(), "record.json", content.string());
    rename_over(store_->staging.fd(), whole.name(), store_->mounts(), record.id);
    whole.moved();
    return record;
}

OVERMOUNT_LAZY_BODY void mount_table::remove(const mount_record& record)
{
    const std::string gone = "trash-" + record.id;
    if (::renameat(store_->mounts(), record.id.c_str(), store_->staging.fd(), gone.c_str()) != 0) {
        if (errno == ENOENT)
            return; // swept since it was unmounted
        throw_errno("rename", record.id);
    }
    remove_tree(store_->staging.fd(), gone, store_->staging.fd());
}

OVERMOUNT_LAZY_BODY std::vector<mount_record> mount_table::list() const
{
    std::vector<mount_record> out;
    for (const std::string& id : list_directory(store_->mounts(), ".")) {
        const auto text = read_file(store_->mounts(), id + "/record.json", 1 << 20);
        if (!text)
            continue;
        std::optional<digest> image;
        std::string name, target, boot;
        bool writable = false;
        std::uint64_t mount_namespace = 0;
        read_record(*text, json_object({{"id", json_text(name).required()},
                                        {"image", json_digest(image).required()},
                                        {"target", json_encoded(target).required()},
                                        {"writable", json_flag(writable).required()},
                                        {"boot_id", json_text(boot).required()},
                                        {"mount_namespace", json_number(mount_namespace).required()}}));
        out.push_back({std::move(name), *image, std::move(target), writable, std::move(boot), mount_namespace});
    }
    return out;
}

OVERMOUNT_LAZY_BODY bool mount_table::alive(const mount_record& record, const mountinfo& now)
{
    if (record.boot != boot_id())
        return false;
    return record.mount_namespace != mount_namespace() || now.find_by_source(record.source()) != nullptr ||
           !shows_all(now);
}

OVERMOUNT_LAZY_BODY void mount_table::sweep()
{
    std::vector<std::string> gone;
    {
        // Records and their mounts are made under the shared lock: one without a mount has lost it.
        const auto now = mountinfo::read();
        for (const mount_record& record : list()) {
            if (alive(record, now) || (record.writable && record.boot != boot_id()))
                continue;
            gone.push_back("trash-" + record.id);
            rename_over(store_->mounts(), record.id, store_->staging.fd(), gone.back());
        }
    }
    for (const std::string& name : gone)
        remove_tree(store_->staging.fd(), name, store_->staging.fd());
}

// Whether the chain needs a correction, as its note says; nothing without a note, or with one that is not believed: it is damaged,
// or of an earlier boot, and a power cut may have come between.
OVERMOUNT_LAZY inline std::optional<bool> noted_correction(int layer)
{
    const auto known = read_file(layer, "correction.json", 4096);
    if (!known)
        return std::nullopt;
    bool needed = false;
    std::string boot;
    try {
        read_record(*known, json_object({{"needed", json_flag(needed).required()}, {"boot_id", json_text(boot)}}));
    } catch (const error& failure) {
        if (failure.code() != errc::corrupt_repository)
            throw;
        return std::nullopt;
    }
    return boot == boot_id() ? std::optional(needed) : std::nullopt;
}

OVERMOUNT_LAZY_BODY bool mount_table::has_correction_note(const chain_id& top) const
{
    const std::string path = layer_path(top);
    const unique_fd layer(::openat(store_->base_fd(), path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!layer && errno == ENOENT)
        return false;
    return noted_correction(check(layer.get(), "open directory", path)).has_value();
}

OVERMOUNT_LAZY_BODY bool mount_table::lost_correction(const chain_id& top, const std::vector<stacked_layer>& stack) const
{
    const unique_fd layer = open_directory(store_->base_fd(), layer_path(top));
    const auto noted = noted_correction(layer.get());
    if (!noted)
        return false;
    return *noted ? !exists(layer.get(), "correction") : correction(stack).needed();
}

OVERMOUNT_LAZY_BODY bool mount_table::ensure_correction(const chain_id& top, const std::vector<stacked_layer>& stack)
{
    const unique_fd layer = open_directory(store_->base_fd(), layer_path(top));
    if (const auto known = noted_correction(layer.get()))
        return *known;
    correction wanted(stack);
    write_correction(top, wanted, store_->staging.fd());
    return wanted.needed();
}

// Neither is synced: in another boot the note is not believed, and both are made again.
OVERMOUNT_LAZY_BODY void mount_table::write_correction(const chain_id& top, correction& wanted, int staging)
{
    const unique_fd layer = open_directory(store_->base_fd(), layer_path(top));
    if (wanted.needed()) {
        draft mine(staging, "draft-");
        make_directory(staging, mine.name(), 0700);
        wanted.write(open_directory(staging, mine.name()).get());
        // One of an earlier boot gives way; who makes one in this boot makes the same.
        if (!noted_correction(layer.get()))
            static_cast<void>(remove_record(staging, layer.get(), "correction", durability::none));
        if (rename_into_place(staging, mine.name(), layer.get(), "correction"))
            mine.moved();
    }
    const std::string note = json_record().flag("needed", wanted.needed()).text("boot_id", boot_id()).string();
    put_record(staging, layer.get(), "correction.json", note, durability::none, existing::replace);
}

OVERMOUNT_LAZY_BODY unique_fd mount_table::root_below(const mount_record& record, const std::optional<chain_id>& top,
                                                      const std::vector<stacked_layer>& stack)
{
    if (top && ensure_correction(*top, stack))
        return open_directory(store_->base_fd(), layer_path(*top) + "/correction");
    if (!stack.empty())
        return open_directory(stack.front().directory.fd->get(), ".");
    return open_directory(store_->mounts(), record.id + "/empty");
}

OVERMOUNT_LAZY_BODY mount_spec mount_table::spec_of(const mount_record& record, const std::optional<chain_id>& top,
                                                    const std::vector<stacked_layer>& stack)
{
    mount_spec spec;
    const std::filesystem::path base = store_->base(), own = base / "mounts" / record.id;
    const auto directory = [](int parent, const std::string& name, const std::filesystem::path& path) {
        return mount_directory(
            unique_fd(check(::openat(parent, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open",
                            name)),
            path.string());
    };
    if (top && ensure_correction(*top, stack)) {
        const std::string path = layer_path(*top) + "/correction";
        spec.add_lower(directory(store_->base_fd(), path, base / path));
    }
    for (const stacked_layer& layer : stack)
        spec.add_lower(lower::borrowed(layer.directory.fd->get(), (base / "diffs" / layer.directory.path).string()));
    // overlayfs wants two; empty ones at the bottom show nothing. A read-only mount has no other use for its upper.
    for (const char* name : {"empty", "upper"})
        if (spec.lowers().size() < 2 && !(record.writable && name == std::string_view("upper")))
            spec.add_lower(directory(store_->mounts(), record.id + "/" + name, own / name));
    spec.source(record.source()).read_only(!record.writable);
    if (record.writable) {
        // The root of the upper is what shows as the root.
        copy_directory_attributes(root_below(record, top, stack).get(),
                                  open_directory(store_->mounts(), record.id + "/upper").get());
        spec.upper(directory(store_->mounts(), record.id + "/upper", own / "upper"));
        spec.work(directory(store_->mounts(), record.id + "/work", own / "work"));
    }
    return spec;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

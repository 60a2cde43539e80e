#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_STORE_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_STORE_IPP

#include <overmount/repository/records/store.hpp>
#include <overmount/storage/impl/diff_record.ipp>

#include <fcntl.h>

#include <algorithm>
#include <list>
#include <map>

namespace overmount::inline OVERMOUNT_ABI::detail {

inline constexpr std::uint64_t record_limit = 64ull << 20;

OVERMOUNT_LAZY
inline std::string digest_path(const digest& id) { return std::string(to_string(id.algorithm())) + "/" + id.hex(); }
OVERMOUNT_LAZY
inline std::string digest_name(const digest& id) { return std::string(to_string(id.algorithm())) + "-" + id.hex(); }

// Names in `<directory>/<algorithm>/` that are digests.
OVERMOUNT_LAZY inline std::vector<digest> listed_digests(int directory)
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

OVERMOUNT_LAZY inline unique_fd open_part(int base, const char* name)
{
    make_directory(base, name, 0700);
    return open_directory(base, name);
}

OVERMOUNT_LAZY inline unique_fd make_digest_directory(int directory, const digest& id)
{
    return open_part(directory, std::string(to_string(id.algorithm())).c_str());
}

OVERMOUNT_LAZY_BODY store::store(const std::filesystem::path& base, std::string_view form, bool allow_others)
    : base_(std::filesystem::absolute(from_working_directory(base.string())))
{
    try {
        std::filesystem::create_directories(base_.parent_path());
        make_directory(AT_FDCWD, base_.string(), 0700);
        base_fd_.reset(check(::open(base_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open directory",
                             base_.string()));
        struct stat status;
        check(::fstat(base_fd_.get(), &status), "stat");
        if (!allow_others && (status.st_mode & 0077) != 0)
            throw error(errc::repository_open_to_others)
                .subject(base_.string())
                .detail("its mode must be 0700, or ask for a repository that is open to others");
        check_header(form);
        diffs_ = open_part(base_fd_.get(), "diffs");
        layers_ = open_part(base_fd_.get(), "layers");
        images_ = open_part(base_fd_.get(), "images");
        manifests_ = open_part(base_fd_.get(), "manifests");
        tags_ = open_part(base_fd_.get(), "tags");
        blobs_ = open_part(base_fd_.get(), "blobs");
        mounts_ = open_part(base_fd_.get(), "mounts");
        leases_ = open_part(base_fd_.get(), "leases");
        claims_ = open_part(base_fd_.get(), "claims");
        tmp_ = open_part(base_fd_.get(), "tmp");
    } catch (const std::filesystem::filesystem_error& failure) {
        throw error(failure.code()).at(stage::repository).operation("mkdir").subject(base_.string());
    } catch (error& failure) {
        failure.at(stage::repository);
        throw;
    }
}

// repository.json: what a reader must know before it believes anything else.
OVERMOUNT_LAZY_BODY void store::check_header(std::string_view form)
{
    auto text = read_file(base_fd_.get(), "repository.json", record_limit);
    if (!text) {
        for (const std::string& name : list_directory(base_fd_.get(), "."))
            if (name != "repository.lock" && !name.starts_with("repository.json."))
                throw error(errc::not_a_repository)
                    .subject(base_.string())
                    .detail("the directory is not empty and has no repository.json");
        json_record features, made;
        features.texts("compatible", {}).texts("read_only_compatible", {}).texts("incompatible", {});
        made.number("version", 1).object("features", features).texts("forms", {std::string(form)});
        // Two processes may make it at the same time: both write the same, and one rename wins.
        draft mine(base_fd_.get(), "repository.json.");
        write_file(base_fd_.get(), mine.name(), made.string());
        if (rename_into_place(base_fd_.get(), mine.name(), base_fd_.get(), "repository.json"))
            mine.moved();
        text = read_file(base_fd_.get(), "repository.json", record_limit);
    }
    const std::string header = text.value_or("");
    std::uint64_t version = 0;
    std::vector<std::string> incompatible, read_only, forms;
    // The rest of another version may be of any shape.
    read_record(header, json_object({{"version", json_number(version).required()}}));
    if (version == 1)
        read_record(header,
                    json_object({{"features", json_object({{"incompatible", json_texts(incompatible).required()},
                                                           {"read_only_compatible", json_texts(read_only).required()}})
                                                  .required()},
                                 {"forms", json_texts(forms).required()}}));
    if (version != 1 || !incompatible.empty())
        throw error(errc::unsupported_repository).subject(base_.string());
    read_only_ = !read_only.empty();
    if (std::find(forms.begin(), forms.end(), form) == forms.end()) {
        std::string names;
        for (const std::string& name : forms)
            names += (names.empty() ? "" : ", ") + escape(name);
        throw error(errc::unsupported_repository)
            .subject(base_.string())
            .detail("it was made with another storage: " + names);
    }
}

OVERMOUNT_LAZY_BODY file_lock store::lock(file_lock::kind how) const
{
    if (read_only_)
        throw error(errc::unsupported_repository)
            .at(stage::repository)
            .subject(base_.string())
            .detail("it may only be read: it has features that this version does not know");
    return file_lock::wait(base_fd_.get(), "repository.lock", how);
}

OVERMOUNT_LAZY_BODY file_lock store::lock_shared() const { return lock(file_lock::kind::shared); }
OVERMOUNT_LAZY_BODY file_lock store::lock_exclusive() const { return lock(file_lock::kind::exclusive); }
OVERMOUNT_LAZY_BODY file_lock store::lock_replacement() const
{
    return file_lock::wait(base_fd_.get(), "replace.lock", file_lock::kind::exclusive);
}

OVERMOUNT_LAZY inline void sync_file(int parent, const std::string& name)
{
    const unique_fd fd(check(::openat(parent, name.c_str(), O_RDONLY | O_CLOEXEC), "open", name));
    check(::fsync(fd.get()), "fsync", name);
}

// Writes a file beside its place and renames it there.
OVERMOUNT_LAZY_BODY void store::put_record(int directory, const std::string& name, std::string_view content,
                                           durability sync, bool replace) const
{
    draft record(tmp_.get(), "record-");
    write_file(tmp_.get(), record.name(), content);
    if (sync != durability::none)
        sync_file(tmp_.get(), record.name());
    bool used = true;
    if (replace)
        rename_over(tmp_.get(), record.name(), directory, name);
    else
        used = rename_into_place(tmp_.get(), record.name(), directory, name);
    if (used)
        record.moved();
    if (sync != durability::none)
        sync_directory(directory);
}

OVERMOUNT_LAZY_BODY void store::put_directories(int directory, const char* file,
                                                std::span<const directory_record> records, durability sync)
{
    struct written
    {
        written(int staging, int into, const digest& named) : whole(staging, "draft-"), parent(into), id(named) {}
        draft whole;
        int parent;
        digest id;
    };
    std::map<digest_algorithm, unique_fd> parents;
    std::list<written> drafts;
    const bool each_by_itself = sync == durability::full || (sync == durability::batch && records.size() == 1);
    for (const directory_record& record : records) {
        unique_fd& parent = parents[record.id.algorithm()];
        if (!parent)
            parent = make_digest_directory(directory, record.id);
        if (exists(parent.get(), record.id.hex()))
            continue;
        const std::string& name = drafts.emplace_back(tmp_.get(), parent.get(), record.id).whole.name();
        make_directory(tmp_.get(), name, 0700);
        write_file(tmp_.get(), name + "/" + file, record.content);
        if (each_by_itself) {
            sync_file(tmp_.get(), name + "/" + file);
            sync_directory(open_directory(tmp_.get(), name).get());
        }
    }
    if (sync == durability::batch && !each_by_itself && !drafts.empty())
        check(::syncfs(base_fd_.get()), "syncfs");
    for (written& one : drafts)
        if (rename_into_place(tmp_.get(), one.whole.name(), one.parent, one.id.hex()))
            one.whole.moved();
    // Who put one there before us may not have come to this.
    if (sync != durability::none)
        for (const auto& [algorithm, parent] : parents)
            sync_directory(parent.get());
}

OVERMOUNT_LAZY_BODY std::string store::layer_path(const chain_id& chain) const
{
    return "layers/" + digest_path(chain.value());
}

OVERMOUNT_LAZY_BODY void store::put_layers(std::span<const std::pair<chain_id, layer_record>> layers, durability sync)
{
    std::vector<directory_record> records;
    for (const auto& [chain, layer] : layers) {
        json_record content;
        content.text("diff_id", layer.diff.string());
        if (layer.parent)
            content.text("parent", layer.parent->string());
        else
            content.null("parent");
        records.push_back({chain.value(), content.string()});
    }
    put_directories(layers_.get(), "layer.json", records, sync);
}

OVERMOUNT_LAZY_BODY void store::put_layer(const chain_id& chain, const layer_record& record, durability sync)
{
    const std::pair one(chain, record);
    put_layers({&one, 1}, sync);
}

OVERMOUNT_LAZY_BODY std::optional<layer_record> store::layer(const chain_id& chain) const
{
    const auto text = read_file(layers_.get(), digest_path(chain.value()) + "/layer.json", record_limit);
    if (!text)
        return std::nullopt;
    std::optional<digest> diff, parent;
    read_record(*text, json_object({{"diff_id", json_digest(diff).required()},
                                    {"parent", json_digest(parent).required_or_null()}}));
    layer_record out{diff_id(*diff), std::nullopt};
    if (parent)
        out.parent = chain_id(*parent);
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<layer_record> store::chain(const chain_id& top) const
{
    std::vector<layer_record> out;
    for (std::optional<chain_id> next = top; next;) {
        auto found = layer(*next);
        if (!found)
            throw error(out.empty() ? errc::layer_not_found : errc::parent_not_mounted)
                .at(stage::repository)
                .layer(next->string());
        next = found->parent;
        out.push_back(std::move(*found));
    }
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<chain_id> store::layers() const
{
    std::vector<chain_id> out;
    for (const digest& id : listed_digests(layers_.get()))
        out.emplace_back(id);
    return out;
}

OVERMOUNT_LAZY_BODY void store::put_image(const digest& id, std::string_view config, durability sync)
{
    const directory_record record{id, std::string(config)};
    put_directories(images_.get(), "config.json", {&record, 1}, sync);
}

OVERMOUNT_LAZY_BODY std::optional<std::string> store::image(const digest& id) const
{
    return read_file(images_.get(), digest_path(id) + "/config.json", record_limit);
}

OVERMOUNT_LAZY_BODY std::vector<digest> store::images() const { return listed_digests(images_.get()); }

OVERMOUNT_LAZY_BODY bool store::remove_image(const digest& id)
{
    const std::string gone = "trash-" + random_id();
    if (::renameat(images_.get(), digest_path(id).c_str(), tmp_.get(), gone.c_str()) != 0) {
        if (errno == ENOENT)
            return false;
        throw_errno("rename", id.string());
    }
    remove_tree(tmp_.get(), gone, tmp_.get());
    return true;
}

OVERMOUNT_LAZY_BODY void store::put_manifest(const digest& id, std::string_view manifest, durability sync)
{
    put_record(manifests_.get(), digest_name(id) + ".json", manifest, sync, false);
}

OVERMOUNT_LAZY_BODY std::optional<std::string> store::manifest(const digest& id) const
{
    return read_file(manifests_.get(), digest_name(id) + ".json", record_limit);
}

OVERMOUNT_LAZY_BODY std::vector<digest> store::manifests() const
{
    std::vector<digest> out;
    for (std::string name : list_directory(manifests_.get(), ".")) {
        if (!name.ends_with(".json"))
            continue;
        name.resize(name.size() - std::string_view(".json").size());
        if (const auto dash = name.find('-'); dash != std::string::npos)
            name[dash] = ':';
        if (const auto id = digest::try_parse(name))
            out.push_back(*id);
    }
    std::sort(out.begin(), out.end());
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<digest> store::kept_diffs() const { return listed_digests(diffs_.get()); }

OVERMOUNT_LAZY_BODY void store::sync_diffs() const
{
    sync_directory(diffs_.get());
    for (const std::string& name : list_directory(diffs_.get(), ".")) {
        const unique_fd directory(
            ::openat(diffs_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (directory)
            sync_directory(directory.get());
        else if (errno != ENOTDIR && errno != ELOOP && errno != ENOENT)
            throw_errno("open directory", name); // what is no directory is of a storage that lays out its own
    }
}

OVERMOUNT_LAZY_BODY unique_fd store::blob(const digest& id) const
{
    unique_fd fd(::openat(blobs_.get(), digest_path(id).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd && errno != ENOENT)
        throw_errno("open", id.string());
    return fd;
}

OVERMOUNT_LAZY_BODY std::vector<digest> store::blobs() const { return listed_digests(blobs_.get()); }

OVERMOUNT_LAZY_BODY bool store::contains_blob(const digest& id, std::uint64_t size) const
{
    struct stat status;
    return ::fstatat(blobs_.get(), digest_path(id).c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISREG(status.st_mode) && static_cast<std::uint64_t>(status.st_size) == size;
}

OVERMOUNT_LAZY_BODY void store::put_blob(const digest& id, std::string_view content, durability sync)
{
    put_record(make_digest_directory(blobs_.get(), id).get(), id.hex(), content, sync, false);
}

OVERMOUNT_LAZY_BODY void store::publish_blob(int staging, const std::string& name, const digest& id, durability sync)
{
    const unique_fd parent = make_digest_directory(blobs_.get(), id);
    if (rename_into_place(staging, name, parent.get(), id.hex()) && sync != durability::none)
        sync_directory(parent.get());
}

OVERMOUNT_LAZY inline std::string tag_file(std::string_view name) { return digest::of(name).hex() + ".json"; }

OVERMOUNT_LAZY_BODY void store::put_tag(const tag_record& record, durability sync)
{
    json_record content;
    content.text("name", record.name);
    content.text("image", record.image.string());
    content.text("source", percent_encode(record.source)).text("time", record.time);
    content.null("manifest").null("index");
    if (record.manifest)
        content.text("manifest", record.manifest->string());
    if (record.index)
        content.text("index", record.index->string());
    put_record(tags_.get(), tag_file(record.name), content.string(), sync, true);
}

OVERMOUNT_LAZY inline tag_record parse_tag(std::string_view text)
{
    std::string name, source, time;
    std::optional<digest> image, manifest, index;
    read_record(text, json_object({{"name", json_text(name).required()},
                                   {"image", json_digest(image).required()},
                                   {"manifest", json_digest(manifest)},
                                   {"index", json_digest(index)},
                                   {"source", json_encoded(source).required()},
                                   {"time", json_text(time).required()}}));
    return {std::move(name), *image, manifest, std::move(source), std::move(time), index};
}

OVERMOUNT_LAZY_BODY std::optional<tag_record> store::tag(std::string_view name) const
{
    const auto text = read_file(tags_.get(), tag_file(name), record_limit);
    if (!text)
        return std::nullopt;
    return parse_tag(*text);
}

OVERMOUNT_LAZY_BODY std::vector<tag_record> store::tags() const
{
    std::vector<tag_record> out;
    for (const std::string& name : tag_files())
        if (const auto text = read_file(tags_.get(), name, record_limit))
            out.push_back(parse_tag(*text));
    std::sort(out.begin(), out.end(), [](const tag_record& a, const tag_record& b) { return a.name < b.name; });
    return out;
}

OVERMOUNT_LAZY_BODY std::vector<std::string> store::tag_files() const { return list_directory(tags_.get(), "."); }

OVERMOUNT_LAZY_BODY std::optional<tag_record> store::tag_in(const std::string& file) const
{
    const auto text = read_file(tags_.get(), file, record_limit);
    if (!text)
        return std::nullopt;
    auto out = parse_tag(*text);
    if (tag_file(out.name) != file)
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .subject(out.name)
            .detail("it is not where the name is looked for");
    return out;
}

OVERMOUNT_LAZY_BODY bool store::remove_tag(std::string_view name)
{
    if (::unlinkat(tags_.get(), tag_file(name).c_str(), 0) == 0)
        return true;
    if (errno != ENOENT)
        throw_errno("unlink", name);
    return false;
}

OVERMOUNT_LAZY_BODY store::staging_directory store::make_staging()
{
    // The sweep takes the lock exclusively: it never sees the directory before its owner has locked it.
    const file_lock guard = lock_shared();
    std::string name = "work-" + random_id();
    make_directory(tmp_.get(), name, 0700);
    unique_fd fd = open_directory(tmp_.get(), name);
    auto lock = file_lock::try_exclusive(fd.get(), "lock");
    if (!lock)
        throw error(errc::corrupt_repository).at(stage::repository).operation("lock");
    return {std::move(name), std::move(fd), std::move(*lock)};
}

OVERMOUNT_LAZY_BODY void store::remove_staging(staging_directory& mine)
{
    remove_tree(tmp_.get(), mine.name, tmp_.get());
}

// Removes each file of `directory` whose lock can be had: its owner is dead.
OVERMOUNT_LAZY_BODY void store::remove_dead(int directory)
{
    for (const std::string& name : list_directory(directory, "."))
        if (const auto lock = file_lock::try_exclusive(directory, name))
            check(::unlinkat(directory, name.c_str(), 0), "unlink", name);
}

OVERMOUNT_LAZY_BODY void store::sweep()
{
    {
        // Drafts of records are made and renamed under the shared lock: what is there now has no owner.
        const file_lock guard = lock_exclusive();
        for (const std::string& name : list_directory(tmp_.get(), ".")) {
            bool dead = name.starts_with("record-") || name.starts_with("draft-") || name.starts_with("mount-");
            if (name.starts_with("work-")) {
                const unique_fd fd(
                    ::openat(tmp_.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
                dead = fd && file_lock::try_exclusive(fd.get(), "lock");
            }
            if (dead)
                rename_over(tmp_.get(), name, tmp_.get(), "dead-" + name);
        }
        remove_dead(leases_.get());
        remove_dead(claims_.get());
    }
    for (const std::string& name : list_directory(tmp_.get(), "."))
        if (name.starts_with("dead-") || name.starts_with("trash-") || name.starts_with("erased-"))
            remove_tree(tmp_.get(), name, tmp_.get());
}

OVERMOUNT_LAZY_BODY file_lock store::lease(const std::vector<diff_id>& diffs, std::string& name)
{
    name = random_id();
    auto lock = file_lock::try_exclusive(leases_.get(), name);
    if (!lock)
        throw error(errc::corrupt_repository).at(stage::repository).operation("lock");
    std::string content;
    for (const diff_id& id : diffs)
        content += id.string() + "\n";
    write_all(lock->fd(), std::as_bytes(std::span(content)));
    return std::move(*lock);
}

OVERMOUNT_LAZY_BODY void store::end_lease(const std::string& name)
{
    if (::unlinkat(leases_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
        throw_errno("unlink", name);
}

OVERMOUNT_DECL store::claim::~claim()
{
    // Unlinked while locked: who opened the file meanwhile sees that it is not the one in place any more. A file
    // that stays is swept when its lock can be had.
    if (directory_ >= 0)
        ::unlinkat(directory_, name_.c_str(), 0);
}

OVERMOUNT_LAZY_BODY void store::claim::beat() const { check(::futimens(lock_.fd(), nullptr), "utimens"); }

OVERMOUNT_LAZY_BODY std::optional<store::claim> store::try_claim(const diff_id& id)
{
    const std::string name = digest_name(id.value());
    if (auto lock = file_lock::try_exclusive(claims_.get(), name))
        return claim(std::move(*lock), claims_.get(), name);
    return std::nullopt;
}

OVERMOUNT_LAZY_BODY std::int64_t store::claim_time(const diff_id& id) const
{
    struct stat status;
    if (::fstatat(claims_.get(), digest_name(id.value()).c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    return status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

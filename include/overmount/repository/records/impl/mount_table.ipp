#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_MOUNT_TABLE_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_MOUNT_TABLE_IPP

#include <overmount/mount/mount_lookup.hpp>
#include <overmount/repository/records/check_records.hpp>
#include <overmount/repository/records/mount_table.hpp>
#include <overmount/storage/impl/diff_record.ipp>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY_BODY std::string resolved_target(const std::string& target)
{
    namespace fs = std::filesystem;
    std::error_code failure;
    fs::path path = fs::absolute(from_working_directory(target), failure);
    if (!path.has_filename())
        path = path.parent_path(); // trailing slashes
    const bool plain = path.has_filename() && path.filename() != "." && path.filename() != "..";
    fs::path out = plain ? fs::weakly_canonical(path.parent_path(), failure) / path.filename() : fs::weakly_canonical(path, failure);
    if (failure)
        throw error(boost::system::error_code(failure.value(), boost::system::system_category()))
            .at(stage::mount)
            .operation("resolve target")
            .subject(target);
    return out.string();
}

OVERMOUNT_LAZY_BODY std::optional<unique_fd> try_lock_directory(unique_fd directory)
{
    if (uninterrupted([&] { return ::flock(directory.get(), LOCK_EX | LOCK_NB); }) == 0)
        return directory;
    if (errno != EWOULDBLOCK)
        throw_errno("lock directory");
    return std::nullopt;
}

OVERMOUNT_LAZY_BODY std::optional<unique_fd> try_lock_target(const std::string& target)
{
    unique_fd directory(::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!directory)
        return unique_fd(); // mounting there reports the error
    try {
        return try_lock_directory(std::move(directory));
    } catch (const error&) {
        return unique_fd();
    }
}

OVERMOUNT_LAZY inline std::string mount_record_text(const mount_record& record)
{
    json_record content;
    content.text("id", record.id);
    if (record.image)
        content.text("image", record.image->string());
    else
        content.text("layer", record.layer->string());
    content.text("target", percent_encode(record.target));
    content.flag("writable", record.writable);
    content.flag("volatile", record.is_volatile);
    content.text("boot_id", record.identity.boot);
    content.number("mount_namespace", record.identity.mount_namespace);
    content.number("mount_id", record.identity.id);
    content.number("mountinfo_id", record.identity.number);
    content.number("device", record.identity.device);
    content.texts("lowers", record.lowers);
    return content.string();
}

OVERMOUNT_LAZY inline mount_record parse_mount(std::string_view text)
{
    std::optional<digest> image, layer;
    std::string name, target;
    bool writable = false, is_volatile = false;
    mount_identity identity;
    std::vector<std::string> lowers;
    read_record(text, json_object({{"id", json_text(name).required()},
                                   {"image", json_digest(image)},
                                   {"layer", json_digest(layer)},
                                   {"target", json_encoded(target).required()},
                                   {"writable", json_flag(writable).required()},
                                   {"boot_id", json_text(identity.boot).required()},
                                   {"mount_namespace", json_number(identity.mount_namespace).required()},
                                   {"volatile", json_flag(is_volatile)}, // this and the following members are newer than the first version
                                   {"mount_id", json_number(identity.id)},
                                   {"mountinfo_id", json_number(identity.number)},
                                   {"device", json_number(identity.device)},
                                   {"lowers", json_texts(lowers)}}));
    if (image.has_value() == layer.has_value())
        throw error(errc::corrupt_repository).at(stage::repository).detail("the record of a mount must name either an image or a layer");
    const mount_subject of = image ? mount_subject(*image) : mount_subject(chain_id(*layer));
    mount_record out(std::move(name), of, std::move(target), writable);
    out.is_volatile = is_volatile;
    out.identity = std::move(identity);
    out.identity.source = out.source();
    out.lowers = std::move(lowers);
    return out;
}

OVERMOUNT_LAZY inline void write_mount_record(int directory, const std::string& name, const mount_record& record, durability sync)
{
    write_file(directory, name, mount_record_text(record));
    if (sync == durability::none)
        return;
    const unique_fd file(checked(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC), "open", name));
    checked(::fsync(file.get()), "fsync", name);
}

OVERMOUNT_LAZY_BODY std::vector<std::string> directory_names(const std::vector<stacked_layer>& stack)
{
    std::vector<std::string> out;
    for (const stacked_layer& layer : stack)
        out.push_back(layer.directory.path);
    return out;
}

OVERMOUNT_LAZY inline mount_identity identity_before_mount(const mount_record& record)
{
    mount_identity out;
    out.boot = boot_id();
    out.mount_namespace = mount_namespace();
    out.source = record.source();
    return out;
}

OVERMOUNT_LAZY_BODY mount_record mount_table::add(const mount_subject& of, const std::string& target, bool writable,
                                                  std::vector<std::string> lowers, durability sync)
{
    mount_record record(random_id(), of, target, writable);
    if (record.target.empty())
        record.target = (store_->base() / "mounts" / record.id / "target").string();
    record.is_volatile = writable && sync == durability::none;
    record.identity = identity_before_mount(record);
    record.lowers = std::move(lowers);
    draft whole(store_->staging.fd(), "mount-");
    make_directory(store_->staging.fd(), whole.name(), 0700);
    const unique_fd made = open_directory(store_->staging.fd(), whole.name());
    for (const char* part : {"target", "upper", "work", "empty"})
        make_directory(made.get(), part, 0755);
    write_mount_record(made.get(), "record.json", record, sync);
    if (sync != durability::none)
        sync_directory(made.get());
    rename_over(store_->staging.fd(), whole.name(), store_->mounts(), record.id);
    whole.moved();
    try {
        if (sync != durability::none)
            sync_directory(store_->mounts());
    } catch (const error&) {
        remove(record); // otherwise a stopped mount would be listed that never existed
        throw;
    }
    return record;
}

OVERMOUNT_LAZY_BODY void mount_table::begin(mount_record& record, durability sync)
{
    record.identity = identity_before_mount(record);
    update(record, sync);
}

OVERMOUNT_LAZY_BODY void mount_table::update(const mount_record& record, durability sync)
{
    const unique_fd own = open_directory(store_->mounts(), record.id);
    draft next(own.get(), "record-");
    write_mount_record(own.get(), next.name(), record, sync);
    rename_over(own.get(), next.name(), own.get(), "record.json");
    next.moved();
    if (sync != durability::none)
        sync_directory(own.get());
}

OVERMOUNT_LAZY_BODY std::string mount_table::discard(const mount_record& record)
{
    std::string gone = "trash-" + random_id();
    if (::renameat(store_->mounts(), record.id.c_str(), store_->staging.fd(), gone.c_str()) == 0)
        return gone;
    if (errno != ENOENT)
        throw_errno("rename", record.id);
    return {}; // another process has discarded it
}

OVERMOUNT_LAZY_BODY void mount_table::erase(const std::string& discarded)
{
    if (!discarded.empty())
        remove_tree(store_->staging.fd(), discarded, store_->staging.fd());
}

OVERMOUNT_LAZY_BODY std::optional<unique_fd> mount_table::try_lock(const mount_record& record) const
{
    const auto refuse = [&record]() { throw error(errc::mount_not_found).at(stage::mount).subject(record.target); };
    unique_fd own(::openat(store_->mounts(), record.id.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!own && errno == ENOENT)
        refuse();
    checked(own.get(), "open directory", record.id);
    auto lock = try_lock_directory(std::move(own));
    // The previous holder of the lock may have discarded the record.
    if (lock && !exists(store_->mounts(), record.id))
        refuse();
    return lock;
}

OVERMOUNT_LAZY_BODY std::optional<mount_record> mount_table::find(const std::string& id) const
{
    const auto text = read_file(store_->mounts(), id + "/record.json", 1 << 20);
    return text ? std::optional(parse_mount(*text)) : std::nullopt;
}

OVERMOUNT_LAZY_BODY std::vector<mount_record> mount_table::list(std::vector<error>* damaged) const
{
    std::vector<mount_record> out;
    for (const std::string& id : list_directory(store_->mounts(), ".")) {
        try {
            if (auto found = find(id))
                out.push_back(std::move(*found));
        } catch (error& failure) {
            if (!is_damage(failure))
                throw;
            if (damaged != nullptr)
                damaged->push_back(failure.subject("mounts/" + id + "/record.json"));
        }
    }
    return out;
}

// A test may mount a probe on the upper directory; give it a work directory of its own next to the upper one.
OVERMOUNT_LAZY_BODY bool mount_table::test_alive(const mount_record& record, const mount_identity& identity, const alive_test& alive) const
{
    if (!record.writable)
        return alive(identity, mount_spec());
    try {
        const unique_fd own = open_directory(store_->mounts(), record.id);
        const draft place(own.get(), "probe-");
        make_directory(own.get(), place.name(), 0700);
        const unique_fd upper = open_directory(own.get(), "upper"), work = open_directory(own.get(), place.name());
        mount_spec probe;
        probe.upper(mount_directory::borrowed(upper.get())).work(mount_directory::borrowed(work.get()));
        return alive(identity, probe);
    } catch (const error&) {
        return true; // no probe is possible: the repository is read-only, or the mount is being removed
    }
}

OVERMOUNT_LAZY_BODY mount_state mount_table::state(const mount_record& record, const alive_test& alive) const
{
    const std::string boot = boot_id();
    const bool earlier = !boot.empty() && !record.identity.boot.empty() && record.identity.boot != boot;
    return !earlier && test_alive(record, record.identity, alive) ? mount_state::alive : mount_state::stopped;
}

OVERMOUNT_LAZY_BODY bool mount_table::uses_upper(const mount_record& record, const alive_test& alive) const
{
    return record.writable && test_alive(record, mount_identity(), alive);
}

OVERMOUNT_LAZY_BODY std::optional<mount_record> mount_table::in_use(const digest& image, const alive_test& alive) const
{
    std::vector<error> damaged;
    for (const mount_record& record : list(&damaged))
        if (record.image == image && (record.writable || state(record, alive) == mount_state::alive))
            return record;
    if (!damaged.empty())
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .subject((store_->base() / damaged.front().subject()).string())
            .detail("the record of this mount cannot be read: the mount may need the image");
    return std::nullopt;
}

OVERMOUNT_LAZY_BODY void mount_table::sweep(const alive_test& alive) noexcept
{
    try {
        std::vector<std::string> gone;
        // A record and its mount are made under one lock: a record without a mount is of a mount that is gone.
        if (auto lock = store_->lock(lock_kind::roots); lock.try_take())
            for (const mount_record& record : list())
                if (!record.writable && state(record, alive) == mount_state::stopped)
                    gone.push_back(discard(record));
        for (const std::string& name : gone)
            erase(name);
    } catch (const std::exception&) {
        // As in `store::sweep`: do not fail the operation that happens to sweep.
    }
}

OVERMOUNT_LAZY_BODY bool mount_table::may_be_incomplete(const mount_record& record)
{
    return record.is_volatile && record.identity.boot != boot_id();
}

OVERMOUNT_LAZY_BODY void mount_table::prepare_again(const mount_record& record, bool sync)
{
    const unique_fd own = open_directory(store_->mounts(), record.id);
    if (sync) {
        // Open the directory anew: the kernel reports a write-back error once to each descriptor, even an earlier error.
        const unique_fd upper(checked(::openat(own.get(), "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open", "upper"));
        checked(::syncfs(upper.get()), "syncfs", record.id);
    }
    remove_tree(own.get(), "work/work/incompat", own.get());
    sync_directory(open_directory(own.get(), "work").get());
    if (exists(own.get(), "work/work"))
        sync_directory(open_directory(own.get(), "work/work").get());
}

OVERMOUNT_LAZY_BODY void mount_table::prepare_upper(const mount_record& record, const std::optional<chain_id>& top,
                                                    const std::vector<stacked_layer>& stack)
{
    copy_directory_attributes(root_below(record, top, stack).get(),
                              open_directory(store_->mounts(), record.id + "/upper").get());
}

// Whether the chain needs a correction, according to its note; nullopt without a valid note. A damaged note is invalid, and so is
// one of an earlier boot: it is not synced, and a power cut may have lost the correction.
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

// The correction directory that this boot's mounts of a chain use. Each boot has its own: one of an earlier boot may be incomplete
// after a power cut, and one that a mount uses must not be removed.
OVERMOUNT_LAZY inline std::string correction_name() { return "correction-" + boot_id(); }

OVERMOUNT_LAZY_BODY bool mount_table::has_correction_note(const chain_id& top) const
{
    const std::string path = layer_path(top);
    const unique_fd layer(::openat(store_->base_fd(), path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!layer && errno == ENOENT)
        return false;
    return noted_correction(checked(layer.get(), "open directory", path)).has_value();
}

OVERMOUNT_LAZY_BODY bool mount_table::lost_correction(const chain_id& top, const std::vector<stacked_layer>& stack) const
{
    const unique_fd layer = open_directory(store_->base_fd(), layer_path(top));
    const auto noted = noted_correction(layer.get());
    if (!noted)
        return false;
    return *noted ? !exists(layer.get(), correction_name()) : correction(stack).needed();
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

// Replaces the existing correction, which was made of a damaged diff. A mount may use the old directory, so it is kept as
// `correction-<boot>.<n>`. The exchange leaves no moment without a directory of the normal name.
OVERMOUNT_LAZY inline void replace_correction(int staging, const std::string& name, int layer)
{
    std::string kept;
    for (unsigned n = 1; kept.empty(); ++n)
        if (const std::string one = correction_name() + "." + std::to_string(n); rename_into_place(staging, name, layer, one))
            kept = one;
    if (::renameat2(layer, kept.c_str(), layer, correction_name().c_str(), RENAME_EXCHANGE) != 0)
        throw_errno("exchange", correction_name());
}

// Syncs neither the correction nor its note: the note is not valid in another boot, and both are then made again.
OVERMOUNT_LAZY_BODY void mount_table::write_correction(const chain_id& top, correction& wanted, int staging)
{
    const unique_fd layer = open_directory(store_->base_fd(), layer_path(top));
    if (wanted.needed()) {
        draft mine(staging, "draft-");
        make_directory(staging, mine.name(), 0700);
        wanted.write(open_directory(staging, mine.name()).get());
        if (rename_into_place(staging, mine.name(), layer.get(), correction_name())) {
            mine.moved();
        } else if (!noted_correction(layer.get())) { // with a note, another process has made the same correction
            replace_correction(staging, mine.name(), layer.get());
            mine.moved();
        }
        for (const std::string& name : list_directory(layer.get(), "."))
            if (name.starts_with("correction-") && !name.starts_with(correction_name())) // mounts of an earlier boot are gone
                static_cast<void>(remove_record(staging, layer.get(), name, durability::none));
    }
    const std::string note = json_record().flag("needed", wanted.needed()).text("boot_id", boot_id()).string();
    put_record(staging, layer.get(), "correction.json", note, durability::none, existing::replace);
}

// Removes the note only: the next operation that makes the correction replaces the directory.
OVERMOUNT_LAZY inline void forget_correction(int layer)
{
    if (::unlinkat(layer, "correction.json", 0) != 0 && errno != ENOENT)
        throw_errno("unlink", "correction.json");
}

OVERMOUNT_LAZY_BODY void mount_table::forget_corrections(const std::set<diff_id>& diffs) const
{
    // Whether each chain has one of the diffs: what is known of a parent need not be read again.
    std::map<chain_id, bool> known;
    for (const chain_id& top : store_->layers.list()) {
        std::vector<chain_id> visited;
        bool has = false;
        for (std::optional<chain_id> next = top; next && !has;) {
            const auto [at, is_new] = known.try_emplace(*next, false);
            if (!is_new) {
                has = at->second;
                break;
            }
            visited.push_back(*next);
            std::optional<layer_record> layer;
            try {
                layer = store_->layers.find(*next);
            } catch (const error& failure) {
                if (failure.code() != errc::corrupt_repository)
                    throw;
                has = true; // an unreadable record may name one of the diffs
            }
            has = has || (layer && diffs.contains(layer->diff));
            next = layer ? layer->parent : std::nullopt;
        }
        for (const chain_id& chain : visited)
            known[chain] = has;
        if (has)
            forget_correction(open_directory(store_->base_fd(), layer_path(top)).get());
    }
}

OVERMOUNT_LAZY_BODY void mount_table::remake_correction(const chain_id& top, const std::vector<stacked_layer>& stack)
{
    forget_correction(open_directory(store_->base_fd(), layer_path(top)).get());
    ensure_correction(top, stack);
}

OVERMOUNT_LAZY_BODY unique_fd mount_table::root_below(const mount_record& record, const std::optional<chain_id>& top,
                                                      const std::vector<stacked_layer>& stack)
{
    if (top && ensure_correction(*top, stack))
        return open_directory(store_->base_fd(), layer_path(*top) + "/" + correction_name());
    if (!stack.empty())
        return open_directory(stack.front().fd()->get(), ".");
    return open_directory(store_->mounts(), record.id + "/empty");
}

OVERMOUNT_LAZY_BODY void mount_table::require_stackable(const std::optional<chain_id>& top,
                                                        const std::vector<stacked_layer>& stack)
{
    constexpr std::size_t max = mount_spec::max_lowers;
    if (stack.size() < max || (stack.size() == max && !(top && ensure_correction(*top, stack))))
        return;
    throw error(errc::too_many_layers)
        .at(stage::mount)
        .layer(top->string())
        .detail(std::to_string(stack.size()) + " different layers" + (stack.size() == max ? " and a correction" : ""));
}

OVERMOUNT_LAZY_BODY mount_spec mount_table::spec_of(const mount_record& record, const std::optional<chain_id>& top,
                                                    const std::vector<stacked_layer>& stack)
{
    mount_spec spec;
    const std::filesystem::path base = store_->base(), own = base / "mounts" / record.id;
    const auto directory = [](int parent, const std::string& name, const std::filesystem::path& path) {
        return mount_directory(
            unique_fd(checked(::openat(parent, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open",
                            name)),
            path.string());
    };
    if (top && ensure_correction(*top, stack)) {
        const std::string path = layer_path(*top) + "/" + correction_name();
        spec.add_lower(directory(store_->base_fd(), path, base / path));
    }
    for (const stacked_layer& layer : stack)
        spec.add_lower(lower([&layer] { return layer.fd(); }, (base / "diffs" / layer.directory.path).string()));
    // overlayfs needs at least two lower directories: add empty ones at the bottom. A read-only mount does not use its upper
    // directory otherwise.
    for (const char* name : {"empty", "upper"})
        if (spec.lowers().size() < 2 && !(record.writable && name == std::string_view("upper")))
            spec.add_lower(directory(store_->mounts(), record.id + "/" + name, own / name));
    spec.source(record.source()).read_only(!record.writable).volatile_(record.is_volatile);
    if (record.writable) {
        spec.upper(directory(store_->mounts(), record.id + "/upper", own / "upper"));
        spec.work(directory(store_->mounts(), record.id + "/work", own / "work"));
    }
    return spec;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

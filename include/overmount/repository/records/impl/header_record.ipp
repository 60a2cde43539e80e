#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_HEADER_RECORD_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_HEADER_RECORD_IPP

#include <overmount/oci/detail/json_record.hpp>
#include <overmount/repository/records/header_record.hpp>
#include <overmount/repository/records/repository_lock.hpp>
#include <overmount/storage/record_file.hpp>
#include <overmount/storage/impl/diff_record.ipp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace overmount::OVERMOUNT_ABI::detail {

// The subdirectories of the base directory.
inline constexpr std::array repository_parts = {"diffs",  "layers", "images",  "manifests", "tags", "blobs",
                                                "mounts", "leases", "imports", "claims",    "tmp"};

inline bool contains(const std::vector<std::string>& list, std::string_view value)
{
    return std::find(list.begin(), list.end(), value) != list.end();
}

// Creates the directory and its missing parents, and makes each of them durable.
inline void make_durable_directories(const std::filesystem::path& path)
{
    if (path.empty() || exists(AT_FDCWD, path.string()))
        return;
    const std::filesystem::path parent = path.parent_path();
    make_durable_directories(parent);
    make_directory(AT_FDCWD, path.string(), 0700);
    sync_directory(open_directory(AT_FDCWD, parent.empty() ? "." : parent.string()).get());
}

OVERMOUNT_DECL std::string header_record::content::text() const
{
    json_record features, out;
    features.texts("compatible", compatible).texts("read_only_compatible", read_only).texts("incompatible", incompatible);
    out.number("version", version).object("features", features).texts("forms", forms);
    return out.string();
}

OVERMOUNT_DECL header_record::header_record(const std::filesystem::path& base, std::string_view form, bool allow_others,
                                                 std::optional<uid_t> owner)
    : base_(std::filesystem::absolute(from_working_directory(base.string())).lexically_normal())
{
    if (!base_.has_filename()) // a trailing slash
        base_ = base_.parent_path();
    make_durable_directories(base_);
    fd_.reset(checked(::open(base_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open directory", base_.string()));
    check_owner(allow_others, owner);
    if (::faccessat(fd_.get(), ".", W_OK, AT_EACCESS) != 0) {
        read_only_ = true;
        why_read_only_ = errno == EROFS ? "its file system is mounted read-only" : "there is no write permission for its directory";
    }
    if (!exists(fd_.get(), "repository.json"))
        make(form);
    const content header = parse(text());
    if (!contains(header.forms, form)) {
        std::string names;
        for (const std::string& name : header.forms)
            names += (names.empty() ? "" : ", ") + escape(name);
        throw error(errc::unsupported_repository).subject(base_.string()).detail("it was created with another storage: " + names);
    }
    for (const std::string& name : header.read_only)
        if (name != feature) {
            read_only_ = true;
            why_read_only_ = "it uses a feature that this version does not know: " + escape(name);
        }
}

OVERMOUNT_DECL void header_record::check_owner(bool allow_others, std::optional<uid_t> owner) const
{
    struct stat status;
    checked(::fstat(fd_.get(), &status), "stat");
    const uid_t wanted = owner.value_or(::geteuid());
    if (const std::string found = std::to_string(status.st_uid); status.st_uid != wanted)
        throw error(errc::repository_of_another_user)
            .at(stage::repository)
            .subject(base_.string())
            .detail("its owner is user " + found + ", not " + std::to_string(wanted) + ": work as user " + found +
                    ", or name the owner: om --repo-owner " + found + ", repository_options().owner(" + found + ")");
    if (!allow_others && (status.st_mode & 0077) != 0)
        throw error(errc::repository_open_to_others)
            .subject(base_.string())
            .detail("set its mode to 0700, or ask for a repository that is open to others");
}

OVERMOUNT_DECL std::string header_record::text() const
{
    return read_file(fd_.get(), "repository.json", record_limit).value_or("");
}

OVERMOUNT_DECL header_record::content header_record::parse(std::string_view text) const
{
    content out;
    // Read the version first: the other members may look different in another version.
    const auto read_version = [&] { read_record(text, json_object({{"version", json_number(out.version).required()}})); };
    const auto read_features = [&] {
        read_record(text, json_object({{"features",
                                        json_object({{"compatible", json_texts(out.compatible)},
                                                     {"incompatible", json_texts(out.incompatible).required()},
                                                     {"read_only_compatible", json_texts(out.read_only).required()}})
                                            .required()},
                                       {"forms", json_texts(out.forms).required()}}));
    };
    const std::string path = (base_ / "repository.json").string();
    in_record(path, read_version);
    if (out.version == 1)
        in_record(path, read_features);
    if (out.version != 1 || !out.incompatible.empty())
        throw error(errc::unsupported_repository).subject(base_.string());
    return out;
}

// Creates the subdirectories before the header: if repository.json exists, they all do.
OVERMOUNT_DECL void header_record::make(std::string_view form) const
{
    for (const std::string& name : list_directory(fd_.get(), ".")) {
        const bool ours = name == "repository.lock" || name == "replace.lock" || name.starts_with("record-") || name.starts_with("repository.json") ||
                          std::find(repository_parts.begin(), repository_parts.end(), name) != repository_parts.end();
        if (!ours)
            throw error(errc::not_a_repository)
                .subject(base_.string())
                .detail("the directory is not empty and has no repository.json");
    }
    for (const char* part : repository_parts)
        make_directory(fd_.get(), part, 0700);
    repository_lock mine(fd_.get(), lock_kind::shared);
    sync_directory(fd_.get());
    sync_directory(open_directory(AT_FDCWD, base_.parent_path().string()).get()); // even if another process created the base
    content made;
    made.version = 1;
    made.read_only = {feature};
    made.forms = {std::string(form)};
    // Two processes may create the repository at the same time: both write the same text, and one rename wins. If the shared lock
    // is not free, another process holds it exclusively and may sweep our draft from `tmp/`. That process has opened the
    // repository, so the header exists.
    if (mine.try_take())
        put_record(staging().get(), fd_.get(), "repository.json", made.text(), durability::full, existing::keep);
    else if (exists(fd_.get(), "repository.json"))
        make_record_last(fd_.get(), "repository.json");
    else
        throw error(errc::repository_busy).at(stage::repository).subject(base_.string());
}

OVERMOUNT_DECL void header_record::note_feature() const
{
    if (noted_)
        return;
    const std::lock_guard guard(mutex_);
    const std::string there = text(); // another process may have added the feature
    if (contains(parse(there).read_only, feature))
        make_record_last(fd_.get(), "repository.json"); // the process that added it may have died before its fsync
    else {
        // Keep members that this version does not know: a newer version may have created the repository and still let this one
        // write. The text was just parsed, so the members used here have the right types.
        auto header = nlohmann::json::parse(there);
        header["features"]["read_only_compatible"].push_back(feature);
        put_record(staging().get(), fd_.get(), "repository.json", header.dump(), durability::full, existing::replace);
    }
    noted_ = true;
}

OVERMOUNT_DECL void header_record::remove_drafts() const
{
    for (const std::string& name : list_directory(fd_.get(), "."))
        if (name.starts_with("record-") && ::unlinkat(fd_.get(), name.c_str(), 0) != 0 && errno != ENOENT)
            throw_errno("unlink", name);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_LEASES_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_LEASES_IPP

#include <overmount/oci/detail/json_record.hpp>
#include <overmount/repository/records/leases.hpp>
#include <overmount/storage/impl/diff_record.ipp>
#include <overmount/storage/record_file.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace overmount::OVERMOUNT_ABI::detail {

inline std::string timed_lease_file(std::string_view name) { return "timed-" + digest::of(name).hex() + ".json"; }

inline std::optional<leased_kind> leased_kind_of(std::string_view word)
{
    constexpr std::pair<std::string_view, leased_kind> words[] = {{"diff", leased_kind::diff},
                                                                  {"layer", leased_kind::layer},
                                                                  {"image", leased_kind::image},
                                                                  {"manifest", leased_kind::manifest},
                                                                  {"blob", leased_kind::blob}};
    for (const auto& [known, kind] : words)
        if (word == known)
            return kind;
    return std::nullopt;
}

OVERMOUNT_DECL std::vector<lease_line> parse_lease(std::string_view text)
{
    std::vector<lease_line> out;
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
        const std::string_view line = text.substr(0, end);
        const auto space = line.find(' ');
        const auto kind = leased_kind_of(line.substr(0, space));
        const auto id = space == std::string_view::npos ? std::nullopt : digest::try_parse(line.substr(space + 1));
        if (!kind || !id)
            throw error(errc::corrupt_repository).at(stage::repository).detail("a line of the lease does not name a leased object");
        out.push_back({*kind, *id});
        text.remove_prefix(end + 1);
    }
    return out;
}

OVERMOUNT_DECL two_clocks two_clocks::now()
{
    const auto seconds = [](clockid_t clock) -> std::int64_t {
        timespec time{};
        checked(::clock_gettime(clock, &time), "clock_gettime");
        return time.tv_sec;
    };
    return {boot_id(), seconds(CLOCK_REALTIME), seconds(CLOCK_BOOTTIME)};
}

OVERMOUNT_DECL std::string timed_lease_record::text() const
{
    json_record out;
    out.text("name", percent_encode(name)).text("boot_id", end.boot).text("content", content.text());
    out.number("end", static_cast<std::uint64_t>(end.wall)).number("end_since_boot", static_cast<std::uint64_t>(end.since_boot));
    return out.string();
}

OVERMOUNT_DECL timed_lease_record timed_lease_record::parse(std::string_view text)
{
    timed_lease_record out;
    std::uint64_t wall = 0, since_boot = 0;
    std::string lines;
    read_record(text, json_object({{"name", json_encoded(out.name).required()},
                                   {"boot_id", json_text(out.end.boot).required()},
                                   {"content", json_text(lines).required()},
                                   {"end", json_number(wall).required()},
                                   {"end_since_boot", json_number(since_boot).required()}}));
    out.end.wall = static_cast<std::int64_t>(wall);
    out.end.since_boot = static_cast<std::int64_t>(since_boot);
    for (const lease_line& line : parse_lease(lines))
        switch (line.kind) {
        case leased_kind::diff: out.content.diff(diff_id(line.id)); break;
        case leased_kind::layer: out.content.layer(chain_id(line.id)); break;
        case leased_kind::image: out.content.image(line.id); break;
        case leased_kind::manifest: out.content.manifest(line.id); break;
        case leased_kind::blob: out.content.blob(line.id); break;
        }
    return out;
}

OVERMOUNT_DECL held_lease::~held_lease()
{
    if (directory_ >= 0) // if this fails, a later sweep removes the file: its lock is free
        ::unlinkat(directory_, name_.c_str(), 0);
}

OVERMOUNT_DECL void held_lease::add(const lease_content& more) const
{
    write_all(lock_.fd(), std::as_bytes(std::span(more.text())));
}

OVERMOUNT_DECL held_lease lease_table::take(const lease_content& content) const
{
    std::string name = random_id();
    auto lock = file_lock::try_exclusive(directory_, name);
    if (!lock) // the name is random: no other process uses it
        throw error(errc::corrupt_repository).at(stage::repository).operation("lock").subject("leases/" + name);
    held_lease out(std::move(*lock), directory_, std::move(name));
    out.add(content);
    return out;
}

OVERMOUNT_DECL void lease_table::put(int staging, const timed_lease_record& record, durability sync) const
{
    put_record(staging, directory_, timed_lease_file(record.name), record.text(), sync, existing::replace);
}

OVERMOUNT_DECL bool lease_table::end(int staging, std::string_view name, durability sync) const
{
    return remove_record(staging, directory_, timed_lease_file(name), sync);
}

OVERMOUNT_DECL std::vector<std::string> lease_table::files() const { return list_directory(directory_, "."); }

OVERMOUNT_DECL bool lease_table::is_timed(std::string_view file) { return file.starts_with("timed-"); }

OVERMOUNT_DECL std::optional<timed_lease_record> lease_table::timed(const std::string& file) const
{
    if (!is_timed(file))
        return std::nullopt;
    const auto text = read_file(directory_, file, record_limit);
    if (!text)
        return std::nullopt;
    return in_record("leases/" + file, [&text] { return timed_lease_record::parse(*text); });
}

OVERMOUNT_DECL std::vector<lease_line> lease_table::live(const std::string& file) const
{
    if (const auto record = timed(file))
        return record->is_over(two_clocks::now()) ? std::vector<lease_line>() : parse_lease(record->content.text());
    const unique_fd fd(::openat(directory_, file.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
    if (!fd && errno == ENOENT)
        return {};
    if (!is_locked(checked(fd.get(), "open", file)))
        return {};
    const auto text = read_file(directory_, file, record_limit);
    return in_record("leases/" + file, [&text] { return parse_lease(text.value_or("")); });
}

OVERMOUNT_DECL std::uint64_t lease_table::version(const std::string& file) const
{
    struct stat status;
    if (::fstatat(directory_, file.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
        return 0;
    // A held lease only grows; a timed lease is replaced by a new file.
    return 1 + static_cast<std::uint64_t>(status.st_size) + (is_timed(file) ? static_cast<std::uint64_t>(status.st_ctim.tv_nsec) << 32 : 0);
}

OVERMOUNT_DECL std::uint64_t lease_table::over() const
{
    std::uint64_t out = 0;
    const two_clocks now = two_clocks::now();
    for (const std::string& file : files()) {
        if (const auto record = timed(file)) {
            out += record->is_over(now) ? 1 : 0;
        } else if (!is_timed(file)) {
            const unique_fd fd(::openat(directory_, file.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC));
            out += fd && !is_locked(fd.get()) ? 1 : 0;
        }
    }
    return out;
}

OVERMOUNT_DECL std::uint64_t lease_table::sweep() const
{
    std::uint64_t out = 0;
    const two_clocks now = two_clocks::now();
    for (const std::string& file : files()) {
        std::optional<file_lock> dead;
        if (!is_timed(file))
            dead = file_lock::try_exclusive(directory_, file);
        bool is_over = dead.has_value();
        try {
            if (const auto record = timed(file))
                is_over = record->is_over(now);
        } catch (const error& failure) {
            if (failure.code() != errc::corrupt_repository)
                throw;
            // A damaged lease stays: the collection reports it.
        }
        if (is_over) {
            checked(::unlinkat(directory_, file.c_str(), 0), "unlink", file);
            ++out;
        }
    }
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

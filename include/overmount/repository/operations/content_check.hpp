// Verifies the stored content of one diff or blob.
#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CONTENT_CHECK_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CONTENT_CHECK_HPP

#include <overmount/check.hpp>
#include <overmount/core/hasher.hpp>
#include <overmount/repository/records/check_records.hpp>
#include <overmount/repository/state.hpp>

#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The result for one diff or blob: its damages, and the earlier damages that no longer exist.
struct verified
{
    std::vector<finding> damages = {}, mended = {};
};

// Used by one worker thread. Unless the repository is read-only, marks a damaged diff, and removes the mark of a diff that is intact
// again.
template <storage_policy Storage>
class content_check
{
public:
    // \param scratch a directory in which the tree of a diff may be unpacked again
    content_check(std::shared_ptr<repository_state<Storage>> owner, int scratch) : repository_(std::move(owner)), scratch_(scratch) {}

    [[nodiscard]] verified verify_blob(const digest& id, const stop_flag& stop) const
    {
        try {
            const unique_fd fd = repository_->records->blobs.open(id);
            if (!fd)
                return {}; // it was removed meanwhile
            const digest found = sum_of(id.algorithm(), stop, [&fd](std::span<std::byte> into) {
                return read_some(fd.get(), into);
            });
            if (found == id)
                return {};
            return {{{finding_kind::blob_changed, id.string(), "", "its content has the digest " + found.string()}}};
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            return {{{finding_kind::blob_changed, id.string(), "", failure.what()}}};
        }
    }

    [[nodiscard]] verified verify_diff(const diff_id& id, const stop_flag& stop) const
    {
        if constexpr (markable_storage<Storage>) {
            for (unsigned attempt = 0; is_there(id); ++attempt) {
                const auto version = version_of(id);
                if (!version)
                    break;
                verified out{compare(id, attempt, stop)};
                if (!repository_->storage.is_current(id, *version))
                    continue; // the diff was replaced or removed meanwhile
                if (!repository_->records->read_only())
                    note(id, *version, out);
                return out;
            }
            return {};
        } else {
            verified out{compare(id, 0, stop)};
            return out.damages.empty() || is_there(id) ? out : verified();
        }
    }

private:
    // The digest of all bytes that `read` returns.
    template <class Read>
    static digest sum_of(digest_algorithm algorithm, const stop_flag& stop, Read read)
    {
        hasher sum(algorithm);
        constexpr std::size_t size = 256 << 10;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
        while (const std::size_t count = read(std::span(buffer.get(), size))) {
            stop.throw_if_stopped();
            sum.update({buffer.get(), count});
        }
        return sum.finish();
    }

    [[nodiscard]] std::vector<finding> compare(const diff_id& id, unsigned attempt, const stop_flag& stop) const
    {
        std::vector<finding> out;
        const auto add = [&](finding_kind kind, std::string_view path, std::string_view how) {
            out.push_back({kind, id.string(), std::string(path), std::string(how)});
        };
        try {
            static_cast<void>(repository_->storage.record(id));
            if constexpr (verifiable_storage<Storage>) {
                const verify_context context(
                    write_context(scratch_, "check-" + id.value().hex() + "-" + std::to_string(attempt), repository_->bounds),
                    [&](std::string_view path, std::string_view how) { add(finding_kind::diff_changed, path, how); },
                    [&stop] { stop.throw_if_stopped(); });
                repository_->storage.verify(id, context);
            } else if constexpr (packable_storage<Storage>) {
                auto reader = repository_->storage.pack(id);
                const digest found = sum_of(id.value().algorithm(), stop,
                                            [&reader](std::span<std::byte> into) { return reader.read(into); });
                if (found != id.value())
                    add(finding_kind::diff_changed, "", "its tar has the digest " + found.string());
            } else if (repository_->is_damaged(id)) {
                add(finding_kind::diff_marked, "", "an earlier check found it damaged");
            }
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            const bool changed = failure.code() == errc::diff_changed;
            add(changed ? finding_kind::diff_changed : finding_kind::diff_unreadable, failure.entry(), failure.what());
        }
        return out;
    }

    // nullopt if the diff no longer exists, or if a file of another type is in its place, which cannot be marked.
    [[nodiscard]] std::optional<diff_version> version_of(const diff_id& id) const
        requires markable_storage<Storage>
    {
        try {
            return repository_->storage.version(id);
        } catch (const error& failure) {
            if (failure.code() != errc::layer_not_found)
                throw;
            return std::nullopt;
        }
    }

    void note(const diff_id& id, const diff_version& version, verified& found) const
        requires markable_storage<Storage>
    {
        const bool marked = repository_->is_damaged(id);
        if (marked && found.damages.empty()) {
            repository_->storage.unmark_damaged(version);
            found.mended.push_back({finding_kind::diff_marked, id.string(), "", "the diff is intact, and its mark was removed"});
        } else if (!marked && !found.damages.empty()) {
            try {
                repository_->storage.mark_damaged(version, scratch_);
            } catch (const error& failure) { // report the damage in any case
                found.damages.front().detail += "; the diff cannot be marked as damaged: " + std::string(failure.what());
            }
        }
    }

    bool is_there(const diff_id& id) const
    {
        try {
            return repository_->is_there(id);
        } catch (const error&) {
            return true; // it exists, with a damaged record
        }
    }

    std::shared_ptr<repository_state<Storage>> repository_;
    int scratch_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

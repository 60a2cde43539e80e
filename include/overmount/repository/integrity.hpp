#ifndef OVERMOUNT_REPOSITORY_INTEGRITY_HPP
#define OVERMOUNT_REPOSITORY_INTEGRITY_HPP

#include <overmount/check.hpp>
#include <overmount/importer/any_importer.hpp>
#include <overmount/options.hpp>
#include <overmount/repository/space.hpp>
#include <overmount/runtime/operation.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// The part of `basic_repository` that checks whether its content is as it was imported, and repairs damage.
template <storage_policy Storage, optional_mount_policy Mount>
class basic_integrity : public basic_space<Storage, Mount>
{
    using state = detail::repository_state<Storage>;

public:
    /// Compares the content of the repository with its digests: configs, manifests, blobs, chains of layers, references, and each
    /// diff. An unpacked diff is compared with its recipe, in data and in all attributes. If the storage cannot give tars back, only
    /// records are checked.
    ///
    /// A diff that is found damaged is marked, unless the repository is read-only: mounting or exporting it then fails with
    /// `diff_damaged`, and an import unpacks it again. The mark is removed when a check finds the diff whole.
    ///
    /// Damage does not end the check: the report lists all of it. Leftovers of dead processes and objects that are made or removed
    /// during the check are not damage. Two diffs are read at a time; for an unpacked diff, the check builds a tree without data
    /// below `tmp/`.
    ///
    /// *Returns*: what was checked, and what was found. *Errors*: only if the repository cannot be read at all: errno values such
    /// as EMFILE and ENOSPC. *Cancellation*: any; nothing is left.
    [[nodiscard]] asio::awaitable<check_report> check(check_options options = check_options()) const
    {
        return detail::operation(check_all(opened(), std::move(options)));
    }

    /// Checks the repository and rebuilds damaged objects from its own content: diffs and documents from kept blobs, layer records
    /// from the configs of images. Nothing is changed in place: a mount keeps reading the old files.
    ///
    /// *Returns*: the remaining findings, each with the reason why it could not be repaired, and those that were repaired. *Errors*:
    /// those of `check`; errno values such as EROFS; `repository_busy`. *Cancellation*: any; each diff is then either the old or the
    /// new one.
    [[nodiscard]] asio::awaitable<check_report> repair() const { return detail::operation(repair_from(opened(), std::nullopt, repair_options())); }
    /// The same, also with the images that a source offers. None of them is imported.
    ///
    /// *Errors*: also those of the source.
    template <importer Importer>
    [[nodiscard]] asio::awaitable<check_report> repair(Importer source, repair_options options = repair_options()) const
    {
        return detail::operation(repair_from(opened(), any_importer(std::move(source)), std::move(options)));
    }

protected:
    using basic_space<Storage, Mount>::basic_space;
    using basic_space<Storage, Mount>::opened;

private:
    static asio::awaitable<check_report> check_all(std::shared_ptr<state> owner, check_options options);
    static asio::awaitable<check_report> repair_from(std::shared_ptr<state> owner, std::optional<any_importer> source,
                                                     repair_options options);
};

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/repository/impl/integrity.ipp>
#endif

#endif

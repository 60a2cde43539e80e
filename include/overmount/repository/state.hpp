#ifndef OVERMOUNT_REPOSITORY_STATE_HPP
#define OVERMOUNT_REPOSITORY_STATE_HPP

#include <overmount/options.hpp>
#include <overmount/posix/descriptor_budget.hpp>
#include <overmount/repository/records/mount_table.hpp>
#include <overmount/repository/records/store.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/semaphore.hpp>
#include <overmount/storage/storage_policy.hpp>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The records of diffs that this operation has just written: they need not be read back.
using known_records = std::map<diff_id, diff_record>;

// The correction that a mount of a stack needs, with the stack that it was computed from.
struct found_correction
{
    OVERMOUNT_LAZY explicit found_correction(std::vector<stacked_layer> layers) : stack(std::move(layers)), wanted(stack)
    {
        for (stacked_layer& layer : stack) // an import keeps many of these: layers are opened again when they are copied from
            layer.close();
    }
    found_correction(const found_correction&) = delete;
    found_correction& operator=(const found_correction&) = delete;
    std::vector<stacked_layer> stack;
    correction wanted;
};

// The opened repository: shared by all handles on it.
template <storage_policy Storage>
struct repository_state
{
    repository_state(std::shared_ptr<store> opened, const repository_options& options, worker_pool threads)
        : records(std::move(opened)),
          storage(storage_place(records->diffs(), records->staging.fd(), options.sync())),
          pool(std::move(threads)), bounds(options.bounds()), sync(options.sync()), lock_limit(options.lock_limit()),
          slots(unpack_slots(pool.workers())), streams(options.streams())
    {}

    // The layers that a mount of `top` stacks, topmost first: each diff once, at its topmost position, down to an opaque root. Of a
    // long chain only some layers stay open.
    [[nodiscard]] std::vector<stacked_layer> stack_of(const chain_id& top) const
        requires mountable_storage<Storage>
    {
        std::vector<diff_id> diffs;
        for (layer_record& layer : records->layers.chain(top))
            diffs.push_back(std::move(layer.diff));
        return stack_of(diffs, {});
    }
    // The same for a chain's diffs, topmost first; `known` has records that need not be read.
    [[nodiscard]] std::vector<stacked_layer> stack_of(const std::vector<diff_id>& diffs, const known_records& known) const
        requires mountable_storage<Storage>
    {
        constexpr std::size_t open_without_budget = 16;
        std::vector<stacked_layer> out;
        std::set<diff_id> seen;
        const auto budget = diffs.size() > open_without_budget ? new_shared<descriptor_budget>() : nullptr;
        const std::size_t most_open = budget && budget->take() ? descriptor_budget::descriptors : open_without_budget;
        for (const diff_id& diff : diffs) {
            if (!seen.insert(diff).second)
                continue;
            const auto found = known.find(diff);
            auto record = found != known.end() ? found->second : storage.record(diff);
            out.push_back({storage.lower(diff), std::move(record), [this, diff] { return storage.lower(diff); }, budget});
            if (out.size() > most_open)
                out.back().close();
            if (out.back().record.opaque_root)
                break;
        }
        return out;
    }

    // The diffs of a mounted image or chain, lowest first. Throws `image_not_found`, `digest_mismatch`, `layer_not_found`,
    // `corrupt_repository`.
    [[nodiscard]] std::vector<diff_id> diffs_of(const mount_subject& what) const
    {
        if (const digest* image_id = std::get_if<digest>(&what)) {
            auto config = records->image(*image_id);
            if (!config)
                throw error(errc::image_not_found).at(stage::repository).subject(image_id->string());
            if (digest::of(*config, image_id->algorithm()) != *image_id)
                throw error(errc::digest_mismatch)
                    .at(stage::repository)
                    .subject("images/" + digest_path(*image_id) + "/config.json");
            return image_config::parse(std::move(*config), bounds).diff_ids();
        }
        return diffs_of(std::optional(std::get<chain_id>(what)));
    }
    // The diffs of a chain, lowest first.
    [[nodiscard]] std::vector<diff_id> diffs_of(const std::optional<chain_id>& top) const
    {
        std::vector<diff_id> out;
        if (top)
            for (layer_record& one : records->layers.chain(*top))
                out.push_back(std::move(one.diff));
        std::reverse(out.begin(), out.end());
        return out;
    }

    // Whether a check found the diff damaged.
    [[nodiscard]] bool is_damaged(const diff_id& id) const
    {
        if constexpr (markable_storage<Storage>)
            return storage.is_damaged(id);
        else
            return false;
    }
    // Whether the diff is stored, damaged or not. Throws `corrupt_repository` if its record is corrupt.
    [[nodiscard]] bool is_there(const diff_id& id) const
    {
        if (is_damaged(id))
            return true;
        try {
            static_cast<void>(storage.record(id));
            return true;
        } catch (const error& failure) {
            if (failure.code() != errc::layer_not_found)
                throw;
            return false;
        }
    }
    // Throws `diff_damaged` if a check found the diff damaged.
    void require_undamaged(const diff_id& id) const
    {
        if (is_damaged(id))
            throw error(errc::diff_damaged).at(stage::storage).layer(id.string()).detail("repair it, or import it again");
    }
    void require_undamaged(const std::vector<diff_id>& all) const
    {
        for (const diff_id& id : all)
            require_undamaged(id);
    }
    // The same, and throws `layer_not_found` if the diff is missing, or `corrupt_repository`.
    void require_believed(const diff_id& id) const
    {
        require_undamaged(id);
        if (!storage.contains(id) && !is_there(id))
            throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
    }

    // The result of publishing a diff.
    enum class published
    {
        ours,  // this diff was published
        there, // another operation or process had published it
        later, // the published one is not trusted, and has to be replaced; or another process is replacing it at the moment
    };

    // Publishes a finished diff.
    [[nodiscard]] published publish(typename Storage::writer& writer, const diff_id& id) const
    {
        if (writer.publish(id))
            return published::ours;
        return storage.contains(id) ? published::there : published::later;
    }

    // Publishes a finished diff in place of one that is not trusted: one that was not synced before the machine went down, or that
    // was found damaged. If another process has replaced it in the meantime, that diff stays. The caller calls `forget_corrections`
    // before and afterwards, since corrections were made from the old diff.
    //
    // \param staging the staging directory to work in
    [[nodiscard]] published replace(typename Storage::writer& writer, const diff_id& id, int staging)
    {
        const auto guard = file_lock::try_exclusive(records->base_fd(), "replace.lock");
        if (!guard)
            return published::later;
        if (storage.contains(id))
            return published::there;
        if constexpr (replacing_writer<typename Storage::writer>) {
            const bool must_be_durable = sync == durability::none && may_be_relied_on(id);
            writer.replace(id);
            if (must_be_durable)
                storage.make_durable(id, staging, [] {});
            return published::ours;
        } else {
            storage.erase(id);
            return writer.publish(id) ? published::ours : published::there;
        }
    }

    // Removes the corrections of all chains with one of these diffs.
    void forget_corrections(const std::set<diff_id>& diffs) const
    {
        if constexpr (mountable_storage<Storage>)
            if (!diffs.empty())
                mount_table(records).forget_corrections(diffs);
    }

    // Makes the renames of published diffs durable, by whichever process they were made. Call this before publishing anything that
    // relies on published diffs.
    void sync_published() const
    {
        if (sync != durability::none)
            records->sync_diffs();
    }

    // The correction that a mount of the chain needs on top of its layers; it is written when the chain is made. `diffs` are the
    // chain's, topmost first. nullptr if the correction was made before, or if the chain cannot be mounted.
    [[nodiscard]] std::unique_ptr<found_correction>
    find_correction(const chain_id& top, const std::vector<diff_id>& diffs, const known_records& known) const
    {
        if constexpr (mountable_storage<Storage>) {
            if (mount_table(records).has_correction_note(top))
                return nullptr;
            if (auto stack = stack_of(diffs, known); stack.size() <= mount_spec::max_lowers)
                return std::make_unique<found_correction>(std::move(stack));
        }
        return nullptr;
    }
    // \param staging the staging directory to work in
    void write_correction(const chain_id& top, found_correction& found, int staging) const
    {
        mount_table(records).write_correction(top, found.wanted, staging);
    }

    // How many layers are unpacked at a time: one more than there are worker threads, if enough descriptors are free.
    [[nodiscard]] static unsigned unpack_slots(unsigned workers)
    {
        constexpr std::size_t descriptors_per_layer = 16;
        return static_cast<unsigned>(std::clamp<std::size_t>(free_descriptors() / descriptors_per_layer, 1, workers + 1));
    }

    std::shared_ptr<store> records;
    Storage storage;
    worker_pool pool;
    limits bounds;
    durability sync;
    std::chrono::steady_clock::duration lock_limit;
    semaphore slots;   // for layers that worker threads read from local files
    semaphore streams; // for layers that are read from streams

private:
    // Whether a durable image may rely on the diff that is replaced. If its record cannot be read, assume that one does.
    [[nodiscard]] bool may_be_relied_on(const diff_id& id) const
    {
        try {
            return is_there(id);
        } catch (const error& failure) {
            if (failure.code() != errc::corrupt_repository)
                throw;
            return true;
        }
    }
};

// Runs `work`, then `clean` on a worker thread, also if the work failed or was cancelled. Throws the first failure. The caller's
// cancellation state stays as it is: a cancellation that is requested during the cleanup takes effect after it.
template <class Function>
asio::awaitable<void> run_then_clean(worker_pool pool, asio::awaitable<void> work, Function clean)
{
    std::exception_ptr failure;
    try {
        co_await std::move(work);
    } catch (const error&) {
        failure = std::current_exception();
    } catch (const boost::system::system_error& cancelled) { // thrown by Asio at a co_await
        failure = std::make_exception_ptr(error(cancelled.code()));
    } catch (...) {
        failure = std::current_exception();
    }
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false);
    try {
        co_await run_on(std::move(pool), std::move(clean), when_cancelled::go_on);
    } catch (...) {
        if (!failure)
            failure = std::current_exception();
    }
    co_await asio::this_coro::throw_if_cancelled(throws);
    if (failure)
        std::rethrow_exception(failure);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

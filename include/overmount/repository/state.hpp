#ifndef OVERMOUNT_REPOSITORY_STATE_HPP
#define OVERMOUNT_REPOSITORY_STATE_HPP

#include <overmount/options.hpp>
#include <overmount/posix/descriptor_turn.hpp>
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

namespace overmount::inline OVERMOUNT_ABI::detail {

// Of diffs that were written just now.
using known_records = std::map<diff_id, diff_record>;

// What a mount of layers needs, and what it was found from.
struct found_correction
{
    OVERMOUNT_LAZY explicit found_correction(std::vector<stacked_layer> layers) : stack(std::move(layers)), wanted(stack)
    {
        for (stacked_layer& layer : stack) // an import has many of these: layers are opened again to be copied from
            layer.close();
    }
    found_correction(const found_correction&) = delete;
    found_correction& operator=(const found_correction&) = delete;
    std::vector<stacked_layer> stack;
    correction wanted;
};

// What all handles on one opened repository share.
template <storage_policy Storage>
struct repository_state
{
    repository_state(std::shared_ptr<store> opened, const repository_options& options, worker_pool threads)
        : records(std::move(opened)),
          storage(storage_place(records->diffs(), records->staging.fd(), options.sync())),
          pool(std::move(threads)), bounds(options.bounds()), sync(options.sync()), lock_limit(options.lock_limit()),
          slots(places(pool.workers())), streams(options.streams())
    {}

    // The layers that a mount of `top` stacks, topmost first: each diff once, at its topmost place, down to
    // an opaque root. Of many layers only some stay open.
    [[nodiscard]] std::vector<stacked_layer> stack_of(const chain_id& top) const
        requires mountable_storage<Storage>
    {
        std::vector<diff_id> diffs;
        for (layer_record& layer : records->layers.chain(top))
            diffs.push_back(std::move(layer.diff));
        return stack_of(diffs, {});
    }
    // The same of a chain's diffs, topmost first, where the records of some need not be read.
    [[nodiscard]] std::vector<stacked_layer> stack_of(const std::vector<diff_id>& diffs, const known_records& known) const
        requires mountable_storage<Storage>
    {
        constexpr std::size_t few = 16;
        std::vector<stacked_layer> out;
        std::set<diff_id> seen;
        const auto turn = diffs.size() > few ? new_shared<descriptor_turn>() : nullptr;
        const std::size_t most_open = turn && turn->take() ? descriptor_turn::descriptors : few;
        for (const diff_id& diff : diffs) {
            if (!seen.insert(diff).second)
                continue;
            const auto at_hand = known.find(diff);
            auto record = at_hand != known.end() ? at_hand->second : storage.record(diff);
            out.push_back({storage.lower(diff), std::move(record), [this, diff] { return storage.lower(diff); }, turn});
            if (out.size() > most_open)
                out.back().close();
            if (out.back().record.opaque_root)
                break;
        }
        return out;
    }

    // Of what is mounted, lowest first. Throws `image_not_found`, `digest_mismatch`, `layer_not_found`,
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
    // Of a chain, lowest first.
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
    // The same, and whether there is one that nobody found damaged yet. Throws `corrupt_repository` where its record is.
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
    // Throws `diff_damaged` where a check found it so.
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
    // The same, and `layer_not_found` where it is not there, or `corrupt_repository`.
    void require_believed(const diff_id& id) const
    {
        require_undamaged(id);
        if (!storage.contains(id) && !is_there(id))
            throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
    }

    // What became of a diff that was to be shown.
    enum class published
    {
        ours,
        there, // another one's
        later, // one is there that is not believed: it is to be replaced, or another process is at it at the moment
    };

    // Shows a finished diff.
    [[nodiscard]] published publish(typename Storage::writer& writer, const diff_id& id) const
    {
        if (writer.publish(id))
            return published::ours;
        return storage.contains(id) ? published::there : published::later;
    }

    // The same where one is there that is not believed, since it was never synced and the machine went down, or since it was
    // found damaged: it gives way; not so the one with which another process has replaced it at this moment. The corrections that
    // were made of it are to be forgotten before and afterwards.
    //
    // \param staging a directory for what it makes
    [[nodiscard]] published replace(typename Storage::writer& writer, const diff_id& id, int staging)
    {
        const auto guard = file_lock::try_exclusive(records->base_fd(), "replace.lock");
        if (!guard)
            return published::later;
        if (storage.contains(id))
            return published::there;
        if constexpr (replacing_writer<typename Storage::writer>) {
            const bool lasts = sync == durability::none && may_be_relied_on(id);
            writer.replace(id);
            if (lasts)
                storage.make_durable(id, staging, [] {});
            return published::ours;
        } else {
            storage.erase(id);
            return writer.publish(id) ? published::ours : published::there;
        }
    }

    // Those of all chains with one of these diffs.
    void forget_corrections(const std::set<diff_id>& diffs) const
    {
        if constexpr (mountable_storage<Storage>)
            if (!diffs.empty())
                mount_table(records).forget_corrections(diffs);
    }

    // Before anything is shown that relies on published diffs: their renames are made to last, whoever made them.
    void sync_published() const
    {
        if (sync != durability::none)
            records->sync_diffs();
    }

    // What a mount of the chain needs on top of its layers is made when the chain is. `diffs` are the chain's, topmost first.
    // Nothing where it was made before, or where nothing can be mounted.
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
    // \param staging a directory to make it in
    void write_correction(const chain_id& top, found_correction& found, int staging) const
    {
        mount_table(records).write_correction(top, found.wanted, staging);
    }

    // How many layers are unpacked at a time: one more than workers, where there are descriptors for them.
    [[nodiscard]] static unsigned places(unsigned workers)
    {
        constexpr std::size_t of_one = 16;
        return static_cast<unsigned>(std::clamp<std::size_t>(free_descriptors() / of_one, 1, workers + 1));
    }

    std::shared_ptr<store> records;
    Storage storage;
    worker_pool pool;
    limits bounds;
    durability sync;
    std::chrono::steady_clock::duration lock_limit;
    semaphore slots;   // layers that workers unpack
    semaphore streams; // layers whose bytes come from elsewhere

private:
    // By an image that is known to last: nobody knows, where the record of what gives way cannot be read.
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

// Runs `work`, then `clean` on a worker, also when the work failed or was cancelled; the first failure counts. The
// caller's cancellation state stays as it is: who asks for a cancellation during the cleanup is heard behind it.
template <class Function>
asio::awaitable<void> run_then_clean(worker_pool pool, asio::awaitable<void> work, Function clean)
{
    std::exception_ptr failure;
    try {
        co_await std::move(work);
    } catch (const error&) {
        failure = std::current_exception();
    } catch (const boost::system::system_error& cancelled) { // Asio's own, between two waits
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

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

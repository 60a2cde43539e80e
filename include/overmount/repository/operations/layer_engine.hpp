#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_LAYER_ENGINE_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_LAYER_ENGINE_HPP

#include <overmount/importer/layer_source.hpp>
#include <overmount/io/stream_feed.hpp>
#include <overmount/repository/operations/blob_keep.hpp>
#include <overmount/repository/operations/claim_beat.hpp>
#include <overmount/repository/operations/finished_diffs.hpp>
#include <overmount/repository/operations/publication.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/task_group.hpp>
#include <overmount/unpack/pipeline.hpp>
#include <overmount/unpack/stream_input.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// What every operation that makes layers works with: one scope for its lease, its staging and its cleaning, one step that unpacks
// a layer wherever it comes from, one end that syncs and shows all of it. Shared by the operation's coroutines and by the
// workers that act for them.
//
// The order, whatever the operation: the claim of a layer, then a place for it, then its memory and descriptors. Nothing waits
// for another one's claim while it holds a place, or a finished layer that is not shown.
template <storage_policy Storage>
class layer_engine
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<layer_engine>;
    using work = layer_work<typename Storage::writer>;

    explicit layer_engine(std::shared_ptr<state> owner) : owner_(std::move(owner)) {}

    [[nodiscard]] state& repository() const noexcept { return *owner_; }
    [[nodiscard]] const std::shared_ptr<state>& owner() const noexcept { return owner_; }
    [[nodiscard]] const worker_pool& pool() const noexcept { return owner_->pool; }
    [[nodiscard]] finished_diffs<Storage>& finished() noexcept { return *finished_; }
    [[nodiscard]] publication<Storage>& end() noexcept { return *end_; }
    [[nodiscard]] const known_records& shown() const noexcept { return finished_->published(); }
    [[nodiscard]] int staging() const noexcept { return scope_->staging(); }

    // Takes what there is of it under a lease, once more where there is more to take. The caller holds the repository's lock,
    // shared, and looks up what it leases.
    void lease(const lease_content& content)
    {
        if (scope_->is_open())
            scope_->lease().add(content);
        else
            scope_->open(content);
    }

    // A layer that is to be unpacked; on a worker.
    [[nodiscard]] std::shared_ptr<work> begin(layer_facts facts, const std::string& name) const
    {
        return begin(std::move(facts), name, owner_->bounds);
    }
    [[nodiscard]] std::shared_ptr<work> begin(layer_facts facts, const std::string& name, const limits& bounds) const
    {
        return new_shared<work>(owner_->storage.create(write_context(scope_->staging(), name, bounds)), std::move(facts), bounds);
    }

    // Unpacks it, and keeps its blob where there is a draft for it. `Work` may also be one that only compares.
    template <class Work>
    static asio::awaitable<void> unpack(worker_pool pool, std::shared_ptr<Work> begun, layer_source from,
                                        std::shared_ptr<blob_draft> draft)
    {
        if (from.is_gone_by())
            throw error(errc::missing_blob).at(stage::source).detail("its bytes have gone by");
        if (const file_range* file = from.file()) {
            co_await unpack_layer(std::move(pool), std::move(begun), keeping(std::make_unique<file_input>(*file), std::move(draft)));
            co_return;
        }
        byte_stream stream = co_await open(from);
        co_await unpack_stream(std::move(pool), std::move(begun), std::move(stream), from, std::move(draft));
    }

    // The same of a stream: no worker waits for its bytes.
    template <class Work>
    static asio::awaitable<void> unpack_stream(worker_pool pool, std::shared_ptr<Work> begun, byte_stream stream,
                                               std::optional<layer_source> from, std::shared_ptr<blob_draft> draft)
    {
        auto feed = new_shared<stream_feed>();
        const auto size = from ? from->size() : std::nullopt;
        auto input = keeping(std::make_unique<stream_input>(feed, size, begun->bounds.stream_bytes), std::move(draft));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        group->add(fill(std::move(feed), std::move(from), std::move(stream)));
        group->add(unpack_layer(std::move(pool), std::move(begun), std::move(input)));
        co_await task_group::join(std::move(group));
    }

    // Where a layer has its place while it is unpacked: one that is streamed needs no worker of its own while bytes are
    // waited for.
    [[nodiscard]] semaphore& places(bool is_file) const noexcept { return is_file ? owner_->slots : owner_->streams; }

    // Before what was written in the staging is shown, where that is to last.
    void sync() const
    {
        if (owner_->sync == durability::batch)
            scope_->sync_file_system();
    }

    // Publishes what is finished, after one sync of the file system, which takes along what `write` has drafted.
    static asio::awaitable<void> publish(pointer self)
    {
        const bool syncs = self->finished_->any() && self->owner_->sync == durability::batch;
        co_await finished_diffs<Storage>::publish(self->finished_);
        if (syncs)
            self->end_->synced();
    }

    // The end: `tell`, on a worker, adds what is to be shown to `end()`; then all of it is, together.
    static asio::awaitable<void> show(pointer self, std::function<void()> tell)
    {
        auto beat = [self] { self->finished_->beat(); };
        co_await claim_beat::during(self->pool(), write_and_publish(self, std::move(tell)), std::move(beat));
        co_await show(self);
    }
    static asio::awaitable<void> show(pointer self) { return publication<Storage>::run(self->end_, &self->shown()); }

    // Removes what is left, shown or not. On a worker.
    void clean()
    {
        finished_->drop();
        end_.reset();
        scope_->clean();
    }

private:
    // What opened the stream lives longer: parameters go in the reverse order, also where the context is destroyed.
    static asio::awaitable<void> fill(std::shared_ptr<stream_feed> feed, std::optional<layer_source>, byte_stream stream)
    {
        co_await stream_feed::run(std::move(feed), std::move(stream));
    }

    static asio::awaitable<byte_stream> open(layer_source from)
    {
        std::optional<error> failure;
        try {
            co_return co_await from.open();
        } catch (const error&) {
            throw;
        } catch (const boost::system::system_error& failed) {
            failure = error(failed.code()).at(stage::source).operation("open");
        }
        throw *failure;
    }

    static asio::awaitable<void> write_and_publish(pointer self, std::function<void()> tell)
    {
        auto write = [self, tell](const stop_flag&) {
            tell();
            self->end_->write();
        };
        co_await run_on(self->pool(), std::move(write));
        co_await publish(self);
    }

    std::shared_ptr<state> owner_;
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(owner_->records);
    std::shared_ptr<finished_diffs<Storage>> finished_ = new_shared<finished_diffs<Storage>>(owner_, scope_);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(owner_, scope_);
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

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

namespace overmount::OVERMOUNT_ABI::detail {

// The parts that all operations that create layers share: a scope with lease, staging directory and cleaning; a step that unpacks a
// layer from any source; and an end that syncs and publishes all. Shared by the operation's coroutines and its worker threads.
//
// The order in every operation: first the claim of a layer, then a permit, then its memory and descriptors. No operation waits for
// another's claim while it holds a permit, or a finished layer that is not yet published.
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
    [[nodiscard]] const known_records& published() const noexcept { return finished_->published(); }
    [[nodiscard]] int staging() const noexcept { return scope_->staging(); }

    // Leases the content; a further call adds to the lease. The caller has held the repository's lock, shared, since it looked up what
    // it leases.
    void lease(const lease_content& content)
    {
        if (scope_->is_open())
            scope_->lease().add(content);
        else
            scope_->open(content);
    }

    // Prepares a layer for unpacking, with a writer in the staging directory. Runs on a worker thread.
    [[nodiscard]] std::shared_ptr<work> begin(layer_facts facts, const std::string& name) const
    {
        return begin(std::move(facts), name, owner_->bounds);
    }
    [[nodiscard]] std::shared_ptr<work> begin(layer_facts facts, const std::string& name, const limits& bounds) const
    {
        return new_shared<work>(owner_->storage.create(write_context(scope_->staging(), name, bounds)), std::move(facts), bounds);
    }

    // Unpacks a layer, and writes its blob to `draft` unless that is null. `Work` may also be one that only verifies the digests.
    // Throws `missing_blob` for a source that is gone by: one whose bytes a one-pass archive has already read past.
    template <class Work>
    static asio::awaitable<void> unpack(worker_pool pool, std::shared_ptr<Work> begun, layer_source from,
                                        std::shared_ptr<blob_draft> draft)
    {
        if (from.is_gone_by())
            throw error(errc::missing_blob).at(stage::source).detail("its bytes were only available while the archive was read");
        if (const file_range* file = from.file()) {
            co_await unpack_layer(std::move(pool), std::move(begun), tee_to(std::make_unique<file_input>(*file), std::move(draft)));
            co_return;
        }
        byte_stream stream = co_await open(from);
        co_await unpack_stream(std::move(pool), std::move(begun), std::move(stream), from, std::move(draft));
    }

    // The same from a stream. No worker thread waits for its bytes.
    template <class Work>
    static asio::awaitable<void> unpack_stream(worker_pool pool, std::shared_ptr<Work> begun, byte_stream stream,
                                               std::optional<layer_source> from, std::shared_ptr<blob_draft> draft)
    {
        auto feed = new_shared<stream_feed>();
        const auto size = from ? from->size() : std::nullopt;
        auto input = tee_to(std::make_unique<stream_input>(feed, size, begun->bounds.stream_bytes), std::move(draft));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        group->add(fill(std::move(feed), std::move(from), std::move(stream)));
        group->add(unpack_layer(std::move(pool), std::move(begun), std::move(input)));
        co_await task_group::join(std::move(group));
    }

    // The semaphore of the permit that a layer needs while it is unpacked. Streams have their own: while they wait for bytes, they
    // need no worker thread.
    [[nodiscard]] semaphore& permits(bool is_file) const noexcept { return is_file ? owner_->slots : owner_->streams; }

    // Makes the staged files durable before they are published, with `durability::batch`.
    void sync() const
    {
        if (owner_->sync == durability::batch)
            scope_->sync_file_system();
    }

    // Publishes the finished diffs, after one sync of the file system, which includes the drafts of `publication::write`.
    static asio::awaitable<void> publish_layers(pointer self)
    {
        const bool syncs = self->finished_->any() && self->owner_->sync == durability::batch;
        co_await finished_diffs<Storage>::publish(self->finished_);
        if (syncs)
            self->end_->synced();
    }

    // The last step: calls `add_result` on a worker thread, which adds the result to `end()`, and publishes all together.
    static asio::awaitable<void> publish_images(pointer self, std::function<void()> add_result)
    {
        const std::function<void()> nothing;
        auto beat = [self] { self->finished_->beat(); };
        co_await claim_beat::during(self->pool(), write_and_publish(self, std::move(add_result)), std::move(beat), nothing);
        co_await publish_images(self);
    }
    static asio::awaitable<void> publish_images(pointer self) { return publication<Storage>::run(self->end_, &self->published()); }

    // Removes all remaining staging files, whether or not the operation succeeded. Runs on a worker thread.
    void clean()
    {
        finished_->drop();
        end_.reset();
        scope_->clean();
    }

private:
    // The source must outlive the stream that it opened. Parameters are destroyed in reverse order, also when the execution context is.
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

    static asio::awaitable<void> write_and_publish(pointer self, std::function<void()> add_result)
    {
        auto write = [self, add_result](const stop_flag&) {
            add_result();
            self->end_->write();
        };
        co_await run_on(self->pool(), std::move(write));
        co_await publish_layers(self);
    }

    std::shared_ptr<state> owner_;
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(owner_->records);
    std::shared_ptr<finished_diffs<Storage>> finished_ = new_shared<finished_diffs<Storage>>(owner_, scope_);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(owner_, scope_);
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CREATE_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CREATE_RUN_HPP

#include <overmount/importer/image_files.hpp>
#include <overmount/repository/operations/layer_engine.hpp>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Creates one layer from a tar whose digest is usually unknown until its end. Shared by the operation's coroutine and its worker
// threads, which use it one at a time.
template <storage_policy Storage>
class create_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<create_run>;
    using engine = layer_engine<Storage>;

    // \param expected the digest of the tar, if it is known
    create_run(std::shared_ptr<state> owner, std::optional<chain_id> parent, std::optional<diff_id> expected = std::nullopt)
        : parent_(std::move(parent)), expected_(std::move(expected)), engine_(new_shared<engine>(std::move(owner)))
    {}

    [[nodiscard]] const worker_pool& pool() const noexcept { return engine_->pool(); }
    [[nodiscard]] bool is_made() const noexcept { return chain_.has_value(); }
    // The layer's chain ID, once the layer is published.
    [[nodiscard]] const chain_id& chain() const { return *chain_; }

    // Sets a function that adds what is to be published: called on a worker thread with the new diff. By default, the layer alone is
    // published.
    void when_made(std::function<void(publication<Storage>&, const diff_id&)> add_result) { add_result_ = std::move(add_result); }

    // `open` is called on a worker thread; it returns an input that never waits for bytes.
    static asio::awaitable<void> from_input(pointer self, std::function<std::unique_ptr<layer_input>()> open)
    {
        co_await begin(self);
        const auto permit = co_await self->engine_->repository().slots.acquire();
        auto first = [self, open](const stop_flag&) {
            self->begin_layer();
            return open();
        };
        auto input = co_await run_on(self->pool(), std::move(first));
        co_await unpack_layer(self->pool(), self->work_, std::move(input));
        co_await finish(self);
    }
    static asio::awaitable<void> from_file(pointer self, std::filesystem::path file)
    {
        auto open = [file]() -> std::unique_ptr<layer_input> { return std::make_unique<file_input>(whole_file(file.string())); };
        return from_input(std::move(self), std::move(open));
    }

    // Takes no permit: the next bytes may take arbitrarily long.
    static asio::awaitable<void> from_stream(pointer self, byte_stream stream)
    {
        co_await begin(self);
        auto first = [self](const stop_flag&) { self->begin_layer(); };
        co_await run_on(self->pool(), std::move(first));
        co_await engine::unpack_stream(self->pool(), self->work_, std::move(stream), std::nullopt, nullptr);
        co_await finish(self);
    }

    // Removes all remaining staging files, whether or not the layer was published. Runs on a worker thread.
    void clean()
    {
        work_.reset();
        engine_->clean();
    }

private:
    static asio::awaitable<void> begin(pointer self)
    {
        auto open = [self](const stop_flag&) { self->open(); };
        co_await run_locked(self->engine_->owner(), lock_kind::shared, std::move(open));
    }

    // Under the lock, so that no layer below is removed before it is leased.
    void open()
    {
        if (parent_)
            for (const layer_record& layer : engine_->repository().records->layers.chain(*parent_))
                diffs_.insert(diffs_.begin(), layer.diff);
        lease();
    }
    void begin_layer()
    {
        const layer_facts facts = expected_ ? layer_facts{expected_, std::nullopt, compression::none} : layer_facts();
        work_ = engine_->begin(facts, "layer");
    }
    void lease()
    {
        lease_content content;
        publication<Storage>::lease_chain(content, diffs_);
        engine_->lease(content);
    }

    static asio::awaitable<void> finish(pointer self)
    {
        auto found = [self](const stop_flag&) { self->found(); };
        co_await run_locked(self->engine_->owner(), lock_kind::shared, std::move(found));
        auto add_result = [self] { self->add_result(); };
        co_await engine::publish_images(self->engine_, std::move(add_result));
        self->chain_ = chain_of(self->diffs_).back().first;
    }

    // The digest is known now. Under the lock, so that an existing diff is not removed before it is leased.
    void found()
    {
        if (work_->bytes == 0 && !expected_) // the producer of the tar has failed: even an empty layer has bytes
            throw error(errc::truncated_stream).at(stage::source).detail("the tar has no bytes");
        const diff_id& diff = *work_->diff;
        diffs_.push_back(diff);
        lease();
        state& repository = engine_->repository();
        if (!repository.storage.contains(diff)) // from now on, other importers of the diff wait for this one
            engine_->finished().add(diff, std::move(work_->writer), std::move(*work_->record),
                                    repository.records->claims.try_share(diff));
    }

    void add_result()
    {
        if (add_result_)
            add_result_(engine_->end(), diffs_.back());
        else
            engine_->end().add_chain(diffs_);
    }

    std::optional<chain_id> parent_, chain_;
    std::optional<diff_id> expected_;
    std::vector<diff_id> diffs_; // of the chain, lowest first
    std::function<void(publication<Storage>&, const diff_id&)> add_result_;
    std::shared_ptr<engine> engine_;
    std::shared_ptr<typename engine::work> work_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

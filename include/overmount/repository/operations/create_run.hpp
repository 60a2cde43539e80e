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

namespace overmount::inline OVERMOUNT_ABI::detail {

// One layer that is made from a tar whose digest mostly nobody knows before its end. Shared by the coroutine and by
// the workers that act for it, one at a time.
template <storage_policy Storage>
class create_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<create_run>;
    using engine = layer_engine<Storage>;

    // `expected`, of a tar whose digest is known.
    create_run(std::shared_ptr<state> owner, std::optional<chain_id> parent, std::optional<diff_id> expected = std::nullopt)
        : parent_(std::move(parent)), expected_(std::move(expected)), engine_(new_shared<engine>(std::move(owner)))
    {}

    [[nodiscard]] const worker_pool& pool() const noexcept { return engine_->pool(); }
    [[nodiscard]] bool is_made() const noexcept { return chain_.has_value(); }
    // Of the layer, when it is shown.
    [[nodiscard]] const chain_id& chain() const { return *chain_; }

    // What is to be shown with the layer: called with its diff when it is made, on a worker. By default the layer alone.
    void when_made(std::function<void(publication<Storage>&, const diff_id&)> tell) { tell_ = std::move(tell); }

    // `open`, called on a worker, gives an input that never lacks bytes.
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
        co_await show(self);
    }
    static asio::awaitable<void> from_file(pointer self, std::filesystem::path file)
    {
        auto open = [file]() -> std::unique_ptr<layer_input> { return std::make_unique<file_input>(whole_file(file.string())); };
        return from_input(std::move(self), std::move(open));
    }

    // Takes no place: nobody knows how long the next bytes take.
    static asio::awaitable<void> from_stream(pointer self, byte_stream stream)
    {
        co_await begin(self);
        auto first = [self](const stop_flag&) { self->begin_layer(); };
        co_await run_on(self->pool(), std::move(first));
        co_await engine::unpack_stream(self->pool(), self->work_, std::move(stream), std::nullopt, nullptr);
        co_await show(self);
    }

    // Removes what is left, shown or not. On a worker.
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

    // Under the lock: the layers below stay.
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

    static asio::awaitable<void> show(pointer self)
    {
        auto found = [self](const stop_flag&) { self->found(); };
        co_await run_locked(self->engine_->owner(), lock_kind::shared, std::move(found));
        auto tell = [self] { self->tell(); };
        co_await engine::show(self->engine_, std::move(tell));
        self->chain_ = chain_of(self->diffs_).back().first;
    }

    // Now the digest is known: under the lock, what is there of it stays.
    void found()
    {
        if (work_->bytes == 0 && !expected_) // the producer failed: nobody means a layer of no bytes
            throw error(errc::truncated_stream).at(stage::source).detail("there are no bytes");
        const diff_id& diff = *work_->diff;
        diffs_.push_back(diff);
        lease();
        state& repository = engine_->repository();
        if (!repository.storage.contains(diff)) // who wants the same diff from now on waits for this one
            engine_->finished().add(diff, std::move(work_->writer), std::move(*work_->record),
                                    repository.records->claims.try_share(diff));
    }

    void tell()
    {
        if (tell_)
            tell_(engine_->end(), diffs_.back());
        else
            engine_->end().add_chain(diffs_);
    }

    std::optional<chain_id> parent_, chain_;
    std::optional<diff_id> expected_;
    std::vector<diff_id> diffs_; // of the chain, lowest first
    std::function<void(publication<Storage>&, const diff_id&)> tell_;
    std::shared_ptr<engine> engine_;
    std::shared_ptr<typename engine::work> work_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

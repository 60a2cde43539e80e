#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_STREAM_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_STREAM_RUN_HPP

#include <overmount/importer/archive_pass.hpp>
#include <overmount/importer/discover.hpp>
#include <overmount/repository/operations/carried_layers.hpp>
#include <overmount/repository/operations/import_run.hpp>
#include <overmount/repository/operations/layer_engine.hpp>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Imports an archive in one pass. Each member that may be a layer is unpacked as a candidate layer when it is read. At the end of
// the archive, its documents say which images it has; an import then publishes the candidates that are their layers.
template <storage_policy Storage>
class stream_run
{
public:
    using engine = layer_engine<Storage>;
    using carried = carried_layers<Storage>;
    using pointer = std::shared_ptr<stream_run>;

    stream_run(std::shared_ptr<repository_state<Storage>> owner, std::unique_ptr<archive_bytes> source, std::string name, import_options options)
        : engine_(new_shared<engine>(std::move(owner))), bounds_(engine_->repository().bounds), options_(std::move(options)), name_(std::move(name)),
          bytes_left_(bounds_.candidate_bytes), archive_(new_shared<archive_pass>(std::move(source), bounds_))
    {}

    [[nodiscard]] const std::vector<found_image>& images() const noexcept { return import_->images(); }

    // Runs the import. If the source reads from a `feed`, fills it from the stream `from`.
    static asio::awaitable<void> run(pointer self, std::shared_ptr<stream_feed> feed, std::optional<byte_stream> from)
    {
        static_cast<void>(full_names(self->options_.tags())); // reject invalid names before anything is read
        auto begin = [self](const stop_flag&) { self->engine_->lease({}); };
        co_await run_locked(self->engine_->owner(), lock_kind::shared, std::move(begin));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        if (feed)
            group->add(stream_feed::run(std::move(feed), std::move(*from)));
        group->add(read_candidates(self));
        co_await task_group::join(std::move(group));
        auto choose = [self](const stop_flag& stop) { self->choose(stop); };
        co_await run_on(self->engine_->pool(), std::move(choose));
        co_await import_run<Storage>::run(self->import_);
    }

    // Removes all remaining staging files, whether or not the import succeeded. Runs on a worker thread.
    void clean()
    {
        work_.reset();
        draft_.reset();
        carried_.reset();
        if (import_)
            import_->clean();
        else
            engine_->clean();
    }

private:
    using work = typename engine::work;

    static asio::awaitable<void> read_candidates(pointer self)
    {
        while (co_await archive_pass::next(self->engine_->pool(), self->archive_)) {
            auto begin = [self](const stop_flag&) { self->begin_candidate(); };
            co_await run_on(self->engine_->pool(), std::move(begin));
            try {
                auto input = tee_to(archive_pass::data(self->archive_), self->draft_);
                co_await unpack_layer(self->engine_->pool(), self->work_, std::move(input));
                self->add_candidate();
            } catch (error& failure) {
                // The member may not be a layer at all, so this is no error yet. An error of the archive itself recurs at the next read.
                if (failure.code() == asio::error::operation_aborted)
                    throw;
                failure.layer(self->archive_->member());
                if (failure.code() == errc::layer_too_large && failure.at() == stage::decode &&
                    self->bytes_left_ < self->bounds_.stream_bytes)
                    self->refuse("the candidate layers unpack to more than " + std::to_string(self->bounds_.candidate_bytes) + " bytes");
                self->carried_->failed(std::current_exception());
            }
            self->bytes_left_ -= std::min(self->bytes_left_, self->work_->bytes);
            self->work_.reset();
            self->draft_.reset();
        }
    }

    void begin_candidate()
    {
        limits bounds = bounds_;
        if (candidates_ == bounds.candidates)
            refuse("there are more than " + std::to_string(bounds.candidates) + " candidate layers");
        bounds.stream_bytes = std::min(bounds.stream_bytes, bytes_left_);
        const std::optional<digest> blob = archive_->named_digest();
        work_ = engine_->begin({std::nullopt, blob, std::nullopt}, "layer-" + std::to_string(candidates_++), bounds);
        if (options_.keeps_blobs() && blob)
            draft_ = new_shared<blob_draft>(engine_->staging(), "blob-" + std::to_string(candidates_), engine_->repository().sync);
        if (options_.progress())
            work_->progress = [observer = options_.progress(), name = archive_->member(), size = archive_->size()](
                                  std::uint64_t read, std::uint64_t piece, std::uint64_t unpacked) {
                observer(layer_progress(name, read, piece, unpacked, size));
            };
    }

    void add_candidate()
    {
        const diff_id diff = *work_->diff;
        if (draft_)
            carried_->add_blob(*work_->facts.blob, diff, draft_);
        carried_->add(diff, {std::move(work_->writer), std::move(*work_->record), *work_->kind});
    }

    // The number and size of candidates are limited because all of them stay on the disk until the documents are read, which may come
    // last.
    [[noreturn]] void refuse(const std::string& why) const
    {
        throw error(errc::too_many_candidates).at(stage::source).entry(archive_->member()).detail(why);
    }

    // The whole archive is read: find the images, and prepare their import.
    void choose(const stop_flag& stop)
    {
        const import_context context(engine_->pool(), bounds_, options_.wanted());
        auto found = discover_images(archive_->files(), "the stream", name_, context, stop);
        import_ = new_shared<import_run<Storage>>(engine_, std::move(found), options_, carried_);
    }

    std::shared_ptr<engine> engine_;
    limits bounds_;
    import_options options_;
    std::string name_;
    std::uint64_t bytes_left_; // how many bytes further candidates may unpack to
    std::shared_ptr<archive_pass> archive_;
    std::uint64_t candidates_ = 0;
    std::shared_ptr<work> work_;        // of the current member
    std::shared_ptr<blob_draft> draft_; // of the current member, if blobs are kept
    std::shared_ptr<carried> carried_ = new_shared<carried>();
    std::shared_ptr<import_run<Storage>> import_; // of the images that were found
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_STREAM_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_STREAM_RUN_HPP

#include <overmount/importer/archive_reader.hpp>
#include <overmount/importer/discover.hpp>
#include <overmount/importer/file_source.hpp>
#include <overmount/importer/member_kind.hpp>
#include <overmount/io/stream_feed.hpp>
#include <overmount/posix/descriptor_turn.hpp>
#include <overmount/repository/operations/blob_keep.hpp>
#include <overmount/repository/operations/claim_beat.hpp>
#include <overmount/repository/operations/finished_diffs.hpp>
#include <overmount/repository/operations/publication.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/task_group.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/unpack/pipeline.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <map>

namespace overmount::inline OVERMOUNT_ABI::detail {

// One import of an archive that is read once from its beginning to its end, its members in any order. What
// may be a layer is unpacked as a candidate; documents are kept, all together bounded; at the end the
// documents say which candidates are layers of the images, and the others are dropped.
template <storage_policy Storage, class Source>
class stream_run : public std::enable_shared_from_this<stream_run<Storage, Source>>
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<stream_run>;

    stream_run(std::shared_ptr<state> owner, Source source, std::string name, import_options options)
        : repository_(std::move(owner)), options_(std::move(options)), name_(std::move(name)),
          files_(repository_->bounds), bytes_left_(repository_->bounds.candidate_bytes),
          reader_(new_shared<reader>(std::move(source), repository_->bounds))
    {}

    [[nodiscard]] const worker_pool& pool() const noexcept { return repository_->pool; }
    [[nodiscard]] const std::vector<found_image>& images() const noexcept { return images_; }

    // `feed` is what the source reads from, where it needs one.
    static asio::awaitable<void> run(pointer self, std::shared_ptr<stream_feed> feed,
                                     std::optional<byte_stream> from)
    {
        self->names_ = full_names(self->options_.tags()); // before anything is read
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(begin));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        if (feed)
            group->add(stream_feed::run(std::move(feed), std::move(*from)));
        group->add(read_members(self));
        co_await task_group::join(std::move(group));
        auto choose = [self](const stop_flag& stop) { self->choose(stop); };
        co_await run_on(self->pool(), std::move(choose));
        auto lease = [self](const stop_flag&) { self->lease(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(lease));
        auto beat = [self] { self->finished_->beat(); };
        co_await claim_beat::during(self->pool(), publish(self), std::move(beat));
        auto keep = [self](const stop_flag&) { self->publish_blobs(); };
        co_await run_on(self->pool(), std::move(keep));
        co_await publication<Storage>::run(self->end_, &self->finished_->published());
    }

    // Removes what is left, shown or not. On a worker.
    void clean()
    {
        candidates_.clear();
        blobs_.clear();
        work_.reset();
        draft_.reset();
        finished_->drop();
        end_.reset();
        scope_->clean();
    }

private:
    using reader = archive_reader<Source>;
    using work = layer_work<typename Storage::writer>;

    struct candidate
    {
        typename Storage::writer writer;
        diff_record record;
        compression kind;
    };

    // The data of the member at hand, as the input of a decode step.
    class member_input
    {
    public:
        explicit member_input(std::shared_ptr<reader> from) : from_(std::move(from)) {}
        void wakes(std::weak_ptr<step> who) { from_->source().wakes(std::move(who)); }
        [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) { return from_->read(into); }

    private:
        std::shared_ptr<reader> from_;
    };

    // Takes members until one may be a layer.
    class search_step final : public step
    {
    public:
        explicit search_step(pointer run) : run_(std::move(run)) {}

    private:
        step_state resume(const stop_flag& stop) override
        {
            stop.throw_if_stopped();
            return run_->search();
        }
        pointer run_;
    };

    void begin()
    {
        scope_->open({});
        documents_ = new_shared<const unique_fd>(::memfd_create("overmount documents", MFD_CLOEXEC));
        check(documents_->get(), "memfd_create");
    }

    static asio::awaitable<void> read_members(pointer self)
    {
        for (;;) {
            auto group = new_shared<step_group>();
            auto search = new_shared<search_step>(self);
            self->reader_->source().wakes(search);
            group->add(std::move(search));
            co_await run_steps(self->pool(), std::move(group));
            if (!self->work_)
                co_return;
            try {
                co_await unpack_layer(self->pool(), self->work_,
                                      kept_input(member_input(self->reader_), self->draft_));
                if (self->draft_)
                    self->blobs_.try_emplace({*self->work_->facts.blob, *self->work_->diff}, self->draft_);
                self->candidates_.try_emplace(*self->work_->diff,
                                              candidate{std::move(self->work_->writer), std::move(*self->work_->record), *self->work_->kind});
            } catch (error& failure) {
                // Nobody knows yet whether it is a layer. What concerns the archive will come again.
                if (failure.code() == asio::error::operation_aborted)
                    throw;
                failure.layer(self->member_);
                if (failure.code() == errc::layer_too_large && failure.at() == stage::decode &&
                    self->bytes_left_ < self->repository_->bounds.stream_bytes)
                    self->refuse_candidates("they unpack to more than " +
                                            std::to_string(self->repository_->bounds.candidate_bytes) + " bytes");
                if (!self->failure_)
                    self->failure_ = std::current_exception();
            }
            self->bytes_left_ -= std::min(self->bytes_left_, self->work_->bytes);
            self->work_.reset();
            self->draft_.reset();
        }
    }

    static asio::awaitable<void> publish(pointer self)
    {
        auto draft = [self](const stop_flag&) { self->draft(); };
        co_await run_on(self->pool(), std::move(draft));
        co_await finished_diffs<Storage>::publish(self->finished_);
    }

    // Candidates are on the disk until the documents are read, and these may come last.
    [[noreturn]] void refuse_candidates(const std::string& why) const
    {
        throw error(errc::too_many_candidates).at(stage::source).entry(member_).detail(why);
    }

    // One move of a search step. `work_` is set when it ends at a candidate.
    step_state search()
    {
        if (!in_member_) {
            switch (reader_->next()) {
            case reader::found::again:
                return step_state::again;
            case reader::found::wait:
                return step_state::wait;
            case reader::found::end:
                return step_state::done;
            case reader::found::member:
                break;
            }
            member_ = tar::normalise(reader_->entry().path, repository_->bounds);
            in_member_ = true;
        }
        const tar::entry& entry = reader_->entry();
        if (entry.type != tar::entry_type::regular || entry.sparse)
            return leave(0, 0);
        const auto head = reader_->head();
        if (!head)
            return step_state::wait;
        switch (classify_member(*head)) {
        case member_kind::layer: {
            static_cast<void>(leave(nowhere, entry.stored_size));
            begin_layer();
            return step_state::done;
        }
        case member_kind::document:
            return read_document(entry);
        case member_kind::other:
            break;
        }
        return leave(nowhere, entry.stored_size);
    }

    step_state leave(std::uint64_t offset, std::uint64_t size)
    {
        files_.note(reader_->entry(), file_range(documents_, offset, size));
        in_member_ = false;
        return step_state::again;
    }

    step_state read_document(const tar::entry& entry)
    {
        if (entry.stored_size > repository_->bounds.json_bytes)
            return leave(nowhere, entry.stored_size); // an error if it is wanted
        if (document_.empty() && document_bytes_ + entry.stored_size > repository_->bounds.all_json_bytes)
            throw error(errc::json_limit_exceeded)
                .at(stage::manifest)
                .subject(member_)
                .detail("too many documents");
        for (;;) {
            const std::size_t have = document_.size();
            document_.resize(have + 4096);
            const auto count = reader_->read(std::as_writable_bytes(std::span(document_)).subspan(have));
            document_.resize(have + count.value_or(0));
            if (!count)
                return step_state::wait;
            if (*count == 0)
                break;
        }
        const std::string text = std::exchange(document_, {});
        write_all(documents_->get(), std::as_bytes(std::span(text)));
        const std::uint64_t offset = std::exchange(document_bytes_, document_bytes_ + text.size());
        return leave(offset, text.size());
    }

    void begin_layer()
    {
        limits bounds = repository_->bounds;
        if (layers_ == bounds.candidates)
            refuse_candidates("there are more than " + std::to_string(bounds.candidates));
        bounds.stream_bytes = std::min(bounds.stream_bytes, bytes_left_);
        auto writer = repository_->storage.create(
            write_context(scope_->staging(), "layer-" + std::to_string(layers_++), bounds));
        work_ = new_shared<work>(
            std::move(writer),
            layer_facts{std::nullopt, member_.starts_with("blobs/") ? digest_of_name(member_) : std::nullopt,
                        std::nullopt},
            bounds);
        if (options_.keeps_blobs() && work_->facts.blob)
            draft_ = new_shared<blob_draft>(scope_->staging(), "blob-" + std::to_string(layers_), repository_->sync);
        if (options_.progress())
            work_->progress = [this, size = reader_->entry().stored_size](std::uint64_t read) {
                options_.progress()(layer_progress(member_, read, size));
            };
    }

    // The whole archive is read: the documents decide.
    void choose(const stop_flag& stop)
    {
        const import_context context(repository_->pool, repository_->bounds, options_.wanted());
        images_ = discover_images(files_, "the stream", name_, context, stop);
        for (const found_image& image : images_)
            for (const found_layer& layer : image.layers)
                wanted_.emplace(layer.diff, &layer);
        kept_ = wanted_blobs();
    }

    // Under the lock: what is there now stays.
    void lease()
    {
        lease_content content;
        for (const found_image& image : images_) {
            publication<Storage>::lease_image(content, image);
            if (options_.keeps_blobs() && has_blobs(image))
                lease_blobs(content, image);
        }
        scope_->lease().add(content);
        std::erase_if(wanted_, [this](const auto& one) { return repository_->storage.contains(one.first); });
    }

    void draft()
    {
        for (const auto& [diff, layer] : wanted_)
            check_candidate(diff, *layer);
        for (const found_image& image : images_) {
            std::vector<std::string> names = image.tags;
            names.insert(names.end(), names_.begin(), names_.end());
            end_->add_image(image, names, options_.keeps_blobs() && has_blobs(image));
        }
        end_->write();
        // Each claim takes a descriptor; without one, others may unpack the layer as well.
        std::size_t claims = free_descriptors() / 4;
        for (const auto& [diff, layer] : wanted_) {
            candidate& found = candidates_.find(diff)->second;
            auto held = claims != 0 ? repository_->records->claims.try_share(diff) : nullptr;
            claims -= held != nullptr;
            finished_->add(diff, std::move(found.writer), std::move(found.record), std::move(held));
        }
        if (repository_->sync == durability::batch) {
            scope_->sync_file_system();
            finished_->synced();
            end_->synced();
        }
    }

    void publish_blobs()
    {
        for (const auto& [id, blob] : kept_)
            blob->publish(*repository_->records, id);
    }

    using blob_drafts = std::map<digest, std::shared_ptr<blob_draft>>;

    // The blobs that are to be kept, each of which was the layer that the image says.
    [[nodiscard]] blob_drafts wanted_blobs() const
    {
        blob_drafts out;
        for (const found_image& image : images_) {
            if (!options_.keeps_blobs() || !has_blobs(image))
                continue;
            for (const found_layer& layer : image.layers) {
                const auto found = blobs_.find({*layer.blob, layer.diff});
                if (found == blobs_.end() && failure_)
                    std::rethrow_exception(failure_);
                if (found == blobs_.end())
                    throw error(errc::diff_id_mismatch)
                        .at(stage::decode)
                        .layer(layer.diff.string())
                        .detail("the blob " + layer.blob->string() + " is not its tar");
                out.insert({*layer.blob, found->second});
            }
        }
        return out;
    }

    void check_candidate(const diff_id& diff, const found_layer& layer) const
    {
        const auto found = candidates_.find(diff);
        if (found == candidates_.end() && failure_)
            std::rethrow_exception(failure_);
        if (found == candidates_.end())
            throw error(errc::diff_id_mismatch)
                .at(stage::decode)
                .layer(diff.string())
                .detail("no member of the archive has this tar");
        if (layer.promised && *layer.promised != found->second.kind)
            throw error(errc::unsupported_media_type)
                .at(stage::decode)
                .layer(diff.string())
                .detail("it promises " + std::string(to_string(*layer.promised)) + ", the bytes are " +
                        std::string(to_string(found->second.kind)));
    }

    // Where members lie that are not kept: reading one finds no bytes.
    static constexpr std::uint64_t nowhere = std::uint64_t{1} << 40;

    std::shared_ptr<state> repository_;
    import_options options_;
    std::string name_;
    image_files files_;
    std::uint64_t bytes_left_; // that more candidates may unpack to
    std::shared_ptr<reader> reader_;
    std::vector<std::string> names_; // that the options give, in full
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::shared_ptr<finished_diffs<Storage>> finished_ = new_shared<finished_diffs<Storage>>(repository_, scope_);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(repository_, scope_);
    std::map<diff_id, const found_layer*> wanted_; // of the images
    std::map<digest, std::shared_ptr<blob_draft>> kept_; // blobs of them
    std::shared_ptr<const unique_fd> documents_; // a file in memory
    std::uint64_t document_bytes_ = 0;
    std::string member_, document_; // the one at hand
    bool in_member_ = false;
    std::uint64_t layers_ = 0; // candidates so far
    std::shared_ptr<work> work_;
    std::map<diff_id, candidate> candidates_;
    std::shared_ptr<blob_draft> draft_; // of the member at hand, where blobs are kept
    std::map<std::pair<digest, diff_id>, std::shared_ptr<blob_draft>> blobs_;
    std::exception_ptr failure_; // of the first candidate that is no layer
    std::vector<found_image> images_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_STREAM_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_STREAM_RUN_HPP

#include <overmount/importer/archive_reader.hpp>
#include <overmount/importer/discover.hpp>
#include <overmount/importer/member_kind.hpp>
#include <overmount/repository/operations/carried_layers.hpp>
#include <overmount/repository/operations/import_run.hpp>
#include <overmount/repository/operations/layer_engine.hpp>
#include <overmount/tar/path.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// An archive that is read once from its beginning to its end, its members in any order. What may be a layer is unpacked as a
// candidate; documents are kept, all together bounded. At the end the documents say which images there are: an import takes
// the candidates that are layers of them.
template <storage_policy Storage>
class stream_run
{
public:
    using engine = layer_engine<Storage>;
    using carried = carried_layers<Storage>;
    using pointer = std::shared_ptr<stream_run>;

    stream_run(std::shared_ptr<repository_state<Storage>> owner, std::unique_ptr<archive_bytes> source, std::string name, import_options options)
        : engine_(new_shared<engine>(std::move(owner))), bounds_(engine_->repository().bounds), options_(std::move(options)), name_(std::move(name)),
          files_(bounds_), bytes_left_(bounds_.candidate_bytes), reader_(new_shared<archive_reader>(std::move(source), bounds_))
    {}

    [[nodiscard]] const std::vector<found_image>& images() const noexcept { return import_->images(); }

    // `feed` is what the source reads from, where it needs one.
    static asio::awaitable<void> run(pointer self, std::shared_ptr<stream_feed> feed, std::optional<byte_stream> from)
    {
        static_cast<void>(full_names(self->options_.tags())); // before anything is read
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_locked(self->engine_->owner(), lock_kind::shared, std::move(begin));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        if (feed)
            group->add(stream_feed::run(std::move(feed), std::move(*from)));
        group->add(read_members(self));
        co_await task_group::join(std::move(group));
        auto choose = [self](const stop_flag& stop) { self->choose(stop); };
        co_await run_on(self->engine_->pool(), std::move(choose));
        co_await import_run<Storage>::run(self->import_);
    }

    // Removes what is left, shown or not. On a worker.
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

    // The data of the member at hand, as the input of a decode step.
    class member_input final : public layer_input
    {
    public:
        explicit member_input(std::shared_ptr<archive_reader> from) : from_(std::move(from)) {}
        void set_reader(const std::weak_ptr<step>& reader) override { from_->source().set_reader(reader); }
        [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) override { return from_->read(into); }

    private:
        std::shared_ptr<archive_reader> from_;
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
        engine_->lease({});
        documents_ = new_shared<const unique_fd>(::memfd_create("overmount documents", MFD_CLOEXEC));
        check(documents_->get(), "memfd_create");
    }

    static asio::awaitable<void> read_members(pointer self)
    {
        for (;;) {
            auto group = new_shared<step_group>();
            auto search = new_shared<search_step>(self);
            self->reader_->source().set_reader(search);
            group->add(std::move(search));
            co_await run_steps(self->engine_->pool(), std::move(group));
            if (!self->work_)
                co_return;
            try {
                auto input = keeping(std::make_unique<member_input>(self->reader_), self->draft_);
                co_await unpack_layer(self->engine_->pool(), self->work_, std::move(input));
                self->add_candidate();
            } catch (error& failure) {
                // Nobody knows yet whether it is a layer. What concerns the archive will come again.
                if (failure.code() == asio::error::operation_aborted)
                    throw;
                failure.layer(self->member_);
                if (failure.code() == errc::layer_too_large && failure.at() == stage::decode &&
                    self->bytes_left_ < self->bounds_.stream_bytes)
                    self->refuse_candidates("they unpack to more than " + std::to_string(self->bounds_.candidate_bytes) + " bytes");
                self->carried_->failed(std::current_exception());
            }
            self->bytes_left_ -= std::min(self->bytes_left_, self->work_->bytes);
            self->work_.reset();
            self->draft_.reset();
        }
    }

    void add_candidate()
    {
        const diff_id diff = *work_->diff;
        if (draft_)
            carried_->add_blob(*work_->facts.blob, diff, draft_);
        carried_->add(diff, {std::move(work_->writer), std::move(*work_->record), *work_->kind});
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
            case archive_reader::found::again:
                return step_state::again;
            case archive_reader::found::wait:
                return step_state::wait;
            case archive_reader::found::end:
                return step_state::done;
            case archive_reader::found::member:
                break;
            }
            member_ = tar::normalise(reader_->entry().path, bounds_);
            in_member_ = true;
        }
        const tar::entry& entry = reader_->entry();
        if (entry.type != tar::entry_type::regular || entry.sparse)
            return leave(layer_source::gone_by(0));
        const auto head = reader_->head();
        if (!head)
            return step_state::wait;
        switch (classify_member(*head)) {
        case member_kind::layer: {
            static_cast<void>(leave(layer_source::gone_by(entry.stored_size)));
            begin_layer();
            return step_state::done;
        }
        case member_kind::document:
            return read_document(entry);
        case member_kind::other:
            break;
        }
        return leave(layer_source::gone_by(entry.stored_size));
    }

    step_state leave(layer_source bytes)
    {
        files_.note(reader_->entry(), std::move(bytes));
        in_member_ = false;
        return step_state::again;
    }

    step_state read_document(const tar::entry& entry)
    {
        if (entry.stored_size > bounds_.json_bytes)
            return leave(layer_source::gone_by(entry.stored_size)); // an error if it is wanted
        if (document_.empty() && document_bytes_ + entry.stored_size > bounds_.all_json_bytes)
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
        return leave(file_range(documents_, offset, text.size()));
    }

    void begin_layer()
    {
        limits bounds = bounds_;
        if (layers_ == bounds.candidates)
            refuse_candidates("there are more than " + std::to_string(bounds.candidates));
        bounds.stream_bytes = std::min(bounds.stream_bytes, bytes_left_);
        const std::optional<digest> blob = member_.starts_with("blobs/") ? digest_of_name(member_) : std::nullopt;
        work_ = engine_->begin({std::nullopt, blob, std::nullopt}, "layer-" + std::to_string(layers_++), bounds);
        if (options_.keeps_blobs() && blob)
            draft_ = new_shared<blob_draft>(engine_->staging(), "blob-" + std::to_string(layers_), engine_->repository().sync);
        if (options_.progress())
            work_->progress = [this, size = reader_->entry().stored_size](std::uint64_t read) {
                options_.progress()(layer_progress(member_, read, size));
            };
    }

    // The whole archive is read: the documents decide.
    void choose(const stop_flag& stop)
    {
        const import_context context(engine_->pool(), bounds_, options_.wanted());
        auto found = discover_images(files_, "the stream", name_, context, stop);
        import_ = new_shared<import_run<Storage>>(engine_, std::move(found), options_, carried_);
    }

    std::shared_ptr<engine> engine_;
    limits bounds_;
    import_options options_;
    std::string name_;
    image_files files_;
    std::uint64_t bytes_left_; // that more candidates may unpack to
    std::shared_ptr<archive_reader> reader_;
    std::shared_ptr<const unique_fd> documents_; // a file in memory
    std::uint64_t document_bytes_ = 0;
    std::string member_, document_; // the one at hand
    bool in_member_ = false;
    std::uint64_t layers_ = 0; // candidates so far
    std::shared_ptr<work> work_;
    std::shared_ptr<blob_draft> draft_; // of the member at hand, where blobs are kept
    std::shared_ptr<carried> carried_ = new_shared<carried>();
    std::shared_ptr<import_run<Storage>> import_; // of what was found
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

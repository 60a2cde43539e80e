#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COMMIT_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COMMIT_RUN_HPP

#include <overmount/mount/upper_reader.hpp>
#include <overmount/oci/image_config_edit.hpp>
#include <overmount/repository/operations/create_run.hpp>
#include <overmount/repository/operations/publication.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The tar of an upper directory, as an input of the pipeline.
class upper_input final : public layer_input
{
public:
    explicit upper_input(upper_reader from) : from_(std::move(from)) {}
    [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) override { return from_.read(into); }

private:
    upper_reader from_;
};

// Commits the upper directory of one mount as a layer and an image. Shared by the operation's coroutine and its worker threads,
// which use it one at a time.
template <mountable_storage Storage>
class commit_run
{
public:
    using pointer = std::shared_ptr<commit_run>;
    using state = repository_state<Storage>;

    commit_run(std::shared_ptr<state> owner, mount_record record, commit_options options)
        : repository_(std::move(owner)), record_(std::move(record)), options_(std::move(options))
    {}

    static asio::awaitable<void> run(pointer self)
    {
        self->names_ = full_names(self->options_.tags()); // reject invalid names before the work
        auto prepare = [self](const stop_flag&) { return self->prepare(); };
        if (co_await run_on(self->repository_->pool, std::move(prepare))) {
            auto open = [self] { return self->open(); };
            co_await create_run<Storage>::from_input(self->layer_, std::move(open));
            co_return;
        }
        auto lease = [self](const stop_flag&) { self->lease(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(lease));
        auto draft = [self](const stop_flag&) {
            self->add_result(*self->end_, std::nullopt);
            self->end_->write();
        };
        co_await run_on(self->repository_->pool, std::move(draft));
        co_await publication<Storage>::run(self->end_, &self->known_);
    }

    // Removes all remaining staging files, whether or not the image was published. Runs on a worker thread.
    void clean()
    {
        if (layer_)
            layer_->clean();
        end_.reset();
        scope_->clean();
    }

    // The new image's config, once the image is published.
    [[nodiscard]] const image_config& made() const { return *made_; }

private:
    // Opens the upper directory; returns whether it has any changes to make a layer of.
    bool prepare()
    {
        if (!record_.writable)
            throw error(errc::mount_read_only).at(stage::mount).subject(record_.target);
        if (mount_table::may_be_incomplete(record_) && !options_.accepts_not_durable())
            throw error(errc::mount_not_durable).at(stage::mount).subject(record_.target);
        store& records = *repository_->records;
        from_ = config();
        if (!from_->diff_ids().empty())
            top_ = chain_id::of(from_->diff_ids());
        if (!exists(records.mounts(), record_.id + "/upper"))
            throw error(errc::mount_not_found).at(stage::mount).subject(record_.target);
        upper_ = open_directory(records.mounts(), record_.id + "/upper");
        if (is_unchanged(upper_.get(), mount_table(repository_->records).root_below(record_, top_, stack()).get()))
            return false;
        layer_ = new_shared<create_run<Storage>>(repository_, top_);
        layer_->when_made([this](publication<Storage>& end, const diff_id& diff) { add_result(end, diff); });
        return true;
    }

    // The config of the mounted image; for a mounted layer, an otherwise empty config with the layers of its chain.
    [[nodiscard]] image_config config() const
    {
        if (record_.layer)
            return image_config_edit(platform::host())
                .replace_layers(repository_->diffs_of(record_.layer))
                .build(repository_->bounds);
        auto text = repository_->records->image(*record_.image);
        if (!text)
            throw error(errc::image_not_found).at(stage::repository).subject(record_.image->string());
        return image_config::parse(std::move(*text), repository_->bounds);
    }

    [[nodiscard]] std::vector<stacked_layer> stack() const
    {
        return top_ ? repository_->stack_of(*top_) : std::vector<stacked_layer>();
    }

    // Opens all layers. Called with a permit, so that few operations do so at the same time.
    [[nodiscard]] std::unique_ptr<layer_input> open()
    {
        upper_options options;
        options.bounds(repository_->bounds).latest(options_.source_date_epoch());
        auto layers = new_shared<const std::vector<stacked_layer>>(stack());
        options.shown_below([layers, shown = shown_layers(*layers)](const std::string& path) mutable {
            return !shown.of(path).empty();
        });
        return std::make_unique<upper_input>(upper_reader(open_directory(upper_.get(), "."), std::move(options)));
    }

    void make_config(const std::optional<diff_id>& diff)
    {
        const std::string time =
            options_.source_date_epoch() ? timestamp_of(*options_.source_date_epoch()) : timestamp_now();
        const history_entry step{time, options_.created_by(), options_.message(), !diff};
        image_config_edit edit(*from_);
        edit.created(time);
        if (diff)
            edit.append_layer(*diff, step);
        else
            edit.append_empty(step);
        if (options_.edit())
            options_.edit()(edit);
        made_ = edit.build(repository_->bounds);
    }

    // Under the lock: a removed upper directory has no entries, and would make an empty layer.
    void require_upper() const
    {
        const store& records = *repository_->records;
        const unique_fd now(::openat(records.mounts(), (record_.id + "/upper").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        struct stat read, there;
        if (!now || ::fstat(upper_.get(), &read) != 0 || ::fstat(now.get(), &there) != 0 || read.st_ino != there.st_ino)
            throw error(errc::mount_not_found).at(stage::mount).subject(record_.target).detail("it was unmounted during the commit");
    }

    // Under the lock, so that no layer below is removed before it is leased.
    void lease()
    {
        lease_content content;
        if (top_) {
            static_cast<void>(repository_->records->layers.chain(*top_));
            publication<Storage>::lease_chain(content, from_->diff_ids());
        }
        scope_->open(content);
    }

    // Adds the new image with its names.
    void add_result(publication<Storage>& end, const std::optional<diff_id>& diff)
    {
        make_config(diff);
        require_upper(); // before anything is published, and again just before the image is
        end.add_image(found_image{*made_, {}}, names_, false);
        end.before_commit([this] { require_upper(); });
    }

    std::shared_ptr<state> repository_;
    mount_record record_;
    commit_options options_;
    std::vector<std::string> names_;
    std::optional<image_config> from_, made_;
    std::optional<chain_id> top_;
    unique_fd upper_;
    std::shared_ptr<create_run<Storage>> layer_;
    // Used only if there is no layer to make:
    const known_records known_;
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(repository_, scope_);
};

// Not inline: with separate compilation, repository/instances.hpp instantiates it.
template <mountable_storage Storage>
asio::awaitable<image_config> commit_upper(std::shared_ptr<repository_state<Storage>> owner, mount_record record,
                                           commit_options options);

} // namespace overmount::OVERMOUNT_ABI::detail

#include <overmount/repository/impl/commit_run.ipp>

#endif

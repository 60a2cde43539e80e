#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_COMPOSE_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_COMPOSE_HPP

#include <overmount/oci/image_config_edit.hpp>
#include <overmount/repository/operations/publication.hpp>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The config, with the layers of a chain, lowest first. Throws `image_cannot_be_composed`.
OVERMOUNT_LAZY [[nodiscard]] inline image_config with_layers(const image_config& config, const std::vector<diff_id>& chain,
                                                             const limits& bounds)
{
    const auto fail = [](std::string_view why) {
        return error(errc::image_cannot_be_composed).at(stage::repository).detail(why);
    };
    if (config.diff_ids() == chain)
        return config;
    if (!config.diff_ids().empty())
        throw fail("the config and the chain have different layers");
    try {
        return image_config_edit(config).replace_layers(chain).build(bounds);
    } catch (const error& failure) {
        throw fail(failure.what());
    }
}

// Makes an image of a config and of layers of the repository.
template <storage_policy Storage>
class compose_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<compose_run>;

    // \param is_there the image must already exist, and only gets names
    compose_run(std::shared_ptr<state> owner, image_config config, std::optional<chain_id> top, import_options options,
                bool is_there = false)
        : repository_(std::move(owner)), config_(std::move(config)), top_(std::move(top)), options_(std::move(options)), is_there_(is_there)
    {}

    static asio::awaitable<void> run(pointer self)
    {
        self->names_ = full_names(self->options_.tags());
        auto lease = [self](const stop_flag&) { self->lease(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(lease));
        auto draft = [self](const stop_flag&) {
            self->end_->add_image(*self->made_, self->names_, false);
            if (self->is_there_)
                self->end_->before_commit([self = self.get()] { self->require_there(); });
            self->end_->write();
        };
        co_await run_on(self->repository_->pool, std::move(draft));
        co_await publication<Storage>::run(self->end_, &self->known_);
    }

    // On a worker.
    void clean()
    {
        end_.reset();
        scope_->clean();
    }
    [[nodiscard]] const image_config& made() const { return made_->config; }

private:
    // Under the lock, so that no layer is removed before it is leased.
    void lease()
    {
        std::vector<diff_id> layers = config_.diff_ids();
        if (top_)
            layers = repository_->diffs_of(top_);
        for (const diff_id& layer : layers)
            if (!is_there_ || !repository_->is_damaged(layer)) // an existing image can be named even if it is damaged
                repository_->require_believed(layer);
        made_.emplace(found_image{with_layers(config_, layers, repository_->bounds), {}});
        if (is_there_)
            require_there();
        lease_content content;
        publication<Storage>::lease_image(content, *made_);
        scope_->open(content);
    }

    void require_there() const
    {
        if (!repository_->records->image(config_.id()))
            throw error(errc::image_not_found).at(stage::repository).subject(config_.id().string());
    }

    std::shared_ptr<state> repository_;
    image_config config_;
    std::optional<chain_id> top_;
    import_options options_;
    bool is_there_;
    std::vector<std::string> names_;
    std::optional<found_image> made_;
    const known_records known_; // nothing was unpacked
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(repository_, scope_);
};

// Gives an existing image more names, and makes all that it refers to durable if the repository's durability asks for that.
template <storage_policy Storage>
asio::awaitable<void> name_image(std::shared_ptr<repository_state<Storage>> owner, image_config config, import_options names)
{
    auto run = new_shared<compose_run<Storage>>(owner, std::move(config), std::nullopt, std::move(names), true);
    auto work = run->run(run);
    auto clean = [run](const stop_flag&) { run->clean(); };
    co_await run_then_clean(owner->pool, std::move(work), std::move(clean));
}
template <storage_policy Storage>
asio::awaitable<void> make_image_durable(std::shared_ptr<repository_state<Storage>> owner, image_config config)
{
    return name_image(std::move(owner), std::move(config), import_options());
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_LEASE_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_LEASE_RUN_HPP

#include <overmount/lease.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/repository/operations/publication.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The content of a requested lease, looked up under the repository's lock.
template <storage_policy Storage>
class leased_things
{
public:
    // Throws `image_not_found`, `layer_not_found`.
    leased_things(const repository_state<Storage>& owner, const lease_request& wanted)
    {
        for (const digest& id : wanted.images()) {
            auto config = owner.records->image(id);
            if (!config)
                throw error(errc::image_not_found).at(stage::repository).subject(id.string());
            add(owner, image_config::parse(std::move(*config), owner.bounds).diff_ids());
            content_.image(id);
        }
        for (const chain_id& top : wanted.layers())
            add(owner, owner.diffs_of(std::optional(top)));
    }
    [[nodiscard]] const lease_content& content() const noexcept { return content_; }
    [[nodiscard]] const std::vector<std::vector<diff_id>>& chains() const noexcept { return chains_; } // lowest first

private:
    void add(const repository_state<Storage>& owner, std::vector<diff_id> diffs)
    {
        for (const auto& [chain, layer] : chain_of(diffs))
            if (!exists(owner.records->base_fd(), layer_path(chain)) || !owner.is_there(layer.diff))
                throw error(errc::layer_not_found).at(stage::repository).layer(chain.string());
        publication<Storage>::lease_chain(content_, diffs);
        chains_.push_back(std::move(diffs));
    }

    lease_content content_;
    std::vector<std::vector<diff_id>> chains_;
};

// Leases the requested images and layers and makes them durable, in the way an image is published.
template <storage_policy Storage>
class durable_things
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<durable_things>;

    durable_things(std::shared_ptr<state> owner, lease_request wanted) : repository_(std::move(owner)), wanted_(std::move(wanted)) {}

    static asio::awaitable<void> run(pointer self)
    {
        auto look = [self](const stop_flag&) {
            const leased_things<Storage> things(*self->repository_, self->wanted_);
            self->content_ = things.content();
            self->chains_ = things.chains();
            self->scope_->open(self->content_);
        };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(look));
        auto draft = [self](const stop_flag&) {
            for (const auto& diffs : self->chains_)
                self->end_->add_chain(diffs);
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

    [[nodiscard]] const lease_content& content() const noexcept { return content_; }
    // The staging directory, until `clean`.
    [[nodiscard]] int staging() const noexcept { return scope_->staging(); }

private:
    std::shared_ptr<state> repository_;
    lease_request wanted_;
    lease_content content_;
    std::vector<std::vector<diff_id>> chains_;
    const known_records known_; // nothing was unpacked
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    std::shared_ptr<publication<Storage>> end_ = new_shared<publication<Storage>>(repository_, scope_);
};

// Makes a layer and all layers below it durable. Throws `layer_not_found`.
template <storage_policy Storage>
asio::awaitable<void> make_layer_durable(std::shared_ptr<repository_state<Storage>> owner, chain_id top)
{
    lease_request wanted;
    wanted.layer(top);
    auto run = new_shared<durable_things<Storage>>(owner, std::move(wanted));
    auto work = run->run(run);
    auto clean = [run](const stop_flag&) { run->clean(); };
    co_await run_then_clean(owner->pool, std::move(work), std::move(clean));
}

// Creates a named lease, after it has made all that the lease keeps durable.
template <storage_policy Storage>
class lease_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<lease_run>;

    lease_run(std::shared_ptr<state> owner, std::string name, std::chrono::seconds time, lease_request wanted)
        : repository_(owner), name_(std::move(name)), time_(time),
          things_(new_shared<durable_things<Storage>>(std::move(owner), std::move(wanted)))
    {
    }

    static asio::awaitable<void> run(pointer self)
    {
        co_await durable_things<Storage>::run(self->things_);
        auto put = [self](const stop_flag&) { self->put(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(put));
    }

    // On a worker.
    void clean() { things_->clean(); }

private:
    // Under the lock, so that no collection reads the lease while it is replaced.
    void put()
    {
        timed_lease_record record;
        record.name = name_;
        record.end = two_clocks::now();
        record.end.wall += time_.count();
        record.end.since_boot += time_.count();
        record.content = things_->content();
        repository_->records->leases.put(things_->staging(), record, repository_->sync);
    }

    std::shared_ptr<state> repository_;
    std::string name_;
    std::chrono::seconds time_;
    std::shared_ptr<durable_things<Storage>> things_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

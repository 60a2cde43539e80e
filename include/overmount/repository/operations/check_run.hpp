#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CHECK_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CHECK_RUN_HPP

#include <overmount/oci/image_config.hpp>
#include <overmount/posix/scratch_directory.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/content_check.hpp>
#include <overmount/repository/operations/publication.hpp>
#include <overmount/repository/operations/work_scope.hpp>
#include <overmount/repository/records/check_records.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/task_group.hpp>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Checks a repository. Shared by the operation's coroutines and its worker threads.
template <storage_policy Storage>
class check_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<check_run>;

    check_run(std::shared_ptr<state> owner, const check_options& options)
        : repository_(std::move(owner)), options_(options)
    {
    }

    [[nodiscard]] const check_report& report() const noexcept { return report_; }

    static asio::awaitable<void> run(pointer self)
    {
        if (!self->repository_->records->read_only()) { // no collection can run there, and no lease can be taken
            auto lease = [self](const stop_flag&) { self->lease(); };
            co_await run_locked(self->repository_, lock_kind::shared, std::move(lease));
        }
        auto look = [self](const stop_flag& stop) { self->look(stop); };
        co_await run_on(self->repository_->pool, std::move(look));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (int i = 0; i < 2; ++i) // each verifies one object at a time
            group->add(verify_some(self));
        co_await task_group::join(std::move(group));
        auto finish = [self](const stop_flag& stop) { self->finish(stop); };
        co_await run_on(self->repository_->pool, std::move(finish));
    }

    // Runs on a worker thread.
    void clean()
    {
        scope_->clean();
    }

private:
    using findings = std::vector<finding>;

    // A diff or blob whose content is to be read.
    struct content
    {
        digest id;
        bool blob;
    };

    void lease()
    {
        lease_content lease;
        for (const digest& id : repository_->records->kept_diffs())
            lease.diff(diff_id(id));
        scope_->open(lease);
    }

    void look(const stop_flag& stop)
    {
        const store& records = *repository_->records;
        read_records(stop);
        if (!report_.findings.empty()) {
            // A finding may come from a removal that ran at the same time: keep only what a second reading finds too.
            const findings before = std::exchange(report_.findings, {});
            read_records(stop);
            std::erase_if(report_.findings, [&before](const finding& one) {
                return std::find(before.begin(), before.end(), one) == before.end();
            });
        }
        report_.images = all_.images.size();
        report_.layers = all_.layers.size();
        report_.diffs = all_.diffs.size();
        report_.tags = all_.tags.size();
        report_.manifests = all_.manifests.size();
        const auto blobs = records.blobs.list();
        report_.blobs = blobs.size();
        if (!options_.contents()) {
            for (const diff_id& id : all_.diffs)
                if (repository_->is_damaged(id))
                    add_finding(finding_kind::diff_marked, id.string(), "an earlier check found it damaged");
            return;
        }
        for (const diff_id& id : all_.diffs)
            todo_.push_back({id.value(), false});
        for (const digest& id : blobs)
            todo_.push_back({id, true});
    }

    void add_finding(finding_kind kind, std::string object, std::string detail)
    {
        report_.findings.push_back({kind, std::move(object), "", std::move(detail)});
    }

    // Adds a finding for an unreadable tag or import record.
    void add_unreadable(const error& failure)
    {
        const std::string& path = failure.subject();
        add_finding(finding_kind::record_unreadable, path.starts_with("tags/") ? path.substr(5) : path, failure.what());
    }

    // The result of `read`; if what it reads is damaged, nullopt, and a finding is added.
    template <class Read>
    auto try_read(finding_kind kind, const std::string& object, const Read& read) -> std::optional<decltype(read())>
    {
        try {
            return read();
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            add_finding(kind, object, failure.what());
            return std::nullopt;
        }
    }

    // Reads all records, and adds findings about damaged records and dangling references.
    void read_records(const stop_flag& stop)
    {
        const store& records = *repository_->records;
        report_.findings.clear();
        mounted_.clear();
        all_ = listed_records();
        // Read an object before those that it refers to: whatever is added meanwhile is published before anything refers to it.
        all_.tags = records.tags([this](const error& failure) { add_unreadable(failure); });
        for (const digest& id : records.images())
            read_image(id, stop);
        for (const chain_id& chain : records.layers.list())
            read_layer(chain, stop);
        for (const digest& id : records.manifests.list())
            read_manifest(id, stop);
        read_diffs(stop);
        for (const std::string& id : list_directory(records.mounts(), "."))
            read_mount(id);
        for (finding& one : broken_references(all_))
            report_.findings.push_back(std::move(one));
    }

    void read_mount(const std::string& id)
    {
        const auto found =
            try_read(finding_kind::record_unreadable, id, [&] { return mount_table(repository_->records).find(id); });
        if (found && *found && (*found)->layer)
            mounted_.insert(*(*found)->layer);
    }

    void read_image(const digest& id, const stop_flag& stop)
    {
        stop.throw_if_stopped();
        auto& diffs = all_.images[id];
        const auto found = try_read(finding_kind::config_changed, id.string(),
                                    [&] { return repository_->records->image(id); });
        if (!found)
            return;
        if (!*found)
            return add_finding(finding_kind::config_changed, id.string(), "its config is missing");
        if (const digest sum = digest::of(**found, id.algorithm()); sum != id)
            return add_finding(finding_kind::config_changed, id.string(), "its config has the digest " + sum.string());
        const auto config = try_read(finding_kind::config_changed, id.string(),
                                     [&] { return image_config::parse(**found, repository_->bounds); });
        if (config)
            diffs = config->diff_ids();
    }

    void read_layer(const chain_id& chain, const stop_flag& stop)
    {
        stop.throw_if_stopped();
        auto& layer = all_.layers[chain];
        const auto found = try_read(finding_kind::record_unreadable, chain.string(),
                                    [&] { return repository_->records->layers.find(chain); });
        if (found && !*found)
            add_finding(finding_kind::record_unreadable, chain.string(), "its record is missing");
        else if (found)
            layer = **found;
    }

    void read_manifest(const digest& id, const stop_flag& stop)
    {
        stop.throw_if_stopped();
        all_.manifests.insert(id);
        const auto found = try_read(finding_kind::manifest_changed, id.string(),
                                    [&] { return repository_->records->manifests.find(id); });
        if (!found)
            return;
        if (!*found)
            return add_finding(finding_kind::manifest_changed, id.string(), "the file is missing");
        if (const digest sum = digest::of(**found, id.algorithm()); sum != id)
            add_finding(finding_kind::manifest_changed, id.string(), "its content has the digest " + sum.string());
    }

    // Lists the diffs: those that layers refer to, and those that no layer needs.
    void read_diffs(const stop_flag& stop)
    {
        std::set<diff_id> known;
        for (const digest& id : repository_->records->kept_diffs())
            known.emplace(id);
        for (const auto& [chain, layer] : all_.layers)
            if (layer)
                known.insert(layer->diff);
        for (const diff_id& id : known) {
            stop.throw_if_stopped();
            const auto there = try_read(finding_kind::record_unreadable, id.string(),
                                        [&] { return repository_->is_there(id); });
            if (there.value_or(true))
                all_.diffs.insert(id);
        }
    }

    static asio::awaitable<void> verify_some(pointer self)
    {
        while (self->next_ < self->todo_.size()) {
            const auto permit = co_await self->repository_->slots.acquire();
            if (self->next_ == self->todo_.size())
                break;
            const content* one = &self->todo_[self->next_++];
            auto work = [self, one](const stop_flag& stop) {
                const content_check<Storage> check(self->repository_, self->scratch());
                return one->blob ? check.verify_blob(one->id, stop) : check.verify_diff(diff_id(one->id), stop);
            };
            const verified found = co_await run_on(self->repository_->pool, std::move(work));
            self->contents_.insert(self->contents_.end(), found.damages.begin(), found.damages.end());
            self->report_.mended.insert(self->report_.mended.end(), found.mended.begin(), found.mended.end());
        }
    }

    // Where the tree of a diff is unpacked again: in the staging directory, or in a temporary directory if the repository is read-only.
    [[nodiscard]] int scratch() const { return scope_->is_open() ? scope_->staging() : outside_scratch_.directory(); }

    void finish(const stop_flag& stop)
    {
        auto& all = report_.findings;
        // An unreadable record was reported already.
        std::erase_if(contents_, [&all](const finding& one) {
            return one.kind == finding_kind::diff_unreadable &&
                   std::any_of(all.begin(), all.end(), [&one](const finding& other) {
                       return other.object == one.object && other.kind == finding_kind::record_unreadable;
                   });
        });
        std::move(contents_.begin(), contents_.end(), std::back_inserter(all));
        if constexpr (mountable_storage<Storage>)
            check_corrections(stop);
        std::sort(all.begin(), all.end());
        std::sort(report_.mended.begin(), report_.mended.end());
    }

    // Checks the corrections of the chains of images and mounted layers, except damaged chains.
    void check_corrections(const stop_flag& stop)
    {
        const mount_table table(repository_->records);
        std::set<std::string> damaged;
        for (const finding& one : report_.findings)
            damaged.insert(one.object);
        const auto is_damaged = [&damaged](const auto& one) {
            return damaged.contains(one.first.string()) || damaged.contains(one.second.diff.string());
        };
        std::map<chain_id, std::optional<std::vector<diff_id>>> chains; // nullopt: of a mounted layer, to be read
        for (const auto& [id, diffs] : all_.images)
            if (diffs && !diffs->empty())
                chains.insert_or_assign(chain_id::of(*diffs), *diffs);
        for (const chain_id& top : mounted_)
            chains.try_emplace(top);
        for (auto& [top, diffs] : chains) {
            stop.throw_if_stopped();
            try {
                if (!diffs)
                    diffs = repository_->diffs_of(std::optional(top));
                if (const auto layers = chain_of(*diffs); std::any_of(layers.begin(), layers.end(), is_damaged))
                    continue;
                if (table.lost_correction(top, repository_->stack_of(top)))
                    add_finding(finding_kind::correction_missing, top.string(), "mounts of the chain need a correction, which is missing");
            } catch (const error& failure) {
                if (!is_damage(failure))
                    throw;
                // A missing object was reported before. A damaged file that only the correction reads was not.
                if (failure.code() == errc::corrupt_repository && !damaged.contains(failure.layer()))
                    add_finding(finding_kind::record_unreadable, top.string(), failure.what());
            }
        }
    }

    std::shared_ptr<state> repository_;
    check_options options_;
    check_report report_;
    listed_records all_;
    std::set<chain_id> mounted_; // layers that are mounted without an image
    std::vector<content> todo_;
    std::size_t next_ = 0; // index into `todo_`; used on the strand only
    findings contents_;    // used on the strand only
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    mutable scratch_directory outside_scratch_; // for a repository that is read-only
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

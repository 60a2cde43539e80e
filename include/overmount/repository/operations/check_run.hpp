#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CHECK_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CHECK_RUN_HPP

#include <overmount/core/hasher.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/posix/scratch_directory.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/work_scope.hpp>
#include <overmount/repository/records/check_records.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/task_group.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// One check at work. Shared by its coroutines and by the workers that act for them.
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
        if (!self->repository_->records->read_only()) { // nobody collects there, and nothing can be made
            auto lease = [self](const stop_flag&) { self->lease(); };
            co_await run_locked(self->repository_, lock_kind::shared, std::move(lease));
        }
        auto look = [self](const stop_flag& stop) { self->look(stop); };
        co_await run_on(self->repository_->pool, std::move(look));
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (int i = 0; i < 2; ++i) // each has one after the other
            group->add(verify_some(self));
        co_await task_group::join(std::move(group));
        auto finish = [self](const stop_flag& stop) { self->finish(stop); };
        co_await run_on(self->repository_->pool, std::move(finish));
    }

    // On a worker.
    void clean()
    {
        scope_->clean();
    }

private:
    using findings = std::vector<finding>;

    // Something whose bytes are to be read.
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
            // It may have been read while something was removed: that is then not found again.
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
        if (!options_.contents())
            return;
        for (const diff_id& id : all_.diffs)
            todo_.push_back({id.value(), false});
        for (const digest& id : blobs)
            todo_.push_back({id, true});
    }

    void tell(finding_kind kind, std::string object, std::string detail)
    {
        report_.findings.push_back({kind, std::move(object), "", std::move(detail)});
    }

    // The file of a tag, or the record of an import.
    void tell_unreadable(const error& failure)
    {
        const std::string& path = failure.subject();
        tell(finding_kind::record_unreadable, path.starts_with("tags/") ? path.substr(5) : path, failure.what());
    }

    // What `read` gives; where that is damaged, nothing, and a finding.
    template <class Read>
    auto try_read(finding_kind kind, const std::string& object, const Read& read) -> std::optional<decltype(read())>
    {
        try {
            return read();
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            tell(kind, object, failure.what());
            return std::nullopt;
        }
    }

    // All records, and what is wrong with them by themselves and with each other.
    void read_records(const stop_flag& stop)
    {
        const store& records = *repository_->records;
        report_.findings.clear();
        all_ = listed_records();
        // Who refers to others comes first: what is put meanwhile is there before anything refers to it.
        all_.tags = records.tags([this](const error& failure) { tell_unreadable(failure); });
        for (const digest& id : records.images())
            read_image(id, stop);
        for (const chain_id& chain : records.layers.list())
            read_layer(chain, stop);
        for (const digest& id : records.manifests.list())
            read_manifest(id, stop);
        read_diffs(stop);
        for (const std::string& id : list_directory(records.mounts(), "."))
            static_cast<void>(try_read(finding_kind::record_unreadable, id,
                                       [&] { return mount_table(repository_->records).find(id); }));
        for (finding& one : broken_references(all_))
            report_.findings.push_back(std::move(one));
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
            return tell(finding_kind::config_changed, id.string(), "its config is missing");
        if (const digest sum = digest::of(**found, id.algorithm()); sum != id)
            return tell(finding_kind::config_changed, id.string(), "its config has " + sum.string());
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
            tell(finding_kind::record_unreadable, chain.string(), "its record is missing");
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
            return tell(finding_kind::manifest_changed, id.string(), "it is missing");
        if (const digest sum = digest::of(**found, id.algorithm()); sum != id)
            tell(finding_kind::manifest_changed, id.string(), "it has " + sum.string());
    }

    // What layers refer to, and what no layer needs.
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
                                        [&] { return repository_->storage.contains(id); });
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
                return one->blob ? self->verify_blob(one->id, stop) : self->verify_diff(diff_id(one->id), stop);
            };
            const findings found = co_await run_on(self->repository_->pool, std::move(work));
            self->contents_.insert(self->contents_.end(), found.begin(), found.end());
        }
    }

    // The digest of what `read` gives, piece by piece.
    template <class Read>
    static digest sum_of(digest_algorithm algorithm, const stop_flag& stop, Read read)
    {
        hasher sum(algorithm);
        constexpr std::size_t size = 256 << 10;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
        while (const std::size_t count = read(std::span(buffer.get(), size))) {
            stop.throw_if_stopped();
            sum.update({buffer.get(), count});
        }
        return sum.finish();
    }

    findings verify_blob(const digest& id, const stop_flag& stop) const
    {
        try {
            const unique_fd fd = repository_->records->blobs.open(id);
            if (!fd)
                return {}; // removed since
            const digest found = sum_of(id.algorithm(), stop, [&fd](std::span<std::byte> into) {
                ssize_t count = 0;
                do
                    count = ::read(fd.get(), into.data(), into.size());
                while (count < 0 && errno == EINTR);
                check(count < 0 ? -1 : 0, "read");
                return static_cast<std::size_t>(count);
            });
            if (found == id)
                return {};
            return {{finding_kind::blob_changed, id.string(), "", "it has " + found.string()}};
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            return {{finding_kind::blob_changed, id.string(), "", failure.what()}};
        }
    }

    findings verify_diff(const diff_id& id, const stop_flag& stop) const
    {
        findings out;
        const auto add = [&](finding_kind kind, std::string_view path, std::string_view how) {
            out.push_back({kind, id.string(), std::string(path), std::string(how)});
        };
        try {
            static_cast<void>(repository_->storage.record(id));
            if constexpr (verifiable_storage<Storage>) {
                const verify_context context(
                    write_context(scratch(), directory_name(id), repository_->bounds),
                    [&](std::string_view path, std::string_view how) { add(finding_kind::diff_changed, path, how); },
                    [&stop] { stop.throw_if_stopped(); });
                repository_->storage.verify(id, context);
            } else if constexpr (packable_storage<Storage>) {
                auto reader = repository_->storage.pack(id);
                const digest found = sum_of(id.value().algorithm(), stop,
                                            [&reader](std::span<std::byte> into) { return reader.read(into); });
                if (found != id.value())
                    add(finding_kind::diff_changed, "", "its tar has " + found.string());
            }
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            const bool changed = failure.code() == errc::diff_changed;
            add(changed ? finding_kind::diff_changed : finding_kind::diff_unreadable, failure.entry(), failure.what());
        }
        if (!out.empty() && is_gone(id))
            out.clear();
        return out;
    }

    // Where the tree of a diff is made again: beside the diffs, or where the machine keeps what is temporary.
    [[nodiscard]] int scratch() const { return scope_->is_open() ? scope_->staging() : elsewhere_.directory(); }

    static std::string directory_name(const diff_id& id) { return "check-" + id.value().hex(); }

    // Erased since it was listed.
    bool is_gone(const diff_id& id) const
    {
        try {
            return !repository_->storage.contains(id);
        } catch (const error&) {
            return false;
        }
    }

    void finish(const stop_flag& stop)
    {
        auto& all = report_.findings;
        // A record that cannot be read was told already.
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
    }

    // Of the chains that are mounted, as far as these are whole.
    void check_corrections(const stop_flag& stop)
    {
        const mount_table table(repository_->records);
        std::set<std::string> damaged;
        for (const finding& one : report_.findings)
            damaged.insert(one.object);
        const auto is_damaged = [&damaged](const diff_id& diff) { return damaged.contains(diff.string()); };
        for (const auto& [id, diffs] : all_.images) {
            stop.throw_if_stopped();
            if (!diffs || diffs->empty() || std::any_of(diffs->begin(), diffs->end(), is_damaged))
                continue;
            const chain_id top = chain_id::of(*diffs);
            try {
                if (table.lost_correction(top, repository_->stack_of(top)))
                    tell(finding_kind::correction_missing, top.string(), "mounts of the chain need it");
            } catch (const error& failure) {
                if (!is_damage(failure))
                    throw;
                // What is missing of it was told before; what only a correction reads was not.
                if (failure.code() == errc::corrupt_repository && !damaged.contains(failure.layer()))
                    tell(finding_kind::record_unreadable, top.string(), failure.what());
            }
        }
    }

    std::shared_ptr<state> repository_;
    check_options options_;
    check_report report_;
    listed_records all_;
    std::vector<content> todo_;
    std::size_t next_ = 0; // of `todo_`; on the strand of the coroutines, as is
    findings contents_;
    std::shared_ptr<work_scope> scope_ = new_shared<work_scope>(repository_->records);
    mutable scratch_directory elsewhere_; // of a repository that can only be read
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

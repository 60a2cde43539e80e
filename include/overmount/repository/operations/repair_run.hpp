#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_REPAIR_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_REPAIR_RUN_HPP

#include <overmount/check.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/layer_engine.hpp>
#include <overmount/repository/operations/repair_sources.hpp>
#include <overmount/repository/records/check_records.hpp>

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

// Repairs a repository, after a check that has marked the damaged diffs. Shared by the operation's coroutines and its worker threads.
// Repairs documents first, since they say which layers there are; then diffs; then layer records, blobs and corrections.
//
// Nothing is changed in place. A damaged diff is unpacked again, as in an import, and exchanged.
template <storage_policy Storage>
class repair_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<repair_run>;

    repair_run(std::shared_ptr<state> owner, check_report before, std::vector<found_image> given)
        : repository_(std::move(owner)), before_(std::move(before)), sources_(repository_->records, repository_->bounds, std::move(given))
    {}

    static asio::awaitable<void> run(pointer self)
    {
        const worker_pool& pool = self->repository_->pool;
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_locked(self->repository_, lock_kind::shared, std::move(begin));
        auto find = [self](const stop_flag& stop) {
            self->find_documents(stop);
            self->find_diffs(stop);
        };
        co_await run_on(pool, std::move(find));
        if (!self->damaged_.images.empty() || !self->damaged_.manifests.empty()) {
            auto documents = [self](const stop_flag&) { self->mend_documents(); };
            co_await run_locked(self->repository_, lock_kind::roots, std::move(documents));
        }
        const std::function<void()> nothing;
        auto beat = [self] { self->engine_->finished().beat(); };
        co_await claim_beat::during(pool, mend_diffs(self), std::move(beat), nothing);
        auto others = [self](const stop_flag& stop) { self->mend_layers_and_blobs(stop); };
        co_await run_on(pool, std::move(others));
    }

    // Removes all remaining staging files, whether or not the repair succeeded. Runs on a worker thread.
    void clean()
    {
        engine_->clean();
    }

    // \param after the result of a check of the records after the repair
    [[nodiscard]] check_report report(check_report after) const
    {
        // That check has not read contents: keep the earlier findings about damaged content, unless it was repaired. They say more
        // than a mark, and replace it.
        std::set<std::string> marked, kept;
        for (const finding& one : after.findings)
            if (one.kind == finding_kind::diff_marked)
                marked.insert(one.object);
        for (const finding& one : before_.findings)
            if ((is_of_content(one.kind) || marked.contains(one.object)) && !mended_.contains(one.object)) {
                after.findings.push_back(one);
                kept.insert(one.object);
            }
        std::erase_if(after.findings, [&kept](const finding& one) {
            return one.kind == finding_kind::diff_marked && kept.contains(one.object);
        });
        std::sort(after.findings.begin(), after.findings.end());
        after.findings.erase(std::unique(after.findings.begin(), after.findings.end()), after.findings.end());
        after.mended = before_.mended;
        std::set_difference(before_.findings.begin(), before_.findings.end(), after.findings.begin(), after.findings.end(),
                            std::back_inserter(after.mended));
        std::sort(after.mended.begin(), after.mended.end());
        for (finding& one : after.findings)
            one.detail += "; not repaired: " + why_not(one);
        return after;
    }

private:
    static bool is_of_content(finding_kind kind)
    {
        return kind == finding_kind::diff_changed || kind == finding_kind::diff_unreadable || kind == finding_kind::blob_changed;
    }

    [[nodiscard]] std::string why_not(const finding& one) const
    {
        if (const auto known = why_.find(one.object); known != why_.end())
            return known->second;
        switch (one.kind) {
        case finding_kind::config_changed:
        case finding_kind::manifest_changed:
        case finding_kind::blob_changed:
        case finding_kind::image_missing:
        case finding_kind::manifest_missing: return "neither a kept blob nor the source has it";
        case finding_kind::chain_id_mismatch:
        case finding_kind::parent_missing: return "no image lists this layer";
        default: return "nothing else has its content";
        }
    }

    // The result of `read`, or an empty one if what it reads is damaged.
    template <class Read>
    static auto read_or_nothing(const Read& read) -> decltype(read())
    {
        try {
            return read();
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
            return {};
        }
    }

    // Under the lock, so that no layer or diff is removed before it is leased.
    void begin()
    {
        lease_content content;
        for (const digest& id : repository_->records->kept_diffs())
            content.diff(diff_id(id));
        for (const chain_id& chain : repository_->records->layers.list())
            content.layer(chain);
        engine_->lease(content);
    }

    struct documents
    {
        std::set<digest> images = {}, manifests = {};
    };
    // All documents that should exist.
    [[nodiscard]] documents listed() const
    {
        const store& records = *repository_->records;
        documents out;
        for (const tag_record& tag : records.tags([](const error&) {})) {
            out.images.insert(tag.image);
            for (const auto& id : {tag.manifest, tag.index})
                if (id)
                    out.manifests.insert(*id);
        }
        for (const digest& id : records.images())
            out.images.insert(id);
        for (const digest& id : records.manifests.list())
            out.manifests.insert(id);
        return out;
    }

    void find_documents(const stop_flag& stop)
    {
        const store& records = *repository_->records;
        const documents all = listed();
        for (const digest& id : all.images) {
            stop.throw_if_stopped();
            if (!is_whole(id, [&] { return records.image(id); }))
                damaged_.images.insert(id);
            if (auto config = sources_.config(id))
                images_.push_back(std::move(*config));
        }
        for (const digest& id : all.manifests) {
            stop.throw_if_stopped();
            if (!is_whole(id, [&] { return records.manifests.find(id); }))
                damaged_.manifests.insert(id);
        }
    }

    template <class Read>
    [[nodiscard]] static bool is_whole(const digest& id, const Read& read)
    {
        const auto text = read_or_nothing(read);
        return text && digest::of(*text, id.algorithm()) == id;
    }

    // Under the lock of the roots, so that an image or document that was removed meanwhile is not restored.
    void mend_documents()
    {
        const store& records = *repository_->records;
        const documents all = listed();
        for (const digest& id : damaged_.images)
            if (const auto text = sources_.document(id); text && all.images.contains(id))
                records.image_files.put_again(engine_->staging(), id, *text, repository_->sync);
        for (const digest& id : damaged_.manifests)
            if (const auto text = sources_.document(id); text && all.manifests.contains(id))
                records.manifests.put_again(engine_->staging(), id, *text, repository_->sync);
    }

    // Finds the diffs that are missing or damaged, and the sources that have them.
    void find_diffs(const stop_flag& stop)
    {
        const store& records = *repository_->records;
        std::set<diff_id> all;
        for (const image_config& image : images_)
            all.insert(image.diff_ids().begin(), image.diff_ids().end());
        for (const chain_id& chain : records.layers.list())
            if (const auto layer = read_or_nothing([&] { return records.layers.find(chain); }))
                all.insert(layer->diff);
        for (const digest& id : records.kept_diffs())
            all.emplace(id);
        for (const diff_id& diff : all) {
            stop.throw_if_stopped();
            if (!is_believed(diff))
                wanted_.insert(diff);
        }
        sources_.find_layers(wanted_);
    }

    [[nodiscard]] bool is_believed(const diff_id& diff) const
    {
        return read_or_nothing([&] { return repository_->storage.contains(diff); });
    }

    static asio::awaitable<void> mend_diffs(pointer self)
    {
        auto group = new_shared<task_group>(co_await asio::this_coro::executor);
        for (const diff_id& diff : self->wanted_)
            group->add(mend_diff(self, diff));
        co_await task_group::join(std::move(group));
        co_await layer_engine<Storage>::publish_layers(self->engine_);
    }

    static asio::awaitable<void> mend_diff(pointer self, diff_id diff)
    {
        auto claim = [self, diff](const stop_flag&) { return self->repository_->records->claims.try_share(diff); };
        auto held = co_await run_on(self->engine_->pool(), std::move(claim));
        for (const repair_sources::layer* from : self->sources_.layers(diff)) {
            std::optional<error> failed;
            try {
                const auto permit = co_await self->engine_->permits(from->is_file).acquire();
                auto begin = [self, from](const stop_flag&) { return self->engine_->begin(from->facts, "diff-" + random_id()); };
                const auto begun = co_await run_on(self->engine_->pool(), std::move(begin));
                auto open = [from](const stop_flag&) { return from->open(); };
                const layer_source bytes = co_await run_on(self->engine_->pool(), std::move(open));
                co_await layer_engine<Storage>::unpack(self->engine_->pool(), begun, bytes, nullptr);
                self->engine_->finished().add(diff, std::move(begun->writer), std::move(*begun->record), std::move(held));
                co_return;
            } catch (const error& failure) {
                failed = failure;
            }
            // A damaged or unreadable source: try the next one.
            if (!is_damage(*failed) && (failed->at() != stage::source || failed->code() == asio::error::operation_aborted ||
                                        failed->code() == boost::system::errc::too_many_files_open))
                throw *failed;
            self->not_mended(diff.string(), from->name + ": " + failed->what());
        }
        self->not_mended(diff.string(), "neither a kept blob nor the source has it");
    }

    // Notes why an object was not repaired; the first reason counts.
    void not_mended(const std::string& object, std::string why) { why_.try_emplace(object, std::move(why)); }

    void mend_layers_and_blobs(const stop_flag& stop)
    {
        repository_->sync_published();
        for (const auto& [diff, record] : engine_->published()) {
            mended_.insert(diff.string());
            why_.erase(diff.string());
        }
        for (const image_config& image : images_) {
            stop.throw_if_stopped();
            for (const auto& [chain, layer] : chain_of(image.diff_ids()))
                mend_layer(chain, layer);
        }
        for (const finding& one : before_.findings) {
            stop.throw_if_stopped();
            if (one.kind == finding_kind::blob_changed)
                mend_blob(digest::parse(one.object), stop);
            if constexpr (mountable_storage<Storage>)
                if (one.kind == finding_kind::correction_missing)
                    mend_correction(chain_id(digest::parse(one.object)));
        }
    }

    // Writes the record of a layer again, as an image's config describes it.
    void mend_layer(const chain_id& chain, const layer_record& wanted)
    {
        const store& records = *repository_->records;
        const auto found = read_or_nothing([&] { return records.layers.find(chain); });
        if (const auto known = why_.find(wanted.diff.string()); known != why_.end())
            not_mended(chain.string(), known->second);
        if (found && found->diff == wanted.diff && found->parent == wanted.parent)
            return;
        if (is_believed(wanted.diff) || repository_->is_damaged(wanted.diff))
            records.layers.put_again(engine_->staging(), chain, wanted, repository_->sync);
    }

    void mend_blob(const digest& id, const stop_flag& stop)
    {
        const std::string name = "blob-" + random_id();
        const auto written = sources_.write_blob(id, engine_->staging(), name, stop);
        if (!written)
            return sources_.has_blob(id) ? not_mended(id.string(), "the source can only stream it") : void();
        if (!*written)
            return not_mended(id.string(), "the source has other content for it");
        make_record_last(engine_->staging(), name);
        repository_->records->blobs.replace(engine_->staging(), name, id, repository_->sync);
        mended_.insert(id.string());
    }

    void mend_correction(const chain_id& top)
        requires mountable_storage<Storage>
    {
        const auto stack = read_or_nothing([&] { return repository_->stack_of(top); });
        if (!stack.empty())
            mount_table(repository_->records).remake_correction(top, stack);
    }

    std::shared_ptr<state> repository_;
    check_report before_;
    repair_sources sources_;
    std::shared_ptr<layer_engine<Storage>> engine_ = new_shared<layer_engine<Storage>>(repository_);
    documents damaged_;
    std::vector<image_config> images_; // with intact configs
    std::set<diff_id> wanted_;
    std::set<std::string> mended_;           // diffs and blobs
    std::map<std::string, std::string> why_; // why other objects are not
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

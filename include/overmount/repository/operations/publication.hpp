#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_PUBLICATION_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_PUBLICATION_HPP

#include <overmount/importer/importer.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/work_scope.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/task_group.hpp>

#include <algorithm>
#include <ctime>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// A time as RFC 3339 text, in seconds.
OVERMOUNT_LAZY [[nodiscard]] inline std::string timestamp_of(std::time_t seconds)
{
    std::tm parts{};
    if (::gmtime_r(&seconds, &parts) == nullptr)
        throw error::from_errno(EOVERFLOW).operation("gmtime");
    char text[32];
    return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}
OVERMOUNT_LAZY [[nodiscard]] inline std::string timestamp_now() { return timestamp_of(std::time(nullptr)); }

// Completes the names that a user gave to full references. Throws `invalid_reference`.
OVERMOUNT_LAZY [[nodiscard]] inline std::vector<std::string> full_names(const std::vector<std::string>& names)
{
    std::vector<std::string> out;
    for (const std::string& name : names)
        out.push_back(reference::parse(name).with_default_tag().string());
    return out;
}

// The last step of every operation that adds something: makes all that the result refers to durable, publishes the layers, and then,
// by one rename, the images with their tags.
//
// First, `add_image`, `add_chain` and `write` write the new records as drafts into the operation's staging directory. Then the
// operation unpacks and publishes diffs; the single sync for those also syncs the drafts. Then comes `run`.
template <storage_policy Storage>
class publication
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<publication>;

    publication(std::shared_ptr<state> owner, std::shared_ptr<work_scope> scope)
        : repository_(std::move(owner)), scope_(std::move(scope))
    {}

    // Adds to a lease all that an image consists of; it is leased before any of it is written.
    static void lease_image(lease_content& lease, const found_image& image)
    {
        lease_chain(lease, image.config.diff_ids());
        lease.image(image.config.id());
        for (const auto& text : {image.manifest, image.index})
            if (text)
                lease.manifest(digest::of(*text));
    }
    static void lease_chain(lease_content& lease, const std::vector<diff_id>& diffs)
    {
        for (const auto& [chain, layer] : chain_of(diffs))
            lease.layer(chain).diff(layer.diff);
    }

    // Adds an image with its full names, and with its config and manifest as blobs if `keeps_documents`. Runs on a worker thread,
    // while the operation's scope is open.
    void add_image(const found_image& image, const std::vector<std::string>& names, bool keeps_documents)
    {
        begin();
        const digest& id = image.config.id();
        add_chain(image.config.diff_ids(), is_durable(image.config));
        const auto put = [this](const std::optional<std::string>& text) -> std::optional<digest> {
            if (!text)
                return std::nullopt;
            const digest of = digest::of(*text);
            repository_->records->manifests.add(*first_, of, *text);
            return of;
        };
        const std::optional<digest> index = put(image.index), manifest = put(image.manifest);
        if (keeps_documents) {
            // Add the manifest last: if its blob exists, all blobs of the image do.
            repository_->records->blobs.add(*first_, id, image.config.bytes());
            repository_->records->blobs.add(*first_, digest::of(*image.manifest), *image.manifest);
        }
        root_.images.push_back({id, image.config.bytes(), repository_->sync != durability::none});
        for (const std::string& name : names)
            root_.tags.push_back({name, id, manifest, image.source, timestamp_now(), index});
    }
    // Adds the layers of a chain without an image, by their diffs, lowest first.
    // \param complete the existing records and diffs of the chain are known to be durable
    void add_chain(const std::vector<diff_id>& diffs, bool complete = false)
    {
        begin();
        const auto layers = chain_of(diffs);
        count_ += layers.size();
        for (const auto& [chain, layer] : layers) {
            if (!added_.insert(chain).second)
                continue;
            if (!complete || !repository_->records->layers.find(chain))
                repository_->records->layers.add(*first_, chain, layer);
            if (!complete)
                relied_on_.insert(layer.diff);
        }
        if (!layers.empty())
            tops_.push_back({layers.back().first, {diffs.rbegin(), diffs.rend()}});
    }

    // Writes drafts of all that was added. The operation's next sync of the file system includes them; it then calls `synced`.
    void write()
    {
        begin();
        if (root_.images.empty() && root_.tags.empty())
            return;
        const store& records = *repository_->records;
        commit_.emplace(scope_->staging(), repository_->sync);
        places_.emplace(scope_->staging(), repository_->sync);
        name_ = import_records::new_name();
        commit_->add(records.imports.directory(), name_, root_.text(), existing::keep);
        for (const import_record::image& one : root_.images)
            if (records.image_files.add(*places_, one.id, one.config, one.durable))
                drafted_.insert(one.id);
        for (const tag_record& tag : root_.tags)
            records.tag_files.add(*places_, tag);
    }
    void synced() noexcept { synced_ = true; }

    // Sets a function that is called under the lock, immediately before the images are committed. If it throws, nothing is committed.
    void before_commit(std::function<void()> check) { before_commit_ = std::move(check); }

    // \param known the records of the diffs that this operation has unpacked and published
    static asio::awaitable<void> run(pointer self, const known_records* known)
    {
        constexpr std::size_t many = 16;
        const worker_pool& pool = self->repository_->pool;
        auto publish = [self, known](const stop_flag& stop) { self->publish_layers(*known, stop); };
        auto find = [self, known](const stop_flag& stop) { self->find_corrections(*known, stop); };
        if (self->count_ >= many) { // enough for two workers
            auto group = new_shared<task_group>(co_await asio::this_coro::executor);
            group->add(run_on(pool, std::move(publish)));
            group->add(run_on(pool, std::move(find)));
            co_await task_group::join(std::move(group));
        } else {
            auto both = [self, known](const stop_flag& stop) {
                self->publish_layers(*known, stop);
                self->find_corrections(*known, stop);
            };
            co_await run_on(pool, std::move(both));
        }
        auto correct = [self](const stop_flag&) { self->write_corrections(); };
        co_await run_on(pool, std::move(correct));
        if (self->commit_ || self->before_commit_) {
            auto commit = [self](const stop_flag&) { self->commit(); };
            co_await run_locked(self->repository_, lock_kind::roots, std::move(commit));
        }
    }

private:
    struct top
    {
        chain_id chain;
        std::vector<diff_id> diffs; // topmost first
    };

    void begin()
    {
        if (!first_)
            first_.emplace(scope_->staging(), repository_->sync);
    }

    // Makes drafts and diffs durable, then publishes the layers and documents.
    void publish_layers(const known_records& known, const stop_flag& stop)
    {
        if (!synced_) {
            first_->sync_drafts();
            if (commit_) {
                commit_->sync_drafts();
                places_->sync_drafts();
            }
        }
        if (repository_->sync != durability::none) {
            for (const diff_id& diff : relied_on_)
                if (!known.contains(diff) && !repository_->is_damaged(diff) && repository_->storage.record(diff).sync == durability::none)
                    repository_->storage.make_durable(diff, scope_->staging(), [&stop] { stop.throw_if_stopped(); });
            if (!relied_on_.empty() || !known.empty())
                repository_->sync_published();
        }
        first_->publish();
    }

    // Computes the corrections from published diffs; the layers need not be published yet.
    void find_corrections(const known_records& known, const stop_flag& stop)
    {
        for (const top& one : tops_) {
            stop.throw_if_stopped();
            corrections_.push_back(repository_->find_correction(one.chain, one.diffs, known));
        }
    }

    void write_corrections()
    {
        for (std::size_t i = 0; i < corrections_.size(); ++i)
            if (corrections_[i])
                repository_->write_correction(tops_[i].chain, *corrections_[i], scope_->staging());
        corrections_.clear();
    }

    // The commit point is one rename. From then on, readers of the import record see its images and tags as if they were in place.
    // They are applied immediately afterwards.
    void commit()
    {
        if (before_commit_)
            before_commit_();
        if (!commit_)
            return;
        const store& records = *repository_->records;
        try {
            commit_->publish();
        } catch (const error&) {
            records.imports.remove(name_); // the lock is held: no other operation has relied on it
            throw;
        }
        try {
            apply();
        } catch (const error&) {
            // The import is committed and visible all the same. The next operation that takes the lock applies it.
        }
    }

    void apply()
    {
        const store& records = *repository_->records;
        records.imports.announce();
        // No draft was written for an image that existed then; it may have been removed since.
        record_batch late(scope_->staging(), repository_->sync);
        for (const import_record::image& one : root_.images)
            if (!drafted_.contains(one.id))
                records.image_files.add(late, one.id, one.config, one.durable);
        late.sync_drafts();
        late.publish();
        places_->publish();
        records.imports.remove(name_);
    }

    // Whether the image exists, is marked as durable, and its diffs still are: a lost diff may have been imported again without
    // durability.
    [[nodiscard]] bool is_durable(const image_config& config) const
    {
        if (!repository_->records->image_files.is_durable(config.id()))
            return false;
        const auto is_durable_diff = [this](const diff_id& diff) {
            return repository_->storage.contains(diff) && repository_->storage.record(diff).sync != durability::none;
        };
        return std::all_of(config.diff_ids().begin(), config.diff_ids().end(), is_durable_diff);
    }

    std::shared_ptr<state> repository_;
    std::shared_ptr<work_scope> scope_;
    std::size_t count_ = 0; // of layers
    std::set<diff_id> relied_on_;
    std::set<chain_id> added_;
    std::set<digest> drafted_; // images that did not exist
    std::vector<top> tops_;
    std::vector<std::unique_ptr<found_correction>> corrections_;
    import_record root_;
    std::string name_; // of the import record
    std::optional<record_batch> first_, commit_, places_; // layers and documents; the import record; images and tags
    bool synced_ = false;
    std::function<void()> before_commit_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

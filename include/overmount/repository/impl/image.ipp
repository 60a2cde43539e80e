// The operations on an image and on its mounts.
#ifndef OVERMOUNT_REPOSITORY_IMPL_IMAGE_IPP
#define OVERMOUNT_REPOSITORY_IMPL_IMAGE_IPP

#include <overmount/image.hpp>
#include <overmount/layer.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/commit_run.hpp>
#include <overmount/repository/operations/compose.hpp>
#include <overmount/repository/operations/export_run.hpp>
#include <overmount/repository/operations/merged_view.hpp>
#include <overmount/repository/records/check_records.hpp>
#include <overmount/repository/records/mount_table.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/tar/lookup.hpp>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <functional>
#include <optional>
#include <string_view>

namespace overmount::OVERMOUNT_ABI {

namespace detail {

// The mounts of all repositories have a source that begins with it: see `mount_record::source`.
inline constexpr std::string_view mount_source_prefix = "overmount-";

} // namespace detail

template <storage_policy Storage, optional_mount_policy Mount>
basic_mount<Storage, Mount>::ownership::~ownership()
{
    if (over)
        return;
    try {
        if constexpr (mount_policy<Mount>)
            Mount::unmount(record.identity, record.target, true);
        // An upper directory that may have been written is never deleted here. A read-only mount has only a few empty directories.
        detail::mount_table table(owner->records);
        if (!seen || (!record.writable && table.state(record, detail::alive_by<Mount>()) == mount_state::stopped))
            table.remove(record);
    } catch (const std::exception&) {
        // A destructor cannot report it; the record stays.
    }
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_image<Storage, Mount>>
basic_mount<Storage, Mount>::commit_record(std::shared_ptr<state> owner, mount_record record, commit_options options)
{
    auto config = co_await detail::commit_upper(owner, std::move(record), std::move(options));
    co_return basic_image<Storage, Mount>(std::move(owner), std::move(config));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_mount<Storage, Mount>::unmount_owned(std::shared_ptr<ownership> mine)
{
    if (mine->over)
        throw error(errc::mount_not_found).at(stage::mount).detail("the object no longer owns the mount");
    co_await unmount_record(mine->owner, mine->record);
    mine->over = true;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::optional<bool> basic_mount<Storage, Mount>::try_unmount(state& owner, const mount_record& record,
                                                             std::chrono::steady_clock::time_point patience)
{
    const auto refuse = [&record](error failure, const char* words) {
        return failure.at(stage::mount).operation("umount").subject(record.target).detail(words);
    };
    detail::mount_table table(owner.records);
    const auto lock = table.try_lock(record);
    if (!lock)
        return std::nullopt;
    const auto now = table.find(record.id);
    if (!now || now->identity != record.identity)
        throw refuse(error(errc::mount_not_found), "the mount was removed or mounted again in the meantime");
    const detail::alive_test alive = detail::alive_by<Mount>();
    bool unmounted = false;
    try {
        Mount::unmount(record.identity, record.target, false);
        unmounted = true;
    } catch (const error& failure) {
        if (failure.code() == boost::system::errc::device_or_resource_busy && std::chrono::steady_clock::now() < patience)
            return std::nullopt;
        if (failure.code() != errc::mount_not_found)
            throw;
    }
    if (!unmounted && table.state(record, alive) == mount_state::alive)
        throw refuse(error(errc::mount_not_found),
                     "the mount is not visible here: another mount namespace holds it, or a process that used it when it was detached");
    if (unmounted && table.uses_upper(record, alive))
        throw refuse(error::from_errno(EBUSY),
                     "it was unmounted here, but another mount namespace or a process still holds it: what was written is kept");
    table.erase(table.discard(record));
    return true;
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_mount<Storage, Mount>::unmount_record(std::shared_ptr<state> owner, mount_record record)
{
    // Another process that looks at the mount, as processes with this repository do, keeps it busy for a moment.
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    std::function<std::optional<bool>(const detail::stop_flag&)> work = [owner, record, patience](const detail::stop_flag&) {
        return try_unmount(*owner, record, patience);
    };
    co_await detail::retry_until(owner->pool, std::move(work), owner->lock_limit, record.target, detail::when_cancelled::go_on);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<mount_state> basic_mount<Storage, Mount>::state_of(std::shared_ptr<state> owner, mount_record record)
{
    auto work = [owner, record](const detail::stop_flag&) {
        return detail::mount_table(owner->records).state(record, detail::alive_by<Mount>());
    };
    co_return co_await detail::run_on(owner->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
void basic_mount<Storage, Mount>::require_no_mount(const std::string& target)
    requires mount_policy<Mount>
{
    const auto there = Mount::identify(target);
    if (there && there->source.starts_with(detail::mount_source_prefix))
        throw error(errc::mount_exists).at(stage::mount).subject(target);
}

template <storage_policy Storage, optional_mount_policy Mount>
basic_mount<Storage, Mount> basic_mount<Storage, Mount>::made(std::shared_ptr<state> owner, mount_record record, bool seen)
    requires mount_policy<Mount>
{
    // Owned from here on, so that a failure leaves no mount. If it cannot be unmounted, its record and upper directory stay.
    basic_mount out(owner, record);
    out.owned_->seen = seen;
    // If the target could not be locked, another mount may be on top of it by now.
    if (Mount::identify(record.target) != record.identity)
        throw error(errc::mount_covered).at(stage::mount).subject(record.target).detail("another mount was just made on top of it");
    detail::mount_table(owner->records).update(record, owner->sync);
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::optional<basic_mount<Storage, Mount>>
basic_mount<Storage, Mount>::try_mount_again(std::shared_ptr<state> owner, const std::string& id, const mount_options& options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    detail::mount_table table(owner->records);
    auto record = table.find(id);
    if (!record)
        throw error(errc::mount_not_found).at(stage::mount).subject(id);
    const auto lock = table.try_lock(*record);
    if (!lock)
        return std::nullopt;
    record = table.find(id);
    if (!record || !record->writable)
        throw error(errc::mount_read_only).at(stage::mount).subject(id).detail("it keeps no changes: mount the image instead");
    if (table.state(*record, detail::alive_by<Mount>()) == mount_state::alive)
        throw error(errc::mount_exists).at(stage::mount).subject(record->target).detail("the mount is alive");
    const bool incomplete = detail::mount_table::may_be_incomplete(*record);
    if (incomplete && !options.accepts_not_durable())
        throw error(errc::mount_not_durable).at(stage::mount).subject(record->target);
    const mount_record before = *record;
    if (!options.target().empty())
        record->target = detail::resolved_target(options.target());
    const auto place = detail::try_lock_target(record->target);
    if (!place)
        return std::nullopt;
    require_no_mount(record->target);
    const auto diffs = owner->diffs_of(record->subject());
    if (!options.accepts_damaged())
        owner->require_undamaged(diffs);
    const auto top = diffs.empty() ? std::nullopt : std::optional(chain_id::of(diffs));
    const auto stack = top ? owner->stack_of(*top) : std::vector<detail::stacked_layer>();
    table.prepare_again(*record, before.is_volatile && !incomplete);
    record->is_volatile = owner->sync == durability::none;
    record->lowers = detail::directory_names(stack);
    table.begin(*record, owner->sync);
    try {
        record->identity = Mount::mount(table.spec_of(*record, top, stack), record->target);
    } catch (...) {
        table.update(before, owner->sync);
        throw;
    }
    return made(owner, *record, true);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_mount<Storage, Mount>>
basic_mount<Storage, Mount>::mount_again(std::shared_ptr<state> owner, std::string id, mount_options options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    std::function<std::optional<basic_mount>(const detail::stop_flag&)> work = [owner, id, options](const detail::stop_flag&) {
        auto lock = owner->records->lock(detail::lock_kind::roots);
        return lock.try_take() ? try_mount_again(owner, id, options) : std::nullopt;
    };
    co_return co_await detail::retry_until(owner->pool, std::move(work), owner->lock_limit, id);
}

template <storage_policy Storage, optional_mount_policy Mount>
std::optional<basic_mount<Storage, Mount>>
basic_mount<Storage, Mount>::try_mount(std::shared_ptr<state> owner, const mount_subject& what, const mount_options& options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    const auto diffs = owner->diffs_of(what);
    if (!options.accepts_damaged())
        owner->require_undamaged(diffs);
    const std::string target = options.target().empty() ? std::string() : detail::resolved_target(options.target());
    std::optional<unique_fd> place(std::in_place);
    if (!target.empty()) {
        place = detail::try_lock_target(target);
        if (!place)
            return std::nullopt;
        require_no_mount(target);
    }
    detail::mount_table table(owner->records);
    const auto top = diffs.empty() ? std::nullopt : std::optional(chain_id::of(diffs));
    const auto stack = top ? owner->stack_of(*top) : std::vector<detail::stacked_layer>();
    table.require_stackable(top, stack);
    mount_record record = table.add(what, target, options.writable(), detail::directory_names(stack), owner->sync);
    try {
        if (record.writable)
            table.prepare_upper(record, top, stack);
        record.identity = Mount::mount(table.spec_of(record, top, stack), record.target);
    } catch (...) {
        table.remove(record); // nothing was mounted
        throw;
    }
    return made(owner, record, false);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_mount<Storage, Mount>>
basic_mount<Storage, Mount>::mount_now(std::shared_ptr<state> owner, mount_subject what, mount_options options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    std::function<std::optional<basic_mount>(const detail::stop_flag&)> work = [owner, what, options](const detail::stop_flag&) {
        // Locked until the mount is recorded: the record keeps its layers from being collected.
        auto lock = owner->records->lock(detail::lock_kind::roots);
        // The result owns the mount: if the context is destroyed, it is detached.
        return lock.try_take() ? try_mount(owner, what, options) : std::nullopt;
    };
    auto made = co_await detail::retry_until(owner->pool, std::move(work), owner->lock_limit, owner->records->base().string());
    made.owned_->seen = true;
    co_return std::move(made);
}

template <storage_policy Storage, optional_mount_policy Mount>
basic_image<Storage, Mount>::basic_image(std::shared_ptr<state> owner, image_config config)
    : state_(std::move(owner)), config_(detail::new_shared<const image_config>(std::move(config)))
{
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<basic_layer<Storage, Mount>> basic_image<Storage, Mount>::layers() const
{
    std::vector<basic_layer<Storage, Mount>> out;
    for (auto& [chain, record] : detail::chain_of(config().diff_ids()))
        out.push_back(basic_layer<Storage, Mount>(state_, chain, std::move(record)));
    std::reverse(out.begin(), out.end());
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::optional<basic_layer<Storage, Mount>> basic_image<Storage, Mount>::top() const
{
    const auto chain = detail::chain_of(config().diff_ids());
    if (chain.empty())
        return std::nullopt;
    return basic_layer<Storage, Mount>(state_, chain.back().first, chain.back().second);
}

template <storage_policy Storage, optional_mount_policy Mount>
std::uint64_t basic_image<Storage, Mount>::size() const
{
    std::uint64_t out = 0;
    for (const diff_id& diff : config().diff_ids())
        out += state_->storage.record(diff).bytes;
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<tag_record> basic_image<Storage, Mount>::tags(const std::function<void(const error&)>& damaged) const
{
    auto out = valid().state_->records->tags(damaged);
    std::erase_if(out, [this](const tag_record& tag) { return tag.image != id(); });
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::optional<overmount::manifest> basic_image<Storage, Mount>::manifest() const
{
    static_cast<void>(valid());
    const auto read = [this](const digest& name, bool is_tagged) -> std::optional<overmount::manifest> {
        auto text = state_->records->manifests.find(name);
        if (!text)
            return std::nullopt;
        if (digest::of(*text, name.algorithm()) != name) {
            if (is_tagged)
                throw error(errc::digest_mismatch).at(stage::repository).subject("manifests/" + detail::digest_name(name) + ".json");
            return std::nullopt; // damaged: it is unknown which image it belonged to
        }
        try {
            auto found = overmount::manifest::parse(std::move(*text), state_->bounds);
            return found.config().digest() == id() ? std::optional(std::move(found)) : std::nullopt;
        } catch (const error& failure) {
            if (is_tagged || !detail::is_damage(failure))
                throw;
            return std::nullopt; // an index
        }
    };
    for (const tag_record& tag : tags())
        if (tag.manifest)
            if (auto found = read(*tag.manifest, true))
                return found;
    for (const digest& name : state_->records->manifests.list())
        if (auto found = read(name, false))
            return found;
    return std::nullopt;
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_image<Storage, Mount>::list_files(basic_image self, listener hears)
    requires packable_storage<Storage>
{
    auto work = [self, hears](const detail::stop_flag& stop) {
        const auto layers = self.layers(); // topmost first
        const auto view = detail::load_view(*self.state_, self.config_->diff_ids(), stop);
        const detail::view_entries entries(view.tree);
        for (const auto& one : view.tree.items()) {
            stop.throw_if_stopped();
            if (!detail::view_entries::is_implied_root(one))
                hears(entries.of(one), layers[layers.size() - 1 - one.second->layer]);
        }
    };
    co_await detail::run_on(self.state_->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<asset_stream> basic_image<Storage, Mount>::open_file(basic_image self, std::string path)
    requires packable_storage<Storage>
{
    const auto executor = co_await asio::this_coro::executor;
    auto work = [self, path, executor](const detail::stop_flag& stop) {
        const auto& owner = self.state_;
        const auto view = detail::load_view(*owner, self.config_->diff_ids(), stop);
        const auto& [where, what] = detail::lookup(view.tree.items(), path);
        if (what->entry.type != tar::entry_type::regular)
            throw error(errc::not_a_regular_file).at(stage::storage).entry(path);
        return asset_stream(detail::open_merged(owner, view, where, *what, stop), owner->pool, executor, what->entry.size);
    };
    co_return co_await detail::run_on(self.state_->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_layer<Storage, Mount>> basic_image<Storage, Mount>::find_layer(basic_image self, std::string path)
    requires packable_storage<Storage>
{
    auto work = [self, path](const detail::stop_flag& stop) {
        const auto view = detail::load_view(*self.state_, self.config_->diff_ids(), stop);
        const auto& found = detail::lookup(view.tree.items(), path, detail::last_link::keep);
        const auto layers = self.layers(); // topmost first
        if (layers.empty())
            throw error(errc::entry_not_found).at(stage::storage).entry(path);
        return layers[layers.size() - 1 - found.second->layer];
    };
    co_return co_await detail::run_on(self.state_->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<std::shared_ptr<const image_config>>
basic_image<Storage, Mount>::configs_of(const std::vector<basic_image>& images)
{
    std::vector<std::shared_ptr<const image_config>> out;
    for (const basic_image& one : images)
        out.push_back(detail::valid(one.config_));
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_mount<Storage, Mount>>
basic_image<Storage, Mount>::mount_image(std::shared_ptr<state> owner, std::shared_ptr<const image_config> config,
                                         mount_options options)
    requires mountable_storage<Storage> && mount_policy<Mount>
{
    // What is written in the mount needs the layers below it, also after a power cut.
    auto is_durable = [owner, config, options](const detail::stop_flag&) {
        return options.accepts_damaged() || owner->sync == durability::none || owner->records->image_files.is_durable(config->id());
    };
    bool durable = true;
    if (options.writable())
        durable = co_await detail::run_on(owner->pool, std::move(is_durable));
    if (!durable)
        co_await detail::make_image_durable(owner, *config);
    mount_subject what(config->id());
    co_return co_await basic_mount<Storage, Mount>::mount_now(std::move(owner), std::move(what), std::move(options));
}

template <packable_storage Storage>
asio::awaitable<void> detail::export_all(std::shared_ptr<repository_state<Storage>> owner,
                                         std::vector<std::shared_ptr<const image_config>> images, any_exporter target,
                                         export_options options)
{
    auto run = detail::new_shared<export_run<Storage>>(owner, std::move(images), std::move(options));
    auto work = run->run(run, std::move(target));
    auto clean = [run](const stop_flag&) { run->clean(); };
    co_await run_then_clean(owner->pool, std::move(work), std::move(clean));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

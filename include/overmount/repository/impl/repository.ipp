// The operations of a repository.
#ifndef OVERMOUNT_REPOSITORY_IMPL_REPOSITORY_IPP
#define OVERMOUNT_REPOSITORY_IMPL_REPOSITORY_IPP

#include <overmount/repository.hpp>
#include <overmount/repository/locked.hpp>
#include <overmount/repository/operations/asset_read.hpp>
#include <overmount/repository/operations/compose.hpp>
#include <overmount/repository/operations/confirm_tag.hpp>
#include <overmount/repository/operations/create_run.hpp>
#include <overmount/repository/operations/import_run.hpp>
#include <overmount/repository/operations/merged_view.hpp>
#include <overmount/repository/operations/stream_run.hpp>
#include <overmount/repository/records/find.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/task_group.hpp>

#include <algorithm>
#include <iterator>

namespace overmount::OVERMOUNT_ABI {

// Defined outside the class: with separate compilation repository/instances.hpp instantiates them, but compilers would still compile
// inline members in each translation unit.

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_repository<Storage, Mount>>
basic_repository<Storage, Mount>::open_at(std::filesystem::path base, repository_options options)
{
    const auto executor = co_await asio::this_coro::executor;
    worker_pool pool = options.pool() ? *options.pool()
                                      : worker_pool::of(asio::query(executor, asio::execution::context));
    auto work = [base, options, pool](const detail::stop_flag&) {
        auto records = detail::new_shared<detail::store>(base, Storage::form(), options.open_to_others(), options.owner());
        return detail::new_shared<state>(std::move(records), options, pool);
    };
    auto opened = co_await detail::run_on(pool, std::move(work));
    // Completes the imports that dead processes committed.
    auto apply = [opened](const detail::stop_flag&) { opened->records->apply_abandoned(); };
    co_await detail::run_on(pool, std::move(apply));
    co_return basic_repository(std::move(opened));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::finish_import(std::shared_ptr<state> owner, std::vector<found_image> found, import_options options)
{
    auto engine = detail::new_shared<detail::layer_engine<Storage>>(owner);
    auto run = detail::new_shared<detail::import_run<Storage>>(std::move(engine), std::move(found), std::move(options));
    auto work = run->run(run);
    co_return co_await finish_run(std::move(owner), std::move(run), std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::import_stream(std::shared_ptr<state> owner, archive_stream source, import_options options)
{
    auto feed = detail::new_shared<detail::stream_feed>();
    auto bytes = std::make_unique<detail::stream_source>(feed);
    auto run = detail::new_shared<detail::stream_run<Storage>>(owner, std::move(bytes), source.name(), std::move(options));
    auto work = run->run(run, std::move(feed), source.bytes());
    co_return co_await finish_run(std::move(owner), std::move(run), std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::import_file(std::shared_ptr<state> owner, archive_file source, import_options options)
{
    static_cast<void>(detail::full_names(options.tags())); // throws before anything is read
    auto open = [source](const detail::stop_flag&) -> std::unique_ptr<detail::archive_bytes> {
        return std::make_unique<detail::file_source>(detail::whole_file(source.path()));
    };
    auto bytes = co_await detail::run_on(owner->pool, std::move(open));
    auto run = detail::new_shared<detail::stream_run<Storage>>(owner, std::move(bytes), source.name(), std::move(options));
    auto work = run->run(run, nullptr, std::nullopt);
    co_return co_await finish_run(std::move(owner), std::move(run), std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
template <class Run>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::finish_run(std::shared_ptr<state> owner, std::shared_ptr<Run> run, asio::awaitable<void> work)
{
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(clean));
    std::vector<image> out;
    for (const found_image& made : run->images())
        out.push_back(image(owner, made.config));
    co_return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
template <class Run>
asio::awaitable<basic_layer<Storage, Mount>>
basic_repository<Storage, Mount>::finish_layer(std::shared_ptr<state> owner, std::shared_ptr<Run> run, asio::awaitable<void> work)
{
    // The record is read before the operation's lease ends.
    auto made = detail::new_shared<std::optional<layer_type>>();
    auto look = [owner, run, made](const detail::stop_flag&) {
        try {
            if (run->is_made())
                made->emplace(layer_type::load(owner, run->chain()));
        } catch (...) {
            run->clean();
            throw;
        }
        run->clean();
    };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(look));
    co_return std::move(**made);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_image<Storage, Mount>>
basic_repository<Storage, Mount>::compose(std::shared_ptr<state> owner, image_config config, std::optional<chain_id> top, import_options options)
{
    auto run = detail::new_shared<detail::compose_run<Storage>>(owner, std::move(config), std::move(top), std::move(options));
    auto work = run->run(run);
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(clean));
    co_return image(std::move(owner), run->made());
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<change>>
basic_repository<Storage, Mount>::changes_between(std::shared_ptr<state> owner, std::optional<chain_id> from, std::optional<chain_id> to)
    requires packable_storage<Storage>
{
    auto work = [owner, from, to](const detail::stop_flag& stop) {
        return detail::view_comparison<Storage>(owner, from, to, stop).run();
    };
    co_return co_await detail::run_on(owner->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<asset_stream>
basic_repository<Storage, Mount>::flatten_chain(std::shared_ptr<state> owner, std::optional<chain_id> top)
    requires packable_storage<Storage>
{
    const auto executor = co_await asio::this_coro::executor;
    auto work = [owner, top, executor](const detail::stop_flag& stop) {
        auto tar = detail::new_shared<detail::flat_tar<Storage>>(owner, detail::load_view(*owner, top, stop));
        const std::uint64_t size = tar->size(stop);
        return asset_stream(std::move(tar), owner->pool, executor, size);
    };
    co_return co_await detail::run_on(owner->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_image<Storage, Mount>>
basic_repository<Storage, Mount>::squash_image(std::shared_ptr<state> owner, image from, import_options options)
    requires packable_storage<Storage>
{
    auto names = detail::full_names(options.tags());
    auto run = detail::new_shared<detail::create_run<Storage>>(owner, std::nullopt);
    auto made = detail::new_shared<std::optional<image_config>>();
    auto add_image = [owner, made, names, config = from.config()](detail::publication<Storage>& end, const diff_id& diff) {
        history_entry step;
        step.created = config.created();
        step.created_by = "overmount squash";
        step.comment = std::to_string(config.diff_ids().size()) + " layers as one";
        image_config_edit edit(config);
        edit.replace_layers({diff}, {step});
        made->emplace(edit.build(owner->bounds));
        end.add_image(found_image{**made, {}}, names, false);
    };
    run->when_made(std::move(add_image));
    auto open = [owner, top = std::optional<chain_id>(from.top())]() -> std::unique_ptr<detail::layer_input> {
        auto view = detail::load_view(*owner, top, detail::stop_flag());
        return std::make_unique<detail::asset_input>(detail::new_shared<detail::flat_tar<Storage>>(owner, std::move(view)));
    };
    auto work = run->from_input(run, std::move(open));
    static_cast<void>(co_await finish_layer(owner, std::move(run), std::move(work)));
    co_return image(std::move(owner), std::move(**made));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::import_all(std::shared_ptr<state> owner, any_importer source, import_options options)
{
    static_cast<void>(detail::full_names(options.tags())); // throws before anything is read
    import_context context(owner->pool, owner->bounds, options.wanted());
    auto found = co_await source.discover(std::move(context));
    co_return co_await finish_import(std::move(owner), std::move(found), std::move(options));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_image<Storage, Mount>>
basic_repository<Storage, Mount>::import_one(std::shared_ptr<state> owner, any_importer source, import_options options)
{
    static_cast<void>(detail::full_names(options.tags())); // throws before anything is read
    import_context context(owner->pool, owner->bounds, options.wanted());
    auto found = co_await source.discover(std::move(context));
    if (found.size() != 1)
        throw error(errc::ambiguous_image).at(stage::manifest);
    auto made = co_await finish_import(std::move(owner), std::move(found), std::move(options));
    co_return std::move(made.front());
}

template <storage_policy Storage, optional_mount_policy Mount>
std::optional<basic_image<Storage, Mount>> basic_repository<Storage, Mount>::load_image(const digest& id) const
{
    try {
        if (auto config = opened()->records->image(id))
            return image(opened(), image_config::parse(std::move(*config), opened()->bounds));
    } catch (error& failure) {
        if (failure.subject().empty())
            failure.subject("images/" + detail::digest_path(id) + "/config.json");
        throw;
    }
    return std::nullopt;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<basic_image<Storage, Mount>>
basic_repository<Storage, Mount>::images(const std::function<void(const error&)>& damaged) const
{
    std::vector<image> out;
    for (const digest& id : opened()->records->images(damaged)) {
        try {
            if (auto found = load_image(id))
                out.push_back(std::move(*found));
        } catch (const error& failure) {
            if (!detail::is_damage(failure))
                throw;
            if (damaged)
                damaged(failure);
        }
    }
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
basic_image<Storage, Mount> basic_repository<Storage, Mount>::find_image(std::string_view name) const
{
    if (const auto id = detail::find_image_id(*opened()->records, name))
        if (auto found = load_image(*id))
            return std::move(*found);
    throw error(errc::image_not_found).at(stage::repository).subject(name);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_repository<Storage, Mount>::remove_one(std::shared_ptr<state> owner, digest id)
{
    auto work = [owner, id](const detail::stop_flag&) {
        const detail::store& records = *owner->records;
        if (!detail::exists(records.base_fd(), "images/" + detail::digest_path(id))) // a damaged image can be removed as well
            throw error(errc::image_not_found).at(stage::repository).subject(id.string());
        if (const auto mounted = detail::mount_table(owner->records).in_use(id, detail::alive_by<Mount>()))
            throw error(errc::image_in_use).at(stage::repository).subject(mounted->target).detail("unmount it first");
        if (owner->sync != durability::none)
            records.imports.make_removals_last(); // otherwise an import record may reappear after a crash and restore the image
        // A tag that cannot be read because of an I/O error may name this image; a damaged tag names none.
        const auto refuse = [](const error& failure) {
            if (failure.code() != errc::corrupt_repository)
                throw failure;
        };
        // Tags first, so that no tag is left without its image.
        for (const tag_record& tag : records.tags(refuse))
            if (tag.image == id)
                records.tag_files.remove(records.staging.fd(), tag.name, owner->sync);
        records.image_files.remove(records.staging.fd(), id, owner->sync);
    };
    co_await detail::run_locked(owner, detail::lock_kind::roots, std::move(work));
    co_await asio::this_coro::throw_if_cancelled(false); // the removal is done
    co_await sweep(std::move(owner));
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<tag_record> basic_repository<Storage, Mount>::tags(const std::function<void(const error&)>& damaged) const
{
    return opened()->records->tags(damaged);
}

template <storage_policy Storage, optional_mount_policy Mount>
tag_record basic_repository<Storage, Mount>::tag(std::string_view name) const
{
    const std::string full = reference::parse(name).with_default_tag().string();
    if (auto found = opened()->records->tag(full))
        return *found;
    throw error(errc::tag_not_found).at(stage::repository).subject(full);
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<bool> basic_repository<Storage, Mount>::confirm(std::shared_ptr<state> owner, std::string name)
{
    const std::string full = reference::parse(name).with_default_tag().string();
    auto work = [owner, full](const detail::stop_flag&) { return detail::confirm_tag(*owner, full); };
    if (owner->sync == durability::none || owner->records->read_only())
        co_return co_await detail::run_on(owner->pool, std::move(work));
    co_return co_await detail::run_locked(owner, detail::lock_kind::roots, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_repository<Storage, Mount>::tag_image(std::shared_ptr<state> owner, std::string name, digest id)
{
    static_cast<void>(reference::parse(name)); // throws before anything is read
    auto look = [owner, id](const detail::stop_flag&) {
        auto config = owner->records->image(id);
        if (!config)
            throw error(errc::image_not_found).at(stage::repository).subject(id.string());
        return image_config::parse(std::move(*config), owner->bounds);
    };
    image_config config = co_await detail::run_on(owner->pool, std::move(look));
    import_options options;
    options.tag(std::move(name));
    co_await detail::name_image(std::move(owner), std::move(config), std::move(options));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void> basic_repository<Storage, Mount>::untag(std::shared_ptr<state> owner, std::string name)
{
    const std::string full = reference::parse(name).with_default_tag().string();
    auto work = [owner, full](const detail::stop_flag&) {
        const detail::store& records = *owner->records;
        if (owner->sync != durability::none)
            records.imports.make_removals_last(); // otherwise an import record may reappear after a crash and restore the tag
        if (!records.tag_files.remove(records.staging.fd(), full, owner->sync))
            throw error(errc::tag_not_found).at(stage::repository).subject(full);
    };
    co_await detail::run_locked(owner, detail::lock_kind::roots, std::move(work));
    co_await asio::this_coro::throw_if_cancelled(false); // the removal is done
    co_await sweep(std::move(owner));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_layer<Storage, Mount>>
basic_repository<Storage, Mount>::create_layer(std::filesystem::path file, std::optional<chain_id> parent) const
{
    auto run = detail::new_shared<detail::create_run<Storage>>(opened(), std::move(parent));
    auto work = run->from_file(run, std::move(file));
    return detail::operation(finish_layer(opened(), std::move(run), std::move(work)));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_layer<Storage, Mount>>
basic_repository<Storage, Mount>::create_layer(byte_stream stream, std::optional<chain_id> parent) const
{
    auto run = detail::new_shared<detail::create_run<Storage>>(opened(), std::move(parent));
    auto work = run->from_stream(run, std::move(stream));
    return detail::operation(finish_layer(opened(), std::move(run), std::move(work)));
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<basic_layer<Storage, Mount>>
basic_repository<Storage, Mount>::layers(const std::function<void(const error&)>& damaged) const
{
    std::vector<layer_type> out;
    for (const chain_id& chain : opened()->records->layers.list()) {
        try {
            if (auto found = opened()->records->layers.find_own(chain))
                out.push_back(layer_type(opened(), chain, std::move(*found)));
        } catch (const error& failure) {
            if (!detail::is_damage(failure))
                throw;
            if (damaged)
                damaged(failure);
        }
    }
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
basic_layer<Storage, Mount> basic_repository<Storage, Mount>::find_layer(std::string_view name) const
{
    if (const auto found = detail::unique_prefix(opened()->records->layers.list(), name, errc::ambiguous_layer_id))
        return layer(*found);
    throw error(errc::layer_not_found).at(stage::repository).subject(name);
}

template <storage_policy Storage, optional_mount_policy Mount>
bool basic_repository<Storage, Mount>::contains(const chain_id& chain) const
{
    return opened()->records->layers.find_own(chain).has_value();
}

template <storage_policy Storage, optional_mount_policy Mount>
bool basic_repository<Storage, Mount>::contains(const diff_id& id) const
{
    return opened()->storage.contains(id);
}

template <storage_policy Storage, optional_mount_policy Mount>
diff_record basic_repository<Storage, Mount>::diff(const diff_id& id) const
{
    return opened()->storage.record(id);
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<mount_record>
basic_repository<Storage, Mount>::mounts(const std::function<void(const error&)>& damaged) const
{
    std::vector<error> found;
    auto out = detail::mount_table(opened()->records).list(&found);
    for (const error& failure : found)
        if (damaged)
            damaged(failure);
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
std::vector<mount_record> basic_repository<Storage, Mount>::find_mounts(const std::string& name) const
    requires mount_policy<Mount>
{
    std::vector<mount_record> out;
    const auto all = mounts();
    const auto take = [&](auto wanted) {
        if (out.empty())
            std::copy_if(all.begin(), all.end(), std::back_inserter(out), wanted);
    };
    try {
        const std::string target = detail::resolved_target(name);
        std::error_code none;
        if (const auto there = std::filesystem::is_directory(target, none) ? Mount::identify(target) : std::nullopt)
            take([&](const mount_record& one) { return one.source() == there->source; });
        take([&](const mount_record& one) { return one.target == target; });
    } catch (const error&) { // the name is not a mount target
    }
    if (name.size() >= 4)
        take([&](const mount_record& one) { return one.id.starts_with(name); });
    return out;
}

template <storage_policy Storage, optional_mount_policy Mount>
const std::filesystem::path& basic_repository<Storage, Mount>::base() const
{
    return opened()->records->base();
}

template <storage_policy Storage, optional_mount_policy Mount>
const limits& basic_repository<Storage, Mount>::bounds() const
{
    return opened()->bounds;
}

template <storage_policy Storage, optional_mount_policy Mount>
void basic_repository<Storage, Mount>::require_diff(const diff_id& id) const
{
    if (!opened()->is_there(id))
        throw error(errc::layer_not_found).at(stage::storage).layer(id.string());
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_layer<Storage, Mount>>
basic_repository<Storage, Mount>::import_tar(std::shared_ptr<state> owner, diff_id id,
                                             std::function<std::shared_ptr<asset_stream::source>()> open,
                                             std::optional<chain_id> parent)
{
    auto run = detail::new_shared<detail::create_run<Storage>>(owner, std::move(parent), id);
    auto input = [open = std::move(open)]() -> std::unique_ptr<detail::layer_input> {
        return std::make_unique<detail::asset_input>(open());
    };
    auto work = run->from_input(run, std::move(input));
    return finish_layer(std::move(owner), std::move(run), std::move(work));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

// The operations of a repository.
#ifndef OVERMOUNT_IMPL_REPOSITORY_IPP
#define OVERMOUNT_IMPL_REPOSITORY_IPP

#include <overmount/repository.hpp>

namespace overmount::inline OVERMOUNT_ABI {

// Not in the class: with separate compilation a program leaves them to repository/instances.hpp, and compilers compile
// anew what is inline.

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<void>
basic_repository<Storage, Mount>::sweep(std::shared_ptr<state> opened)
{
    auto work = [opened](const detail::stop_flag&) {
        opened->records->sweep();
        if constexpr (mountable_storage<Storage>)
            detail::mount_table(opened->records).sweep();
    };
    co_await detail::run_on(opened->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_repository<Storage, Mount>>
basic_repository<Storage, Mount>::open_at(std::filesystem::path base, repository_options options)
{
    const auto executor = co_await asio::this_coro::executor;
    worker_pool pool = options.pool() ? *options.pool()
                                      : worker_pool::of(asio::query(executor, asio::execution::context));
    auto work = [base, options, pool](const detail::stop_flag&) {
        auto records = std::make_shared<detail::store>(base, Storage::form(), options.open_to_others());
        return std::make_shared<state>(std::move(records), options, pool);
    };
    auto opened = co_await detail::run_on(pool, std::move(work));
    // Nobody waits for the sweep; what it cannot remove, the next one will try.
    asio::co_spawn(executor, sweep(opened), [](std::exception_ptr) {});
    co_return basic_repository(std::move(opened));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::finish_import(std::shared_ptr<state> owner, std::vector<found_image> found, import_options options)
{
    auto run = std::make_shared<detail::import_run<Storage>>(owner, std::move(found), std::move(options));
    auto work = run->run(run);
    co_return co_await finish_run(std::move(owner), std::move(run), std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::import_stream(std::shared_ptr<state> owner, archive_stream source, import_options options)
{
    auto feed = std::make_shared<detail::stream_feed>();
    auto run = std::make_shared<detail::stream_run<Storage, detail::stream_input>>(
        owner, detail::stream_input(feed), source.name(), std::move(options));
    auto work = run->run(run, std::move(feed), source.bytes());
    co_return co_await finish_run(std::move(owner), std::move(run), std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::import_file(std::shared_ptr<state> owner, archive_file source, import_options options)
{
    auto open = [source](const detail::stop_flag&) { return detail::whole_file(source.path()); };
    detail::file_source archive(co_await detail::run_on(owner->pool, std::move(open)));
    auto run = std::make_shared<detail::stream_run<Storage, detail::file_source>>(
        owner, std::move(archive), source.name(), std::move(options));
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
asio::awaitable<chain_id>
basic_repository<Storage, Mount>::finish_layer(std::shared_ptr<create_run> run, asio::awaitable<void> work)
{
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(run->pool(), std::move(work), std::move(clean));
    co_return run->chain();
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<check_report>
basic_repository<Storage, Mount>::check_all(std::shared_ptr<state> owner, check_options options)
{
    auto run = std::make_shared<detail::check_run<Storage>>(owner, options);
    auto work = run->run(run);
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(clean));
    co_return run->report();
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_image<Storage, Mount>>
basic_repository<Storage, Mount>::compose(std::shared_ptr<state> owner, image_config config, std::optional<chain_id> top, import_options options)
{
    auto work = [owner, config, top, options](const detail::stop_flag&) {
        return detail::compose_image(*owner, config, top, options);
    };
    image_config made = co_await detail::run_on(owner->pool, std::move(work));
    co_return image(std::move(owner), std::move(made));
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
    auto work = [owner, top](const detail::stop_flag& stop) {
        auto tar = std::make_shared<detail::flat_tar<Storage>>(owner, detail::load_view(*owner, top, stop));
        const std::uint64_t size = tar->size(stop);
        return asset_stream(std::move(tar), owner->pool, size);
    };
    co_return co_await detail::run_on(owner->pool, std::move(work));
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<basic_image<Storage, Mount>>
basic_repository<Storage, Mount>::squash_image(std::shared_ptr<state> owner, image from, import_options options)
    requires packable_storage<Storage>
{
    auto run = std::make_shared<create_run>(owner, std::nullopt);
    auto open = [owner, top = top_of(from)] {
        auto view = detail::load_view(*owner, top, detail::stop_flag());
        return detail::asset_input(std::make_shared<detail::flat_tar<Storage>>(owner, std::move(view)));
    };
    auto work = create_run::from_input(run, std::move(open));
    const chain_id made = co_await finish_layer(std::move(run), std::move(work));
    history_entry step;
    step.created = from.config().created();
    step.created_by = "overmount squash";
    step.comment = std::to_string(from.config().diff_ids().size()) + " layers as one";
    image_config_edit edit(from.config());
    edit.replace_layers({owner->records->chain(made).front().diff}, {step});
    co_return co_await compose(owner, edit.build(owner->bounds), made, std::move(options));
}

template <storage_policy Storage, optional_mount_policy Mount>
template <class Importer>
asio::awaitable<std::vector<basic_image<Storage, Mount>>>
basic_repository<Storage, Mount>::import_all(std::shared_ptr<state> owner, Importer source, import_options options)
{
    import_context context(owner->pool, owner->bounds, options.wanted());
    auto found = co_await source.discover(std::move(context));
    co_return co_await finish_import(std::move(owner), std::move(found), std::move(options));
}

template <storage_policy Storage, optional_mount_policy Mount>
template <class Importer>
asio::awaitable<basic_image<Storage, Mount>>
basic_repository<Storage, Mount>::import_one(std::shared_ptr<state> owner, Importer source, import_options options)
{
    import_context context(owner->pool, owner->bounds, options.wanted());
    auto found = co_await source.discover(std::move(context));
    if (found.size() != 1)
        throw error(errc::ambiguous_image).at(stage::manifest);
    auto made = co_await finish_import(std::move(owner), std::move(found), std::move(options));
    co_return std::move(made.front());
}

} // namespace overmount::inline OVERMOUNT_ABI

#endif

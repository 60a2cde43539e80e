#ifndef OVERMOUNT_REPOSITORY_IMPL_INTEGRITY_IPP
#define OVERMOUNT_REPOSITORY_IMPL_INTEGRITY_IPP

#include <overmount/repository/integrity.hpp>
#include <overmount/repository/operations/check_run.hpp>
#include <overmount/repository/operations/repair_run.hpp>
#include <overmount/runtime/new_shared.hpp>

namespace overmount::OVERMOUNT_ABI {

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<check_report>
basic_integrity<Storage, Mount>::check_all(std::shared_ptr<state> owner, check_options options)
{
    auto run = detail::new_shared<detail::check_run<Storage>>(owner, options);
    auto work = run->run(run);
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(clean));
    co_return run->report();
}

template <storage_policy Storage, optional_mount_policy Mount>
asio::awaitable<check_report>
basic_integrity<Storage, Mount>::repair_from(std::shared_ptr<state> owner, std::optional<any_importer> source,
                                             repair_options options)
{
    std::vector<found_image> given;
    if (source) {
        import_context context(owner->pool, owner->bounds, options.wanted());
        given = co_await source->discover(std::move(context));
    }
    check_report before = co_await check_all(owner, check_options());
    if (before.ok())
        co_return before;
    auto run = detail::new_shared<detail::repair_run<Storage>>(owner, std::move(before), std::move(given));
    auto work = run->run(run);
    auto clean = [run](const detail::stop_flag&) { run->clean(); };
    co_await detail::run_then_clean(owner->pool, std::move(work), std::move(clean));
    check_report after = co_await check_all(owner, check_options().contents(false));
    co_return run->report(std::move(after));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

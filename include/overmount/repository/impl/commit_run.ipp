#ifndef OVERMOUNT_REPOSITORY_IMPL_COMMIT_RUN_IPP
#define OVERMOUNT_REPOSITORY_IMPL_COMMIT_RUN_IPP

#include <overmount/repository/operations/commit_run.hpp>
#include <overmount/runtime/new_shared.hpp>

namespace overmount::OVERMOUNT_ABI::detail {

template <mountable_storage Storage>
asio::awaitable<image_config> commit_upper(std::shared_ptr<repository_state<Storage>> owner, mount_record record,
                                           commit_options options)
{
    if (!owner)
        throw error(errc::mount_not_found).at(stage::mount).subject(record.target).detail("the object no longer owns a mount");
    auto run = new_shared<commit_run<Storage>>(owner, std::move(record), std::move(options));
    auto work = commit_run<Storage>::run(run);
    auto clean = [run](const stop_flag&) { run->clean(); };
    co_await run_then_clean(owner->pool, std::move(work), std::move(clean));
    co_return run->made();
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

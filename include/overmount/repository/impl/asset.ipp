// The operations on the stored content of a diff.
#ifndef OVERMOUNT_REPOSITORY_IMPL_ASSET_IPP
#define OVERMOUNT_REPOSITORY_IMPL_ASSET_IPP

#include <overmount/asset.hpp>
#include <overmount/core/hasher.hpp>
#include <overmount/repository/operations/asset_read.hpp>
#include <overmount/runtime/new_shared.hpp>

namespace overmount::OVERMOUNT_ABI {

template <packable_storage Storage>
std::uint64_t basic_asset<Storage>::size() const
{
    return detail::valid(state_)->storage.record(*id_).bytes;
}

template <packable_storage Storage>
std::function<std::shared_ptr<asset_stream::source>()> basic_asset<Storage>::opener() const
{
    return [owner = detail::valid(state_), id = *id_] {
        return detail::new_shared<detail::stored_tar<asset_stream::source, Storage>>(owner, id);
    };
}

template <packable_storage Storage>
asio::awaitable<void> basic_asset<Storage>::list_all(std::shared_ptr<state> owner, diff_id id, entry_visitor visitor)
{
    auto work = [owner, id, visitor](const detail::stop_flag& stop) {
        auto entries = detail::entries_of(owner->storage, id);
        for (tar::located_entry one; entries.next(one);) {
            stop.throw_if_stopped();
            visitor(one.entry);
        }
    };
    co_await detail::run_on(owner->pool, std::move(work));
}

template <packable_storage Storage>
asio::awaitable<asset_stream> basic_asset<Storage>::open_path(std::shared_ptr<state> owner, diff_id id, std::string path)
{
    const auto executor = co_await asio::this_coro::executor;
    auto work = [owner, id, path, executor](const detail::stop_flag& stop) {
        const tar::located_entry file = detail::find_file(owner->storage, id, path, stop);
        return asset_stream(detail::open_file(owner, id, file, stop), owner->pool, executor, file.entry.size);
    };
    co_return co_await detail::run_on(owner->pool, std::move(work));
}

template <packable_storage Storage>
asio::awaitable<asset_stream> basic_asset<Storage>::pack_all(std::shared_ptr<state> owner, diff_id id)
{
    const auto executor = co_await asio::this_coro::executor;
    auto work = [owner, id, executor](const detail::stop_flag&) {
        return asset_stream(detail::new_shared<detail::stored_tar<asset_stream::source, Storage>>(owner, id), owner->pool, executor,
                            owner->storage.record(id).bytes);
    };
    co_return co_await detail::run_on(owner->pool, std::move(work));
}

template <packable_storage Storage>
asio::awaitable<void> basic_asset<Storage>::verify_digest(std::shared_ptr<state> owner, diff_id id)
{
    auto work = [owner, id](const detail::stop_flag& stop) {
        auto reader = owner->storage.pack(id);
        detail::hasher sum(id.value().algorithm());
        constexpr std::size_t size = 256 << 10;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
        while (const std::size_t count = reader.read({buffer.get(), size})) {
            stop.throw_if_stopped();
            sum.update({buffer.get(), count});
        }
        if (const digest found = sum.finish(); found != id.value())
            throw error(errc::invalid_asset).at(stage::storage).layer(id.string()).detail("the digest of its bytes is " + found.string());
    };
    co_await detail::run_on(owner->pool, std::move(work));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

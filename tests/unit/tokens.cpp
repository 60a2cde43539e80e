// Completion tokens: `asio::co_spawn` runs an operation and completes any token.
#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>

#include <fstream>
#include <optional>
#include <type_traits>

namespace asio = boost::asio;
namespace om = overmount;

namespace {

// co_spawn makes an empty result if the operation failed.
template <class Operation>
inline constexpr bool has_empty_result = false;
template <class Result>
inline constexpr bool has_empty_result<asio::awaitable<Result>> =
    std::is_void_v<Result> || (std::is_default_constructible_v<Result> && std::is_move_constructible_v<Result>);

template <class Repository>
void check_results(Repository on, om::byte_stream bytes, const om::docker_archive& archive, const om::digest& id)
{
    const om::chain_id chain(id);
#define HAS_EMPTY_RESULT(...) STATIC_REQUIRE(has_empty_result<decltype(__VA_ARGS__)>)
    HAS_EMPTY_RESULT(Repository::open(""));
    HAS_EMPTY_RESULT(on.import_images(archive));
    HAS_EMPTY_RESULT(on.import_images(om::archive_stream(bytes)));
    HAS_EMPTY_RESULT(on.import_images(om::archive_file("")));
    HAS_EMPTY_RESULT(on.import_image(archive));
    HAS_EMPTY_RESULT(on.export_images({}, om::docker_archive_target("")));
    HAS_EMPTY_RESULT(on.remove_image(id));
    HAS_EMPTY_RESULT(on.confirm_tag(""));
    HAS_EMPTY_RESULT(on.add_tag("", id));
    HAS_EMPTY_RESULT(on.remove_tag(""));
    HAS_EMPTY_RESULT(on.create_layer(""));
    HAS_EMPTY_RESULT(on.create_layer(bytes));
    HAS_EMPTY_RESULT(on.create_image(std::declval<om::image_config>()));
    HAS_EMPTY_RESULT(on.diff(std::nullopt, std::nullopt));
    HAS_EMPTY_RESULT(on.flatten(std::nullopt));
    HAS_EMPTY_RESULT(on.squash({}));
    HAS_EMPTY_RESULT(on.import_asset(on.asset(om::diff_id(id))));
    HAS_EMPTY_RESULT(on.check());
    HAS_EMPTY_RESULT(on.repair());
    HAS_EMPTY_RESULT(on.repair(archive));
    HAS_EMPTY_RESULT(on.collect());
    HAS_EMPTY_RESULT(on.remove_layer(chain));
    HAS_EMPTY_RESULT(on.remove_unused_images());
    HAS_EMPTY_RESULT(on.usage());
    HAS_EMPTY_RESULT(on.lease({}));
    HAS_EMPTY_RESULT(on.lease_for("", {}, {}));
    HAS_EMPTY_RESULT(on.end_lease(""));
    const auto image = on.find_image("");
    HAS_EMPTY_RESULT(image.files([](auto&&...) {}));
    HAS_EMPTY_RESULT(image.open(""));
    HAS_EMPTY_RESULT(image.layer_of(""));
    HAS_EMPTY_RESULT(image.export_to(om::docker_archive_target("")));
    const auto layer = on.layer(chain);
    HAS_EMPTY_RESULT(layer.files([](auto&&...) {}));
    HAS_EMPTY_RESULT(layer.open(""));
    HAS_EMPTY_RESULT(layer.pack());
    HAS_EMPTY_RESULT(layer.verify());
    HAS_EMPTY_RESULT(layer.remove());
    HAS_EMPTY_RESULT(layer.asset().list([](auto&&...) {}));
    HAS_EMPTY_RESULT(layer.asset().open(""));
    HAS_EMPTY_RESULT(layer.asset().pack());
    HAS_EMPTY_RESULT(layer.asset().verify());
    HAS_EMPTY_RESULT(bytes.read_some({}));
    HAS_EMPTY_RESULT(om::asset_stream().read_some({}));
    HAS_EMPTY_RESULT(std::declval<const om::layer_source&>().open());
    if constexpr (std::is_same_v<Repository, om::repository>) {
        const om::mount_record record("", id, "", false);
        HAS_EMPTY_RESULT(on.state_of(record));
        HAS_EMPTY_RESULT(on.mount_again(record));
        HAS_EMPTY_RESULT(on.unmount(record));
        HAS_EMPTY_RESULT(on.commit(record));
        HAS_EMPTY_RESULT(image.mount());
        HAS_EMPTY_RESULT(layer.mount());
        HAS_EMPTY_RESULT(om::mount().unmount());
        HAS_EMPTY_RESULT(om::mount().commit());
    }
}
// Instantiated, never called.
[[maybe_unused]] constexpr auto* on_disk = &check_results<om::repository>;
[[maybe_unused]] constexpr auto* as_tars = &check_results<om::virtual_repository>;

// Operations whose result is a handle; one of them fails.
struct place
{
    place() { std::ofstream(scratch / "tar", std::ios::binary) << om::test::tar_writer().file("f", "text").finish(); }
    [[nodiscard]] asio::awaitable<om::layer> make() const { return repository.create_layer(scratch / "tar"); }
    [[nodiscard]] asio::awaitable<om::layer> fail() const { return repository.create_layer(scratch / "none"); }

    om::test::scratch_directory scratch;
    asio::io_context context;
    om::repository repository = opened();

private:
    [[nodiscard]] om::repository opened()
    {
        auto options = om::repository_options().workers(1).sync(om::durability::none);
        auto out = asio::co_spawn(context, om::repository::open(scratch / "repository", options), asio::use_future);
        context.run();
        context.restart();
        return out.get();
    }
};

bool is_not_found(const std::exception_ptr& failure)
{
    try {
        std::rethrow_exception(failure);
    } catch (const om::error& problem) {
        return problem.code() == om::condition::not_found;
    }
}

} // namespace

TEST_CASE("an operation completes a future")
{
    place at;
    auto made = asio::co_spawn(at.context, at.make(), asio::use_future);
    auto failed = asio::co_spawn(at.context, at.fail(), asio::use_future);
    at.context.run();
    CHECK(made.get() == at.repository.layers().front());
    CHECK_THROWS_AS(failed.get(), om::error);
}

TEST_CASE("an operation completes a callback, which gets an empty handle after a failure")
{
    place at;
    om::layer made, failed = {};
    std::exception_ptr failure, none;
    const auto keep = [](std::exception_ptr* why, om::layer* what) {
        return [why, what](std::exception_ptr ended, om::layer result) {
            *why = std::move(ended);
            *what = std::move(result);
        };
    };
    asio::co_spawn(at.context, at.make(), keep(&none, &made));
    asio::co_spawn(at.context, at.fail(), keep(&failure, &failed));
    at.context.run();
    CHECK(made);
    CHECK_FALSE(none);
    CHECK_FALSE(failed);
    CHECK(is_not_found(failure));
}

TEST_CASE("a deferred operation runs only when it is started")
{
    place at;
    auto later = asio::co_spawn(at.context, at.make(), asio::deferred);
    at.context.run();
    CHECK(at.repository.layers().empty());
    at.context.restart();
    auto made = std::move(later)(asio::use_future);
    at.context.run();
    CHECK(made.get());
}

TEST_CASE("a detached operation runs to its end without a handler")
{
    place at;
    asio::co_spawn(at.context, at.make(), asio::detached);
    asio::co_spawn(at.context, at.fail(), asio::detached);
    at.context.run();
    CHECK(at.repository.layers().size() == 1);
}

namespace {

asio::awaitable<void> await_tuples(const place* at, bool* over)
{
    const auto executor = co_await asio::this_coro::executor;
    const auto token = asio::as_tuple(asio::use_awaitable);
    const auto [none, layer] = co_await asio::co_spawn(executor, at->make(), token);
    CHECK_FALSE(none);
    CHECK(layer);
    const auto [failure, empty] = co_await asio::co_spawn(executor, at->fail(), token);
    CHECK(is_not_found(failure));
    CHECK_FALSE(empty);
    *over = true;
}

} // namespace

TEST_CASE("an operation returns its failure and its result as a tuple")
{
    place at;
    bool over = false;
    asio::co_spawn(at.context, await_tuples(&at, &over), asio::detached);
    at.context.run();
    CHECK(over);
}

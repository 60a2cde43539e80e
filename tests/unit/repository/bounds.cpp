// Limits: how many descriptors an operation on a repository holds open, and whose repository it may open.
#include <overmount/own_policies.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/repository.hpp>

#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace om = overmount;

using om::chain_id;
using om::diff_id;
using om::digest;
using om::errc;
using om::detail::mount_table;
using om::detail::stacked_layer;
using om::detail::store;
using om::unique_fd;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

struct opened
{
    scratch_directory scratch;
    fs::path base = scratch / "repository";
    std::shared_ptr<store> records = std::make_shared<store>(base, om::on_disk_storage::form(), false);
    mount_table table{records};
    diff_id diff{digest::of("diff")};
    chain_id top = chain_id::of(diff);

    void put_top() const
    {
        om::detail::record_batch batch(records->staging.fd(), om::durability::none);
        records->layers.add(batch, top, {diff, std::nullopt});
        batch.publish();
    }
    // A layer that is opened each time it is requested.
    [[nodiscard]] stacked_layer layer(const std::string& name, bool with_root = true) const
    {
        const fs::path directory = base / "diffs" / name;
        fs::create_directories(directory);
        om::diff_record record;
        record.implied_root = !with_root;
        const auto open = [name, directory] {
            return om::lower_directory{
                std::make_shared<unique_fd>(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), name};
        };
        return {{nullptr, name}, record, open};
    }
};

} // namespace

TEST_CASE("a repository of another user opens only if its owner is named")
{
    if (::geteuid() != 0)
        OVERMOUNT_SKIP("giving a directory away needs root");
    const opened one;
    const auto failure = [&](const om::repository_options& options) -> std::string {
        try {
            static_cast<void>(::test::get(om::repository::open(one.base, options)));
        } catch (const om::error& found) {
            CHECK(found.code() == errc::repository_of_another_user);
            CHECK(found.code() == om::condition::permission_denied);
            CHECK(found.at() == om::stage::repository);
            return found.what();
        }
        return {};
    };
    using options = om::repository_options;
    CHECK(failure(options()).empty());
    CHECK(failure(options().owner(0)).empty());
    REQUIRE(::chown(one.base.c_str(), 1000, 1000) == 0);
    CHECK(failure(options()).find("work as user 1000") != std::string::npos);
    CHECK(failure(options().open_to_others(true)).find("--repo-owner 1000") != std::string::npos);
    CHECK(failure(options().owner(1001)).find("its owner is user 1000, not 1001") != std::string::npos);
    CHECK(failure(options().owner(1000)).empty());
    // The mode counts as well.
    REQUIRE(::chmod(one.base.c_str(), 0755) == 0);
    CHECK_THROWS_AS(::test::get(om::repository::open(one.base, options().owner(1000))), om::error);
}

TEST_CASE("with few descriptors, only a few of many layers stay open, and all can be used")
{
    const opened one;
    om::detail::repository_state<om::on_disk_storage> state(
        one.records, om::repository_options().sync(om::durability::none), om::worker_pool(1));
    std::vector<diff_id> diffs;
    REQUIRE(::mkdir((one.scratch / "work").c_str(), 0700) == 0);
    const unique_fd work(::open((one.scratch / "work").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (int i = 0; i < 40; ++i) {
        const auto tar = tar_writer().directory("").file("f" + std::to_string(i), "text").finish();
        diffs.emplace_back(digest::of(tar));
        auto writer = state.storage.create(om::write_context(work.get(), std::to_string(i), om::limits()));
        writer.write(std::as_bytes(std::span(tar)));
        static_cast<void>(writer.finish());
        REQUIRE(state.publish(writer, diffs.back()) == decltype(state)::published::ours);
    }
    const auto check = [&](std::ptrdiff_t open) {
        auto stack = state.stack_of(diffs, {});
        REQUIRE(stack.size() == diffs.size());
        CHECK(std::count_if(stack.begin(), stack.end(), [](const auto& layer) { return layer.directory.fd != nullptr; }) ==
              open);
        for (std::size_t i = 0; i < stack.size(); ++i) {
            CHECK(om::detail::exists(stack[i].fd()->get(), "f" + std::to_string(i)));
            stack[i].close();
            CHECK(stack[i].directory.fd == nullptr);
            CHECK(om::detail::exists(stack[i].fd()->get(), "f" + std::to_string(i)));
        }
    };
    {
        const om::test::descriptor_limit usual(1024);
        check(40);
    }
    const om::test::descriptor_limit few(200);
    check(16);
}

TEST_CASE("layers are passed to the kernel one after the other, each with its own descriptor")
{
    opened one;
    one.put_top();
    const std::vector<stacked_layer> stack{one.layer("a"), one.layer("b")};
    const auto spec = one.table.spec_of(one.table.add(digest::of("image"), "", false, {}, om::durability::none), one.top, stack);
    REQUIRE(spec.lowers().size() == 2);
    for (const auto& lower : spec.lowers()) {
        CHECK(lower.fd() == -1);
        struct stat by_path, by_descriptor;
        REQUIRE(::stat(lower.path().c_str(), &by_path) == 0);
        REQUIRE(::fstat(lower.opened().fd(), &by_descriptor) == 0);
        CHECK(by_path.st_ino == by_descriptor.st_ino);
    }
}

TEST_CASE("a stack with more layers than overlayfs allows is refused, and one layer fewer is allowed with a correction")
{
    opened one;
    one.put_top();
    const auto stackable = [&](std::size_t count, bool with_root) {
        std::vector<stacked_layer> stack(count, one.layer("a"));
        stack.front() = one.layer("b", with_root);
        try {
            one.table.require_stackable(one.top, stack);
        } catch (const om::error& failure) {
            CHECK(failure.code() == errc::too_many_layers);
            return false;
        }
        return true;
    };
    CHECK_NOTHROW(one.table.require_stackable(std::nullopt, {}));
    SECTION("without a correction")
    {
        CHECK(stackable(500, true));
        CHECK_FALSE(stackable(501, true));
    }
    SECTION("with a correction")
    {
        CHECK(stackable(499, false));
        CHECK_FALSE(stackable(500, false));
        CHECK_FALSE(stackable(501, false));
    }
}

TEST_CASE("a cancellation that Asio reports between two waits is an error of the library")
{
    const auto between = []() -> asio::awaitable<void> {
        throw boost::system::system_error(asio::error::operation_aborted);
        co_return;
    };
    auto clean = [](const om::detail::stop_flag&) {};
    try {
        ::test::run_coroutine(om::detail::run_then_clean(om::worker_pool(1), between(), std::move(clean)));
        FAIL("it went on");
    } catch (const om::error& failure) {
        CHECK(failure.code() == asio::error::operation_aborted);
    }
}

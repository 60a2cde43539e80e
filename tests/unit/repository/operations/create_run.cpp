#include <overmount/posix/fs.hpp>
#include <overmount/repository.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"
#include "support/tree.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/connect_pipe.hpp>
#include <boost/asio/readable_pipe.hpp>
#include <boost/asio/writable_pipe.hpp>
#include <boost/asio/write.hpp>

#include <fstream>

namespace asio = boost::asio;
using ::test::get;
using ::test::store_result;
namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::list_tree;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

om::repository open(const scratch_directory& scratch, om::durability sync = om::durability::batch)
{
    return get(om::repository::open(scratch / "repository", om::repository_options().workers(1).sync(sync)));
}

fs::path write(const fs::path& file, const std::string& content)
{
    std::ofstream(file, std::ios::binary) << content;
    return file;
}

std::string usual()
{
    return tar_writer().directory("d").file("d/f", "text").file("big", std::string(1 << 20, 'x')).finish();
}

// Writes `bytes`, and calls a function once the reader has taken all but a pipe's capacity.
asio::awaitable<void> feed(asio::writable_pipe* pipe, std::string bytes, std::function<void()> then)
{
    co_await asio::async_write(*pipe, asio::buffer(bytes), asio::use_awaitable);
    then();
}

// Creates a layer from a pipe with `bytes`, and calls a function after them.
std::optional<om::layer> from_pipe(const om::repository& repository, const std::string& bytes, bool cancel,
                                      std::exception_ptr& failure)
{
    asio::io_context context;
    asio::readable_pipe read(context);
    asio::writable_pipe write(context);
    asio::connect_pipe(read, write);
    asio::cancellation_signal signal;
    std::optional<om::layer> made;
    std::function<void()> then = [&] { write.close(); };
    if (cancel)
        then = [&] { signal.emit(asio::cancellation_type::terminal); };
    asio::co_spawn(
        context, store_result(repository.create_layer(std::move(read)), made),
        asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr end) { failure = end; }));
    asio::co_spawn(context, feed(&write, bytes, then), [](std::exception_ptr) {});
    context.run_for(std::chrono::seconds(60));
    return made;
}

void check_nothing_left(const om::repository& repository)
{
    CHECK(repository.layers().empty());
    for (const char* part : {"diffs", "tmp", "leases", "claims"})
        CHECK(list_tree(repository.base() / part).find(" f ") == std::string::npos);
    CHECK(fs::is_empty(repository.base() / "tmp"));
}

} // namespace

TEST_CASE("a layer from a file has the chain ID of its content and its parent")
{
    const scratch_directory scratch;
    const auto repository = open(scratch);
    const auto tar = usual();
    const om::diff_id diff(om::digest::of(tar));
    const auto below = get(repository.create_layer(write(scratch / "tar", tar)));
    CHECK(below == om::chain_id::of(diff));
    const auto above = get(repository.create_layer(write(scratch / "gz", om::test::gzip(tar)), below));
    CHECK(above == om::chain_id::of(below, diff));
    CHECK(repository.layers().size() == 2);
    CHECK(repository.layer(above).parent_id() == below);
    CHECK(repository.diff(diff).entries == 3);
    CHECK(get(repository.create_layer(scratch / "tar")) == below);
    CHECK(fs::is_empty(repository.base() / "tmp"));
    CHECK(fs::is_empty(repository.base() / "leases"));
}

TEST_CASE("a layer is created from a stream")
{
    const scratch_directory scratch;
    const auto repository = open(scratch);
    std::exception_ptr failure;
    const auto made = from_pipe(repository, usual(), false, failure);
    REQUIRE(made);
    CHECK(*made == om::chain_id::of(om::diff_id(om::digest::of(usual()))));
    CHECK(fs::is_empty(repository.base() / "tmp"));
}

TEST_CASE("a stream that ends too early leaves nothing")
{
    const scratch_directory scratch;
    const auto repository = open(scratch);
    for (const std::size_t size : {0u, 3u, 700u, 300000u}) {
        std::exception_ptr failure;
        CHECK_FALSE(from_pipe(repository, usual().substr(0, size), false, failure));
        REQUIRE(failure);
        CHECK_THROWS_AS(std::rethrow_exception(failure), om::error);
        check_nothing_left(repository);
    }
}

TEST_CASE("creating a layer leaves nothing if it is cancelled while it waits for bytes")
{
    const scratch_directory scratch;
    const auto repository = open(scratch);
    std::exception_ptr failure;
    CHECK_FALSE(from_pipe(repository, usual().substr(0, 600000), true, failure));
    REQUIRE(failure);
    try {
        std::rethrow_exception(failure);
    } catch (const boost::system::system_error& ended) {
        CHECK(ended.code() == asio::error::operation_aborted);
    }
    check_nothing_left(repository);
}

TEST_CASE("creating a layer does not block other operations on the same layer while it waits for bytes")
{
    const scratch_directory scratch;
    const auto repository = open(scratch);
    const std::string tar = usual();
    const fs::path file = write(scratch / "tar", tar);
    asio::io_context context;
    asio::readable_pipe from(context);
    asio::writable_pipe to(context);
    asio::connect_pipe(from, to);
    std::optional<om::layer> made, other;
    std::exception_ptr failure;
    asio::co_spawn(context, store_result(repository.create_layer(std::move(from)), made),
                   [&](std::exception_ptr end) { failure = end; });
    const auto rest = [&] { to.close(); };
    const auto stalled = [&] { // all that was written is read, except what the pipe holds
        CHECK(fs::is_empty(repository.base() / "claims"));
        const auto start = std::chrono::steady_clock::now();
        other = get(repository.create_layer(file));
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10)); // other operations wait twice as long for a claim
        CHECK_FALSE(made);
        asio::co_spawn(context, feed(&to, tar.substr(600000), rest), [](std::exception_ptr) {});
    };
    asio::co_spawn(context, feed(&to, tar.substr(0, 600000), stalled), [](std::exception_ptr) {});
    context.run_for(std::chrono::seconds(60));
    CHECK_FALSE(failure);
    REQUIRE(made);
    CHECK(made == other);
    CHECK(repository.layers().size() == 1);
    for (const char* part : {"tmp", "claims", "leases"})
        CHECK(fs::is_empty(repository.base() / part));
}

TEST_CASE("a layer is not created on an unknown parent, or from something other than a file")
{
    const scratch_directory scratch;
    const auto repository = open(scratch);
    const auto code_of = [](auto operation) {
        try {
            static_cast<void>(get(std::move(operation)));
        } catch (const om::error& failure) {
            return failure.code();
        }
        return boost::system::error_code();
    };
    const om::chain_id stranger(om::digest::of("stranger"));
    CHECK(code_of(repository.create_layer(write(scratch / "tar", usual()), stranger)) ==
          errc::layer_not_found);
    CHECK(code_of(repository.create_layer(scratch.path())) == errc::unknown_archive_format);
    CHECK(code_of(repository.create_layer(scratch / "missing")) ==
          boost::system::errc::no_such_file_or_directory);
    check_nothing_left(repository);
}

TEST_CASE("a diff of an earlier boot that was never synced is replaced by a new one")
{
    const scratch_directory scratch;
    const auto tar = write(scratch / "tar", usual());
    const auto diff = fs::path("diffs/sha256") / om::digest::of(usual()).hex();
    const auto chain = get(open(scratch, om::durability::none).create_layer(tar));
    const auto record = scratch / "repository" / diff / "diff.json";
    std::string text;
    std::getline(std::ifstream(record), text, '\0');
    const auto boot = om::detail::boot_id();
    REQUIRE(text.find(boot) != std::string::npos);
    text.replace(text.find(boot), boot.size(), "another boot");
    write(record, text);
    fs::remove(scratch / "repository" / diff / "rootfs" / "d" / "f"); // as a power cut may leave it
    const auto repository = open(scratch);
    CHECK(get(repository.create_layer(tar)) == chain);
    CHECK(fs::exists(scratch / "repository" / diff / "rootfs" / "d" / "f"));
    CHECK(fs::is_empty(repository.base() / "tmp"));
}

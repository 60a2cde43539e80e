#include <overmount/importer/oci_layout.hpp>
#include <overmount/repository.hpp>
#include <overmount/repository/records/store.hpp>

#include "support/catch.hpp"
#include "support/found_images.hpp"
#include "support/open_descriptors.hpp"
#include "support/scripted_stream.hpp"
#include "support/tree.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include <numeric>

namespace asio = boost::asio;
using ::test::store_result;
namespace fs = std::filesystem;
namespace om = overmount;

using namespace om::test;
using om::compression;
using om::errc;
using script = scripted_stream::script;

namespace {

om::repository open(const fs::path& base, const om::limits& bounds = om::limits())
{
    std::optional<om::repository> out;
    const auto options = om::repository_options().workers(2).bounds(bounds);
    ::test::run_coroutine(store_result(om::repository::open(base, options), out));
    return *out;
}

// One import from a stream, in its own execution context.
struct stream_import
{
    stream_import(const om::repository& repository, std::string bytes, std::size_t piece = 4096)
        : what(std::make_shared<script>(std::move(bytes), piece)), repository_(repository)
    {}
    void start()
    {
        om::archive_stream source(om::byte_stream(scripted_stream(context.get_executor(), what)));
        const auto options = om::import_options().wanted({"linux", "amd64"});
        asio::co_spawn(context, store_result(repository_.import_images(std::move(source), options), images),
                       asio::bind_cancellation_slot(signal.slot(), [this](std::exception_ptr end) {
                           over = true;
                           failure = end;
                       }));
    }
    stream_import& run()
    {
        start();
        context.run_for(std::chrono::seconds(60));
        REQUIRE(over);
        return *this;
    }
    [[nodiscard]] om::error error() const
    {
        REQUIRE(failure);
        try {
            std::rethrow_exception(failure);
        } catch (const om::error& found) {
            return found;
        } catch (const boost::system::system_error& found) {
            return om::error(found.code());
        }
    }

    std::shared_ptr<script> what;
    asio::io_context context;
    asio::cancellation_signal signal;
    std::optional<std::vector<om::repository::image>> images;
    std::exception_ptr failure;
    bool over = false;

private:
    om::repository repository_;
};

// All files of a repository except its lock.
std::string files_of(const fs::path& base)
{
    std::istringstream lines(list_tree(base));
    std::string out;
    for (std::string line; std::getline(lines, line);)
        if (line.find(" d ") == std::string::npos && !line.starts_with("repository.lock "))
            out += line + "\n";
    return out;
}

// A repository that a failed import must leave unchanged.
struct untouched
{
    explicit untouched(const om::limits& bounds = om::limits())
        : repository(open(scratch / "repository", bounds)), before(files_of(repository.base()))
    {}
    void check() const
    {
        CHECK(tree_difference(before, files_of(repository.base())) == "");
        for (const char* part : {"tmp", "claims", "leases"})
            CHECK(fs::is_empty(repository.base() / part));
    }
    // Expects an error with this code, and no leftovers.
    om::error refuses(const std::string& bytes) const
    {
        auto failure = stream_import(repository, bytes).run().error();
        CHECK(std::string(failure.what()).find('\n') == std::string::npos);
        check();
        return failure;
    }

    scratch_directory scratch;
    om::repository repository;
    std::string before;
};

const image_source& image()
{
    static const image_source made{
        .layers = {{tar_writer().directory("d").file("d/a", std::string(3000, 'a')).finish()}, {small_tar("b")}},
        .tags = {"x:1"}};
    return made;
}

file_set docker_files()
{
    docker_archive_writer writer;
    writer.add(image());
    return writer.finish();
}

file_set layout_files()
{
    oci_layout_writer writer;
    writer.add(image());
    return writer.finish();
}

om::digest image_id()
{
    return om::digest::of(image().config_text());
}

// Expects exactly the image.
void check_imports(const std::string& bytes, std::size_t piece = 4096)
{
    const scratch_directory scratch;
    const auto repository = open(scratch / "repository");
    stream_import one(repository, bytes, piece);
    one.run();
    if (one.failure)
        FAIL(one.error().what());
    REQUIRE(one.images->size() == 1);
    CHECK(one.images->front().id() == image_id());
    CHECK(repository.images().size() == 1);
    CHECK(repository.layers().size() == 2);
    for (const auto& layer : image().layers) {
        const auto diff = repository.base() / "diffs" / "sha256" / om::digest::of(layer.tar).hex();
        CHECK(fs::exists(diff / "rootfs"));
    }
    const fs::path diffs = repository.base() / "diffs" / "sha256";
    CHECK(std::distance(fs::directory_iterator(diffs), fs::directory_iterator()) == 2);
    for (const char* part : {"tmp", "claims", "leases"})
        CHECK(fs::is_empty(repository.base() / part));
}

// With its files in another order.
std::string in_order(const file_set& files, const std::vector<std::size_t>& order)
{
    file_set out;
    for (const std::size_t i : order)
        out.add(files.paths()[i], files.content(files.paths()[i]));
    return out.tar();
}

} // namespace

TEST_CASE("an archive's members may come in any order")
{
    const file_set files = GENERATE(docker_files(), layout_files());
    std::vector<std::size_t> order(files.paths().size());
    std::iota(order.begin(), order.end(), 0u);
    // Each file once in each position.
    for (std::size_t turn = 0; turn < order.size(); ++turn) {
        CAPTURE(turn);
        check_imports(in_order(files, order));
        check_imports(in_order(files, {order.rbegin(), order.rend()}));
        std::rotate(order.begin(), order.begin() + 1, order.end());
    }
}

TEST_CASE("a stream may be compressed as a whole, and read in pieces of any size")
{
    const auto kind = GENERATE(compression::none, compression::gzip, compression::zstd, compression::xz,
                               compression::bzip2);
    CAPTURE(to_string(kind));
    for (const std::size_t piece : {1u, 512u, 100000u}) {
        check_imports(compress(docker_files().tar(), kind), piece);
        check_imports(compress(layout_files().tar(), kind), piece);
    }
}

TEST_CASE("a member that looks like a layer but is not one is ignored if no document names it")
{
    file_set files = layout_files();
    SECTION("a truncated tar")
    {
        files.add("blobs/sha256/cut", small_tar("z").substr(0, 600));
    }
    SECTION("bytes with the magic of gzip")
    {
        files.add("junk", "\x1f\x8b junk that is no gzip");
    }
    SECTION("a tar that leaves its root")
    {
        files.add("evil.tar", tar_writer().file("../../evil", "x").finish());
    }
    SECTION("a tar of another image")
    {
        files.add("blobs/sha256/" + om::digest::of(small_tar("z")).hex(), small_tar("z"));
    }
    const std::string name = files.paths().back();
    check_imports(files.tar());
    files.move_to_front(name);
    check_imports(files.tar());
}

TEST_CASE("the number of candidate layers is limited, whether or not a document names them")
{
    om::limits bounds;
    bounds.candidates = 2;
    file_set files = docker_files(); // has two layers
    CHECK_FALSE(stream_import(open(scratch_directory() / "r", bounds), files.tar()).run().failure);
    SECTION("one more layer")
    {
        files.add("more.tar", small_tar("z"));
    }
    SECTION("a layer that already exists")
    {
        files.add("more.tar", small_tar("b"));
    }
    SECTION("a member that is not a layer")
    {
        files.add("more.tar", "\x1f\x8b junk that is no gzip");
    }
    for (int i = 0; i < 2; ++i) {
        const auto failure = untouched(bounds).refuses(files.tar());
        CHECK(failure.code() == errc::too_many_candidates);
        CHECK(failure.code() == om::condition::limit_exceeded);
        CHECK(failure.at() == om::stage::source);
        files.move_to_front("more.tar");
    }
}

TEST_CASE("the total unpacked size of candidate layers is limited")
{
    const auto size = [](const std::string& tar) { return static_cast<std::uint64_t>(tar.size()); };
    file_set files = docker_files();
    om::limits bounds;
    bounds.candidate_bytes = size(image().layers[0].tar) + size(image().layers[1].tar);
    CHECK_FALSE(stream_import(open(scratch_directory() / "r", bounds), files.tar()).run().failure);
    SECTION("one byte less")
    {
        --bounds.candidate_bytes;
    }
    SECTION("another one, which is small before it is unpacked")
    {
        files.add("more.tar", gzip(tar_writer().file("zeros", std::string(1 << 20, '0')).finish()));
    }
    const auto failure = untouched(bounds).refuses(files.tar());
    CHECK(failure.code() == errc::too_many_candidates);
}

TEST_CASE("a layer that is too large and too many candidate layers have different error codes")
{
    om::limits bounds;
    bounds.stream_bytes = 2048;
    CHECK(untouched(bounds).refuses(docker_files().tar()).code() == errc::layer_too_large);
}

TEST_CASE("the names of a stream's members are limited")
{
    om::limits bounds;
    bounds.member_bytes = 20'000;
    file_set files = docker_files();
    CHECK_FALSE(stream_import(open(scratch_directory() / "r", bounds), files.tar()).run().failure);
    for (int i = 0; i < 100; ++i)
        files.add_symlink(std::string(200, 'n') + std::to_string(i), "x");
    CHECK(untouched(bounds).refuses(files.tar()).code() == errc::too_many_members);
}

TEST_CASE("the error for a damaged layer that a document names has the layer")
{
    const untouched one;
    oci_layout_writer writer;
    writer.add(image());
    file_set& files = writer.finish();
    const std::string blob = gzip(image().layers[0].tar), path = "blobs/sha256/" + om::digest::of(blob).hex();
    REQUIRE(files.content(path) == blob);
    SECTION("its compression is damaged")
    {
        std::string bad = blob;
        bad[blob.size() - 6] ^= 1;
        files.replace(path, bad);
        const auto failure = one.refuses(files.tar());
        CHECK(failure.code() == errc::corrupt_stream);
        CHECK(failure.layer() == path);
    }
    SECTION("it has another size")
    {
        files.replace(path, blob.substr(0, blob.size() / 2));
        const auto failure = one.refuses(files.tar());
        CHECK(failure.code() == errc::size_mismatch);
        CHECK(failure.layer() == om::digest::of(image().layers[0].tar).string());
    }
    SECTION("it is not a tar")
    {
        files.replace(path, "{}");
        CHECK(one.refuses(files.tar()).layer() == om::digest::of(image().layers[0].tar).string());
    }
    SECTION("it is missing")
    {
        files.remove(path);
        const auto failure = one.refuses(files.tar());
        CHECK(failure.code() == errc::missing_blob);
        CHECK(failure.layer() == om::digest::of(image().layers[0].tar).string());
    }
}

TEST_CASE("the error for a damaged layer of a docker archive has the layer")
{
    const untouched one;
    file_set files = docker_files();
    const std::string& tar = image().layers[0].tar;
    std::string path;
    for (const std::string& name : files.paths())
        if (files.content(name) == tar)
            path = name;
    SECTION("it is truncated")
    {
        files.replace(path, tar.substr(0, 1700));
        const auto failure = one.refuses(files.tar());
        CHECK(failure.code() == errc::truncated_stream);
        CHECK(failure.layer() == path);
    }
    SECTION("it leaves its root")
    {
        files.replace(path, tar_writer().file("../evil", "x").finish());
        const auto failure = one.refuses(files.tar());
        CHECK(failure.layer() == path);
        CHECK(failure.entry() == "../evil");
    }
    SECTION("it is another tar")
    {
        files.replace(path, small_tar("other"));
        const auto failure = one.refuses(files.tar());
        CHECK(failure.code() == errc::diff_id_mismatch);
        CHECK(failure.layer() == om::digest::of(tar).string());
    }
}

TEST_CASE("a stream that ends too early leaves nothing, wherever it ends")
{
    const untouched one;
    const std::string tar = GENERATE(docker_files().tar(), layout_files().tar());
    // After the last member only the end marker is missing, which some writers leave out.
    for (std::size_t size = 0; size + 1024 < tar.size(); size += 512) {
        CAPTURE(size);
        const auto failure = one.refuses(tar.substr(0, size));
        CHECK(failure.at() != om::stage::none);
        const auto inside = one.refuses(tar.substr(0, size + 300));
        CHECK(inside.at() != om::stage::none);
    }
    check_imports(tar.substr(0, tar.size() - 1024));
}

TEST_CASE("the error for a compressed stream that ends too early says so")
{
    const untouched one;
    const auto kind = GENERATE(compression::gzip, compression::zstd, compression::xz, compression::bzip2);
    const std::string whole = compress(docker_files().tar(), kind);
    CAPTURE(to_string(kind));
    for (std::size_t size = 10; size < whole.size(); size += 101) {
        CAPTURE(size);
        CHECK(one.refuses(whole.substr(0, size)).code() == errc::truncated_stream);
    }
}

TEST_CASE("the error of a failing stream is reported, wherever it fails")
{
    const untouched one;
    const std::string tar = docker_files().tar();
    for (std::size_t size = 0; size <= tar.size(); size += 512) {
        CAPTURE(size);
        stream_import failing(one.repository, tar.substr(0, size));
        failing.what->ending = asio::error::connection_reset;
        const auto failure = failing.run().error();
        CHECK(failure.code() == asio::error::connection_reset);
        CHECK(failure.at() == om::stage::source);
        CHECK_FALSE(failing.images);
        one.check();
    }
}

TEST_CASE("an import that waits for bytes does not block other imports of the same image, and ends")
{
    const std::string tar = docker_files().tar();
    for (const bool late : {false, true}) {
        CAPTURE(late);
        const untouched one;
        layout_files().write_directory(one.scratch / "layout");
        stream_import slow(one.repository, tar, 512);
        slow.what->on_read = [&](std::size_t number) {
            if (number != (late ? tar.size() / 512 : 1)) // the last read returns the end of the stream
                return;
            CHECK(fs::is_empty(one.repository.base() / "claims"));
            const auto start = std::chrono::steady_clock::now();
            const auto options = om::import_options().wanted({"linux", "amd64"});
            CHECK(::test::get(one.repository.import_images(om::oci_layout((one.scratch / "layout").string()), options)).size() == 1);
            CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10)); // other imports wait twice as long for a claim
        };
        slow.run();
        CHECK_FALSE(slow.failure);
        REQUIRE(slow.images);
        CHECK(slow.images->front().id() == image_id());
        CHECK(one.repository.images().size() == 1);
        CHECK(one.repository.layers().size() == 2);
        for (const char* part : {"tmp", "claims", "leases"})
            CHECK(fs::is_empty(one.repository.base() / part));
    }
}

TEST_CASE("an import that is cancelled at any read leaves nothing")
{
    const untouched one;
    const std::string tar = layout_files().tar();
    std::size_t reads = 1;
    for (std::size_t at = 0; at < reads; ++at) {
        CAPTURE(at);
        stream_import cancelled(one.repository, tar, 512);
        cancelled.what->endless = true;
        cancelled.what->on_read = [&](std::size_t number) {
            if (number == at)
                asio::post(cancelled.context, [&] { cancelled.signal.emit(asio::cancellation_type::terminal); });
        };
        CHECK(cancelled.run().error().code() == asio::error::operation_aborted);
        one.check();
        reads = tar.size() / 512 + 1;
    }
}

TEST_CASE("an import whose context is destroyed at any read leaves nothing that the next operation does not remove")
{
    const scratch_directory scratch;
    const std::string tar = docker_files().tar();
    std::string before = files_of(open(scratch / "repository").base());
    const std::size_t descriptors = open_descriptors();
    for (std::size_t at = 0; at <= tar.size() / 512; ++at) {
        CAPTURE(at);
        {
            stream_import gone(open(scratch / "repository"), tar, 512);
            bool now = false;
            gone.what->endless = true;
            gone.what->on_read = [&](std::size_t number) { now = now || number == at; };
            gone.start();
            while (!now && gone.context.run_one_for(std::chrono::seconds(60)) != 0)
                continue;
            CHECK(now);
            CHECK_FALSE(gone.over);
        }
        CHECK(open_descriptors() == descriptors);
        // The next operation that writes removes its leftovers.
        om::detail::store((scratch / "repository").string(), om::on_disk_storage::form(), false).sweep();
        CHECK(tree_difference(before, files_of(scratch / "repository")) == "");
        CHECK(fs::is_empty(scratch / "repository" / "tmp"));
    }
}

TEST_CASE("the total size of a stream's documents is limited")
{
    const scratch_directory scratch;
    om::limits bounds;
    bounds.all_json_bytes = 2000;
    std::optional<om::repository> repository;
    ::test::run_coroutine(
        store_result(om::repository::open(scratch / "repository", om::repository_options().workers(1).bounds(bounds)),
                     repository));
    file_set files = docker_files();
    files.add("a.json", "{\"a\":\"" + std::string(1500, 'a') + "\"}");
    files.add("b.json", "{\"b\":\"" + std::string(1500, 'b') + "\"}");
    CHECK(stream_import(*repository, files.tar()).run().error().code() == errc::json_limit_exceeded);
    CHECK(fs::is_empty(repository->base() / "tmp"));
}

// The same images from all kinds of layer sources, and the promises about sources that are opened.
#include <overmount/io/resuming_stream.hpp>
#include <overmount/repository.hpp>

#include "support/catch.hpp"
#include "support/found_images.hpp"
#include "support/scripted_stream.hpp"
#include "support/tree.hpp"

#include "../examples/socket_importer.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>

#include <atomic>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace om = overmount;

using namespace om::test;
using om::errc;
using ::test::get;
using script = scripted_stream::script;
using test_image = om::test::image_source;

namespace {

std::string layer_of(int number)
{
    return tar_writer().file("file" + std::to_string(number), std::string(2000, static_cast<char>('a' + number))).finish();
}

test_image image_of(const std::vector<int>& layers, const std::string& name)
{
    test_image out;
    for (const int number : layers)
        out.layers.push_back({layer_of(number)});
    out.tags = {name};
    return out;
}

om::repository open(const fs::path& base, unsigned workers = 2, unsigned streams = 6)
{
    return get(om::repository::open(base, om::repository_options().workers(workers).streams(streams)));
}

om::import_options usual() { return om::import_options().wanted({"linux", "amd64"}); }

std::vector<std::string> ids_of(const std::vector<om::image>& all)
{
    std::vector<std::string> out;
    for (const auto& one : all)
        out.push_back(one.id().string());
    return out;
}

// Serves a layout's files to socket_importer, on its own thread.
class layout_server
{
public:
    explicit layout_server(fs::path layout) : layout_(std::move(layout)), acceptor_(context_, {asio::ip::address_v4::loopback(), 0})
    {
        asio::co_spawn(context_, serve(), [](std::exception_ptr) {});
        thread_ = std::thread([this] { context_.run(); });
    }
    ~layout_server()
    {
        context_.stop();
        thread_.join();
    }
    [[nodiscard]] asio::ip::tcp::endpoint endpoint() const { return acceptor_.local_endpoint(); }

private:
    asio::awaitable<void> serve()
    {
        for (;;) {
            auto socket = co_await acceptor_.async_accept(asio::use_awaitable);
            asio::co_spawn(context_, answer(std::move(socket)), [](std::exception_ptr) {});
        }
    }
    asio::awaitable<void> answer(asio::ip::tcp::socket socket)
    {
        asio::streambuf line;
        co_await asio::async_read_until(socket, line, '\n', asio::use_awaitable);
        std::istream words(&line);
        std::size_t offset = 0;
        std::string path;
        words >> offset >> path;
        const std::string content = read_file(layout_ / path).substr(offset);
        co_await asio::async_write(socket, asio::buffer(content), asio::use_awaitable);
    }
    static std::string read_file(const fs::path& path)
    {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }

    fs::path layout_;
    asio::io_context context_;
    asio::ip::tcp::acceptor acceptor_;
    std::thread thread_;
};

// What happened to the layers that an importer opened.
struct opened_layers
{
    std::mutex mutex;
    std::map<std::string, int> count;
    std::set<std::thread::id> threads;
    int open_now = 0, most = 0, expected = 0; // streams open at the same time
    bool died_early = false; // an `open` function was destroyed before the stream that it returned
    std::map<std::string, int> alive; // live streams of each layer
    std::function<void()> on_open = [] {};
};

// An AsyncReadStream that is counted while it exists.
class counted_stream
{
public:
    counted_stream(scripted_stream from, std::shared_ptr<opened_layers> seen, std::string name)
        : from_(std::move(from)), seen_(std::move(seen)), name_(std::move(name))
    {
        const std::lock_guard guard(seen_->mutex);
        ++seen_->alive[name_];
    }
    counted_stream(counted_stream&&) = default;
    counted_stream& operator=(counted_stream&&) = default;
    ~counted_stream()
    {
        if (seen_) {
            const std::lock_guard guard(seen_->mutex);
            --seen_->open_now;
            --seen_->alive[name_];
        }
    }
    auto get_executor() { return from_.get_executor(); }
    template <class Token>
    auto async_read_some(asio::mutable_buffer into, Token&& token)
    {
        return from_.async_read_some(into, std::forward<Token>(token));
    }

private:
    scripted_stream from_;
    std::shared_ptr<opened_layers> seen_;
    std::string name_;
};

// Images of a layout whose layers are streams.
class streaming_importer
{
public:
    streaming_importer(std::string layout, std::shared_ptr<opened_layers> seen) : layout_(std::move(layout)), seen_(std::move(seen)) {}
    asio::awaitable<std::vector<om::found_image>> discover(om::import_context context) const
    {
        return find(layout_, seen_, std::move(context));
    }

private:
    static asio::awaitable<std::vector<om::found_image>> find(std::string layout, std::shared_ptr<opened_layers> seen,
                                                              om::import_context context)
    {
        om::oci_layout from(layout);
        auto out = co_await from.discover(std::move(context));
        for (auto& one : out)
            for (auto& layer : one.layers) {
                const std::string bytes = layer.bytes.file()->text();
                // The `open` function must outlive the stream that it returned.
                const std::string name = layer.diff.string();
                const std::shared_ptr<void> token(nullptr, [seen, name](void*) {
                    const std::lock_guard guard(seen->mutex);
                    seen->died_early |= seen->alive[name] != 0;
                });
                auto opens = [seen, bytes, token, name] { return open_one(seen, bytes, name); };
                layer.bytes = om::layer_source(std::move(opens), bytes.size());
            }
        co_return out;
    }
    static asio::awaitable<om::byte_stream> open_one(std::shared_ptr<opened_layers> seen, std::string bytes, std::string name)
    {
        {
            const std::lock_guard guard(seen->mutex);
            ++seen->count[name];
            seen->threads.insert(std::this_thread::get_id());
            seen->most = std::max(seen->most, ++seen->open_now);
        }
        seen->on_open();
        const auto executor = co_await asio::this_coro::executor;
        asio::steady_timer timer(executor);
        for (int waited = 0; seen->most < seen->expected && waited < 2000; ++waited) {
            timer.expires_after(std::chrono::milliseconds(1));
            co_await timer.async_wait(asio::use_awaitable);
        }
        co_return om::byte_stream(counted_stream(scripted_stream(executor, std::make_shared<script>(bytes, 500)), seen, name));
    }

    std::string layout_;
    std::shared_ptr<opened_layers> seen_;
};

std::vector<int> upwards() { return {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}; }
std::vector<int> downwards() { return {11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}; }

fs::path layout_with(const scratch_directory& scratch, const std::vector<int>& layers, const std::string& name)
{
    oci_layout_writer writer;
    writer.add(image_of(layers, name));
    writer.finish().write_directory(scratch.path() / name);
    return scratch.path() / name;
}

} // namespace

TEST_CASE("images are the same whichever source their layers come from")
{
    const scratch_directory scratch;
    const fs::path layout = layout_with(scratch, {1, 2, 3, 2}, "latest");
    const std::string tar = scratch.path() / "layout.tar";
    oci_layout_writer writer;
    writer.add(image_of({1, 2, 3, 2}, "latest"));
    writer.finish().write_tar(tar);
    auto into = open(scratch.path() / "wanted");
    om::oci_layout usual_source(layout.string());
    const auto wanted = ids_of(get(into.import_images(usual_source, usual())));
    REQUIRE(wanted.size() == 1);

    std::vector<std::string> found;
    const fs::path base = scratch.path() / "other";
    auto other = open(base);
    SECTION("an archive")
    {
        om::oci_layout source(tar);
        found = ids_of(get(other.import_images(source, usual())));
    }
    SECTION("an archive that is read once")
    {
        om::archive_file source(tar);
        found = ids_of(get(other.import_images(source, usual())));
    }
    SECTION("a socket")
    {
        const layout_server server(layout);
        socket_importer source(server.endpoint());
        found = ids_of(get(other.import_images(source, usual())));
    }
    SECTION("an importer that is chosen while the program runs")
    {
        static_assert(om::importer<om::any_importer> && om::exporter<om::any_exporter>);
        const om::any_importer source{om::oci_layout(layout.string())};
        found = ids_of(get(other.import_images(source, usual())));
    }
    SECTION("streams of unknown size, and their blobs are kept")
    {
        auto seen = std::make_shared<opened_layers>();
        streaming_importer source(layout.string(), seen);
        found = ids_of(get(other.import_images(source, usual().keep_blobs())));
        CHECK(seen->count.size() == 3);
        std::size_t blobs = 0;
        for (const auto& entry : fs::recursive_directory_iterator(base / "blobs"))
            blobs += entry.is_regular_file();
        CHECK(blobs == 5); // the config, the manifest, three layers
    }
    CHECK(found == wanted);
    for (const auto& one : other.images())
        for (const auto& layer : one.layers())
            CHECK(into.layer(layer.id()).diff() == layer.diff());
}

TEST_CASE("layers are opened on the caller's thread, at most as many at a time as the options say, each once")
{
    const scratch_directory scratch;
    const fs::path layout = layout_with(scratch, upwards(), "latest");
    auto seen = std::make_shared<opened_layers>();
    auto into = open(scratch.path() / "repo", 2, 3);
    seen->expected = 3;
    streaming_importer source(layout.string(), seen);
    REQUIRE(get(into.import_images(source, usual())).size() == 1);
    CHECK(seen->count.size() == 12);
    for (const auto& [name, count] : seen->count)
        CHECK(count == 1);
    CHECK(seen->threads == std::set{std::this_thread::get_id()});
    CHECK(seen->most == 3);
    CHECK(seen->open_now == 0);
    CHECK_FALSE(seen->died_early);

    // An existing layer is not opened.
    seen->count.clear();
    REQUIRE(get(into.import_images(source, usual())).size() == 1);
    CHECK(seen->count.empty());
}

TEST_CASE("a layer is claimed before it is opened")
{
    const scratch_directory scratch;
    const fs::path layout = layout_with(scratch, {1, 2}, "latest"), base = scratch.path() / "repo";
    auto seen = std::make_shared<opened_layers>();
    auto into = open(base);
    std::size_t fewest = 100;
    seen->on_open = [&] {
        fewest = std::min<std::size_t>(fewest, static_cast<std::size_t>(std::distance(fs::directory_iterator(base / "claims"), {})));
    };
    streaming_importer source(layout.string(), seen);
    REQUIRE(get(into.import_images(source, usual())).size() == 1);
    CHECK(fewest >= 1);
    CHECK(fewest < 100);
}

TEST_CASE("two imports that want the same layers in opposite order fetch each once, with one permit and one worker each")
{
    const scratch_directory scratch;
    const fs::path first = layout_with(scratch, upwards(), "up"), second = layout_with(scratch, downwards(), "down");
    auto seen = std::make_shared<opened_layers>();
    // With one repository handle, and with two, as two processes have them.
    const bool shared = GENERATE(true, false);
    auto one = open(scratch.path() / "repo", 1, 1);
    auto other = shared ? one : open(scratch.path() / "repo", 1, 1);
    asio::io_context context;
    std::vector<std::exception_ptr> ended;
    for (const auto& [repository, layout] : {std::pair(&one, first), std::pair(&other, second)}) {
        streaming_importer source(layout.string(), seen);
        std::optional<std::vector<om::image>> made;
        auto work = repository->import_images(std::move(source), usual());
        asio::co_spawn(context, std::move(work), [&ended](std::exception_ptr failure, const std::vector<om::image>& images) {
            ended.push_back(failure);
            CHECK(images.size() == 1);
        });
    }
    context.run_for(std::chrono::seconds(60));
    REQUIRE(ended == std::vector<std::exception_ptr>(2));
    CHECK(seen->count.size() == 12);
    for (const auto& [name, count] : seen->count)
        CHECK(count == 1);
}

// An importer of one image, whose layer sources the test sets.
class fixed_importer
{
public:
    explicit fixed_importer(om::found_image found) : found_(std::move(found)) {}
    asio::awaitable<std::vector<om::found_image>> discover(om::import_context) const { return give(found_); }

private:
    static asio::awaitable<std::vector<om::found_image>> give(om::found_image one) { co_return std::vector{one}; }
    om::found_image found_;
};

om::found_image found_with(const std::vector<std::pair<std::string, om::layer_source>>& layers)
{
    test_image wanted;
    for (const auto& [tar, from] : layers)
        wanted.layers.push_back({tar});
    om::found_image out{om::image_config::parse(wanted.config_text(), om::limits()), {}};
    for (const auto& [tar, from] : layers)
        out.layers.push_back({om::diff_id(om::digest::of(tar)), from, std::nullopt, std::nullopt});
    return out;
}

om::layer_source source_of(const std::string& bytes, std::chrono::milliseconds later = {})
{
    auto opens = [bytes, later]() -> asio::awaitable<om::byte_stream> {
        asio::steady_timer timer(co_await asio::this_coro::executor, later);
        co_await timer.async_wait(asio::use_awaitable);
        co_return om::byte_stream(scripted_stream(timer.get_executor(), std::make_shared<script>(bytes)));
    };
    return om::layer_source(std::move(opens), bytes.size());
}

TEST_CASE("finished layers are available to others while an import is still running, and durable at its end")
{
    const std::string quick = layer_of(1), slow = layer_of(2);
    const om::diff_id first(om::digest::of(quick));
    const scratch_directory scratch;
    auto into = open(scratch.path() / "repo"), other = open(scratch.path() / "repo");
    asio::io_context context;
    bool over = false;
    fixed_importer source(found_with({{quick, source_of(quick)}, {slow, source_of(slow, std::chrono::seconds(8))}}));
    asio::co_spawn(context, into.import_images(std::move(source), usual()),
                   [&over](std::exception_ptr failure, const std::vector<om::image>&) {
                       CHECK_FALSE(failure);
                       over = true;
                   });
    context.run_for(std::chrono::seconds(6));
    REQUIRE_FALSE(over);
    REQUIRE(other.contains(first));
    CHECK(other.diff(first).sync == om::durability::none);
    context.run_for(std::chrono::seconds(60));
    REQUIRE(over);
    CHECK(other.diff(first).sync == om::durability::batch);
    CHECK(other.images().size() == 1);
}

TEST_CASE("an import from a one-pass archive does not wait for other imports of its layers")
{
    const std::string tar = layer_of(1);
    const scratch_directory scratch;
    oci_layout_writer writer;
    writer.add(image_of({1}, "latest"));
    writer.finish().write_tar(scratch.path() / "layout.tar");
    auto into = open(scratch.path() / "repo"), other = open(scratch.path() / "repo");
    asio::io_context context;
    bool slow_over = false, quick_over = false;
    fixed_importer source(found_with({{tar, source_of(tar, std::chrono::seconds(5))}}));
    asio::co_spawn(context, into.import_images(std::move(source), usual()),
                   [&](std::exception_ptr failure, const std::vector<om::image>&) {
                       CHECK_FALSE(failure);
                       slow_over = true;
                   });
    context.run_for(std::chrono::milliseconds(300)); // by now it has the claim
    om::archive_file archive((scratch.path() / "layout.tar").string());
    asio::co_spawn(context, other.import_images(std::move(archive), usual()),
                   [&](std::exception_ptr failure, const std::vector<om::image>&) {
                       CHECK_FALSE(failure);
                       CHECK_FALSE(slow_over);
                       quick_over = true;
                   });
    context.run_for(std::chrono::seconds(60));
    CHECK(slow_over);
    CHECK(quick_over);
}

TEST_CASE("a source that is gone by or cannot be opened is an error that names the layer")
{
    const std::string tar = layer_of(1);
    const scratch_directory scratch;
    auto into = open(scratch.path() / "repo");
    const bool gone = GENERATE(true, false);
    const auto refuses = []() -> asio::awaitable<om::byte_stream> {
        throw boost::system::system_error(asio::error::connection_refused);
        co_return om::byte_stream(scripted_stream(co_await asio::this_coro::executor, nullptr));
    };
    fixed_importer source(found_with({{tar, gone ? om::layer_source::gone_by(tar.size()) : om::layer_source(refuses)}}));
    try {
        static_cast<void>(get(into.import_images(source, usual())));
        FAIL("it was imported");
    } catch (const om::error& failure) {
        CHECK(failure.at() == om::stage::source);
        CHECK(failure.layer() == om::diff_id(om::digest::of(tar)).string());
        if (gone)
            CHECK(failure.code() == errc::missing_blob);
        else
            CHECK(failure.code() == asio::error::connection_refused);
    }
    CHECK(fs::is_empty(scratch.path() / "repo/tmp"));
}

TEST_CASE("a layer with another size than announced is refused")
{
    const std::string bytes = layer_of(1);
    const std::uint64_t announced = GENERATE_COPY(bytes.size() - 1, bytes.size() + 1);
    const scratch_directory scratch;
    const auto diff = om::diff_id(om::digest::of(bytes));
    auto opens = [bytes]() -> asio::awaitable<om::byte_stream> {
        co_return om::byte_stream(scripted_stream(co_await asio::this_coro::executor, std::make_shared<script>(bytes)));
    };
    auto into = open(scratch.path() / "repo");
    fixed_importer source(found_with({{bytes, om::layer_source(std::move(opens), announced)}}));
    try {
        static_cast<void>(get(into.import_images(source, usual())));
        FAIL("it was imported");
    } catch (const om::error& failure) {
        CHECK(failure.code() == (announced > bytes.size() ? errc::truncated_stream : errc::size_mismatch));
        CHECK(failure.layer() == diff.string());
    }
    CHECK(into.images().empty());
    CHECK(fs::is_empty(scratch.path() / "repo/claims"));
    CHECK(fs::is_empty(scratch.path() / "repo/tmp"));
}

TEST_CASE("a stream of a size that nobody knows, which never comes to its end, is ended by the bound on a layer's bytes")
{
    const std::string layer = layer_of(1);
    std::string bytes = gzip(layer);
    for (int count = 0; count < 10'000; ++count)
        bytes += gzip("");
    auto opens = [bytes]() -> asio::awaitable<om::byte_stream> {
        co_return om::byte_stream(scripted_stream(co_await asio::this_coro::executor, std::make_shared<script>(bytes, 10'000)));
    };
    om::limits bounds;
    bounds.stream_bytes = 65'536;
    const scratch_directory scratch;
    auto into = get(om::repository::open(scratch.path() / "repo", om::repository_options().workers(2).bounds(bounds)));
    fixed_importer source(found_with({{layer, om::layer_source(std::move(opens))}}));
    try {
        static_cast<void>(get(into.import_images(source, usual())));
        FAIL("it was imported");
    } catch (const om::error& failure) {
        CHECK(failure.code() == errc::layer_too_large);
        CHECK(failure.at() == om::stage::source);
        CHECK(failure.layer() == om::diff_id(om::digest::of(layer)).string());
    }
    CHECK(fs::is_empty(scratch.path() / "repo/tmp"));
}

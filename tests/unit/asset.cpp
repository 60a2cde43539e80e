#include <overmount/importer/oci_layout.hpp>
#include <overmount/own_policies.hpp>
#include <overmount/repository.hpp>

#include "../examples/tar_storage.hpp"
#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/read_all.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"
#include "support/tree.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <fstream>
#include <future>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::read_all;
using om::test::scratch_directory;
using om::test::tar_attributes;
using om::test::tar_writer;

namespace {

// A storage of tars without an index, whose reads come in unusual sizes: one byte, then more.
class plain_storage : public tar_storage
{
public:
    class reader
    {
    public:
        explicit reader(const std::string& file) : in_(file, std::ios::binary) {}
        std::size_t read(std::span<std::byte> into)
        {
            const auto most = std::min(into.size(), std::exchange(next_, std::size_t{700}));
            in_.read(reinterpret_cast<char*>(into.data()), static_cast<std::streamsize>(most));
            return static_cast<std::size_t>(in_.gcount());
        }

    private:
        std::ifstream in_;
        std::size_t next_ = 1;
    };
    explicit plain_storage(om::storage_place place) : tar_storage(place), diffs_(place.diffs()) {}
    [[nodiscard]] reader pack(const om::diff_id& id) const
    {
        if (!contains(id))
            throw om::error(errc::layer_not_found).layer(id.string());
        return reader("/proc/self/fd/" + std::to_string(diffs_) + "/" + id.string() + "/layer.tar");
    }

private:
    int diffs_;
};

template <class Value>
boost::system::error_code failure_of(asio::awaitable<Value> task)
{
    try {
        if constexpr (std::is_void_v<Value>)
            test::run_coroutine(std::move(task));
        else
            (void)get(std::move(task));
    } catch (const om::error& failure) {
        return failure.code();
    }
    return {};
}

template <class Storage>
class kept
{
public:
    using repository = om::basic_repository<Storage, om::no_mount>;
    explicit kept(const std::string& tar)
        : tar_(tar), repository_(get(repository::open(scratch_ / "repository", om::repository_options().workers(1))))
    {
        std::ofstream(scratch_ / "tar", std::ios::binary) << tar;
        chain_ = get(repository_.create_layer(scratch_ / "tar"));
    }
    explicit kept(const tar_writer& tar) : kept(tar.finish()) {}

    [[nodiscard]] const repository& in() const { return repository_; }
    [[nodiscard]] om::diff_id id() const { return om::diff_id(om::digest::of(tar_)); }
    [[nodiscard]] auto asset() const { return repository_.asset(id()); }
    [[nodiscard]] const om::chain_id& chain() const { return *chain_; }
    [[nodiscard]] fs::path base() const { return scratch_ / "repository"; }
    // The content, or `error: ` and the error's text.
    [[nodiscard]] std::string cat(const std::string& path, std::size_t piece = 777) const
    {
        try {
            return get(read_all(get(asset().open(path)), piece));
        } catch (const om::error& failure) {
            return "error: " + failure.code().message();
        }
    }
    [[nodiscard]] fs::path tar_file() const
    {
        for (const auto& found : fs::recursive_directory_iterator(base() / "diffs"))
            if (found.path().filename() == "layer.tar")
                return found.path();
        return {};
    }

private:
    scratch_directory scratch_;
    std::string tar_;
    repository repository_;
    std::optional<om::chain_id> chain_;
};

std::string said(errc code) { return "error: " + make_error_code(code).message(); }

using storages = std::tuple<om::virtual_storage, plain_storage>;

} // namespace

TEMPLATE_LIST_TEST_CASE("an asset gives its tar back, with its size, and verifies", "", storages)
{
    const std::string tar = tar_writer().file("f", std::string(300'000, 'x')).finish() + std::string(512, '\0');
    const kept<TestType> layer(tar);
    CHECK(get(read_all(get(layer.asset().pack()), 1000)) == tar);
    CHECK(layer.asset().size() == tar.size());
    CHECK_FALSE(failure_of(layer.asset().verify()));
}

TEMPLATE_LIST_TEST_CASE("an asset whose tar was changed does not verify", "", storages)
{
    const kept<TestType> layer(tar_writer().file("f", "text"));
    std::fstream(layer.tar_file(), std::ios::in | std::ios::out | std::ios::binary).seekp(512) << "T";
    CHECK(failure_of(layer.asset().verify()) == errc::invalid_asset);
    CHECK(layer.cat("f") == "Text");
}

TEMPLATE_LIST_TEST_CASE("the entries of an asset are listed in the tar's order", "", storages)
{
    tar_writer tar;
    tar.directory("d", {.mode = 01777}).file("d/f", "text", {.uid = 3, .xattrs = {{"user.a", "b"}}});
    tar.symlink("l", "d/f").whiteout("d/gone").file("d/f", "again").hard_link("h", "d/f");
    const kept<TestType> layer(tar);
    std::string found;
    auto visitor = [&found](const om::tar::entry& entry) {
        found += entry.path + " " + std::to_string(entry.size) + " " + std::to_string(entry.mode) + " " +
                 std::to_string(entry.uid) + " " + entry.link_target;
        for (const auto& attribute : entry.xattrs)
            found += " " + attribute.name + "=" + attribute.value;
        found += "\n";
    };
    test::run_coroutine(layer.asset().list(visitor));
    CHECK(found == "d/ 0 1023 0 \nd/f 4 420 3  user.a=b\nl 0 511 0 d/f\nd/.wh.gone 0 420 0 \nd/f 5 420 0 \n"
                   "h 0 420 0 d/f\n");
}

TEMPLATE_LIST_TEST_CASE("an exception of the visitor ends the listing", "", storages)
{
    const kept<TestType> layer(tar_writer().file("a", "").file("b", ""));
    int calls = 0;
    auto visitor = [&calls](const om::tar::entry&) {
        ++calls;
        throw om::error(errc::too_many_entries);
    };
    CHECK(failure_of(layer.asset().list(visitor)) == errc::too_many_entries);
    CHECK(calls == 1);
}

TEMPLATE_LIST_TEST_CASE("one file of an asset is read, whatever entries are before and after it", "", storages)
{
    std::string big;
    for (int i = 0; i < 60'000; ++i)
        big += std::to_string(i);
    tar_writer tar;
    tar.file("./a", "first").file("big", big).file("empty", "").file("/d/e/f", "deep").file("z", "last");
    const kept<TestType> layer(tar);
    CHECK(layer.cat("a") == "first");
    CHECK(layer.cat("/a") == "first");
    CHECK(layer.cat("big") == big);
    CHECK(layer.cat("big", 1 << 20) == big);
    CHECK(layer.cat("big", 1 << 12) == big);
    CHECK(layer.cat("empty").empty());
    CHECK(layer.cat("d//e/./f") == "deep");
    CHECK(layer.cat("z") == "last");
}

TEMPLATE_LIST_TEST_CASE("of two entries with the same path the last one is read", "", storages)
{
    const kept<TestType> layer(tar_writer().file("f", "one").file("g", "").file("./f", "two"));
    CHECK(layer.cat("f") == "two");
}

TEMPLATE_LIST_TEST_CASE("a hard link reads as the file that its target was at that point of the tar", "", storages)
{
    tar_writer tar;
    tar.file("f", "old").hard_link("h", "./f").hard_link("i", "/h").hard_link("h", "h").file("f", "new");
    tar.symlink("s", "f").hard_link("t", "s").hard_link("m", "missing");
    const kept<TestType> layer(tar);
    CHECK(layer.cat("f") == "new");
    CHECK(layer.cat("h") == "old");
    CHECK(layer.cat("i") == "old");
    CHECK(layer.cat("t") == said(errc::not_a_regular_file));
    CHECK(layer.cat("m") == said(errc::missing_hard_link_target));
}

TEMPLATE_LIST_TEST_CASE("hard links to hard links are followed to the file", "", storages)
{
    tar_writer tar;
    tar.file("0", "text");
    for (int i = 1; i < 100; ++i)
        tar.hard_link(std::to_string(i), std::to_string(i - 1));
    const kept<TestType> layer(tar);
    CHECK(layer.cat("39") == "text");
    CHECK(layer.cat("40") == said(errc::not_a_regular_file));
}

TEMPLATE_LIST_TEST_CASE("entries that are not regular files cannot be opened", "", storages)
{
    tar_writer tar;
    tar.directory("d").file("d/f", "text").symlink("l", "d/f").fifo("p").character_device("c", 1, 3);
    tar.whiteout("w").opaque("d").file("gone/f", "text").symlink("gone", "d").file("now/f", "text").file("x", "");
    tar.directory("x");
    const kept<TestType> layer(tar);
    for (const char* path : {"d", "l", "p", "c", "x"})
        CHECK(layer.cat(path) == said(errc::not_a_regular_file));
    for (const char* path : {"w", ".wh.w", "d/.wh..wh..opq", "l/f", "d/f/x", "nothing", "gone/f", ""})
        CHECK(layer.cat(path) == said(errc::entry_not_found));
    CHECK(layer.cat("now/f") == "text");
    CHECK(layer.cat("../d/f") == said(errc::entry_escapes_layer));
}

TEMPLATE_LIST_TEST_CASE("a sparse file is read with its holes", "", storages)
{
    tar_attributes sparse;
    sparse.pax = {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", "s"},
                  {"GNU.sparse.realsize", "300010"}};
    std::string map = "2\n5\n3\n300000\n4\n";
    map.resize(512);
    const kept<TestType> layer(
        tar_writer().file("before", "x").file("GNUSparseFile.0/s", map + "abcdefg", sparse).file("z", "z"));
    std::string wanted(300'010, '\0');
    wanted.replace(5, 3, "abc").replace(300'000, 4, "defg");
    CHECK(layer.cat("s") == wanted);
    CHECK(layer.cat("s", 1 << 20) == wanted);
    CHECK(layer.cat("z") == "z");
}

TEMPLATE_LIST_TEST_CASE("a missing diff has no asset", "", storages)
{
    const kept<TestType> layer(tar_writer().file("f", "text"));
    const om::diff_id stranger(om::digest::of("stranger"));
    CHECK_THROWS_AS(layer.in().asset(stranger), om::error);
    const auto asset = layer.asset();
    fs::remove_all(layer.tar_file().parent_path());
    CHECK(failure_of(asset.open("f")) == errc::layer_not_found);
    CHECK(failure_of(asset.pack()) == errc::layer_not_found);
    CHECK(failure_of(asset.verify()) == errc::layer_not_found);
}

TEMPLATE_LIST_TEST_CASE("an asset is imported into a repository with another storage", "", storages)
{
    const std::string tar = tar_writer().directory("d").file("d/f", "text").finish() + std::string(512, '\0');
    const kept<TestType> layer(tar);
    const scratch_directory scratch;
    const auto options = om::repository_options().workers(1);
    const auto tree = get(om::repository::open(scratch / "tree", options));
    CHECK(get(tree.import_asset(layer.asset())) == layer.chain());
    CHECK(fs::exists(tree.base() / "diffs/sha256" / layer.id().value().hex() / "rootfs/d/f"));
    const auto above = get(tree.import_asset(layer.asset(), layer.chain()));
    CHECK(tree.layer(above).parent_id() == layer.chain());
    const auto tars = get(om::virtual_repository::open(scratch / "tars", options));
    CHECK(get(tars.import_asset(layer.asset())) == layer.chain());
    CHECK(get(read_all(get(tars.asset(layer.id()).pack()), 4096)) == tar);
    const om::chain_id stranger(om::digest::of("stranger"));
    CHECK(failure_of(tars.import_asset(layer.asset(), stranger)) == errc::layer_not_found);
}

TEMPLATE_LIST_TEST_CASE("a damaged asset is not imported", "", storages)
{
    const kept<TestType> layer(tar_writer().file("f", "text"));
    std::fstream(layer.tar_file(), std::ios::in | std::ios::out | std::ios::binary).seekp(512) << "T";
    const scratch_directory scratch;
    const auto other = get(om::repository::open(scratch / "r", om::repository_options().workers(1)));
    CHECK(failure_of(other.import_asset(layer.asset())) == errc::diff_id_mismatch);
    CHECK(other.layers().empty());
    CHECK(fs::is_empty(other.base() / "tmp"));
    CHECK_FALSE(fs::exists(other.base() / "diffs/sha256"));
}

TEST_CASE("an empty layer of zero bytes is converted as well")
{
    const scratch_directory scratch;
    const auto options = om::repository_options().workers(1);
    const auto from = get(om::virtual_repository::open(scratch / "from", options));
    om::test::oci_layout_writer layout;
    layout.add({.layers = {{std::string()}}, .architecture = om::platform::host().architecture()});
    layout.finish().write_directory(scratch / "layout");
    const auto image = get(from.import_image(om::oci_layout((scratch / "layout").string())));
    const auto chain = image.layers().front();
    const auto to = get(om::virtual_repository::open(scratch / "to", options));
    CHECK(get(to.import_asset(from.asset(from.layer(chain).diff()))) == chain);
    CHECK(to.diff(to.layer(chain).diff()).bytes == 0);
}

TEST_CASE("a file is not read if the index points to another entry")
{
    const kept<om::virtual_storage> layer(tar_writer().file("f", "text"));
    std::ofstream(layer.tar_file(), std::ios::binary) << tar_writer().file("g", "text").finish();
    CHECK(layer.cat("f") == said(errc::invalid_asset));
}

TEST_CASE("a listing that is cancelled ends soon")
{
    const kept<om::virtual_storage> layer(tar_writer().file("a", "").file("b", ""));
    asio::io_context context;
    asio::cancellation_signal signal;
    std::exception_ptr failure;
    int calls = 0;
    auto visitor = [&](const om::tar::entry&) {
        ++calls;
        std::promise<void> raised;
        asio::post(context, [&] {
            signal.emit(asio::cancellation_type::terminal);
            raised.set_value();
        });
        raised.get_future().wait();
    };
    asio::co_spawn(context, layer.asset().list(visitor),
                   asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr end) { failure = end; }));
    context.run_for(std::chrono::seconds(60));
    CHECK(calls == 1);
    REQUIRE(failure);
    CHECK_THROWS_AS(std::rethrow_exception(failure), boost::system::system_error);
}

TEST_CASE("a layer is found by the first digits of its chain ID")
{
    const scratch_directory scratch;
    const auto repository =
        get(om::virtual_repository::open(scratch / "r", om::repository_options().workers(1)));
    std::vector<om::chain_id> made;
    for (int i = 0; i < 20; ++i) {
        std::ofstream(scratch / "tar", std::ios::binary) << tar_writer().file("f", std::to_string(i)).finish();
        made.push_back(get(repository.create_layer(scratch / "tar")));
    }
    const auto code_of = [&repository](const std::string& name) {
        try {
            (void)repository.find_layer(name);
        } catch (const om::error& failure) {
            return failure.code();
        }
        return boost::system::error_code();
    };
    for (const auto& chain : made) {
        CHECK(repository.find_layer(chain.string()) == chain);
        CHECK(repository.find_layer(chain.string().substr(0, 20)) == chain);
        CHECK(repository.find_layer(chain.value().hex().substr(0, 12)) == chain);
    }
    for (const char* name : {"", "sha256:", "sha256", "x", "sha512:0"})
        CHECK(code_of(name) == errc::layer_not_found);
    // Some of twenty IDs begin with the same digit; a prefix needs at least four digits.
    for (const char digit : std::string("0123456789abcdef"))
        CHECK(code_of(std::string(1, digit)) == errc::layer_not_found);
}

// Damaged repositories: what a check, an import and a repair do with them.
#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::check_report;
using om::digest;
using om::errc;
using om::finding_kind;
using om::test::image_source;
using om::test::oci_layout_writer;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

std::string read(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void write(const fs::path& file, const std::string& content)
{
    fs::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
}

void flip(const fs::path& file)
{
    std::string content = read(file);
    REQUIRE(content.size() > 20);
    content[20] = static_cast<char>(content[20] ^ 1);
    write(file, content);
}

template <class Value>
boost::system::error_code failure_of(asio::awaitable<Value> task)
{
    try {
        if constexpr (std::is_void_v<Value>)
            get(std::move(task));
        else
            static_cast<void>(get(std::move(task)));
    } catch (const om::error& failure) {
        return failure.code();
    }
    return {};
}

// An image of two layers in a repository with virtual_storage, and the layout that it was imported from.
class kept_image
{
public:
    explicit kept_image(bool keep_blobs)
    {
        oci_layout_writer writer;
        writer.add({.layers = {{tars[0]}, {tars[1]}}, .tags = {"example.org/test:1"}});
        writer.finish().write_directory(scratch / "layout");
        static_cast<void>(import(keep_blobs));
    }
    [[nodiscard]] static om::oci_layout source(const fs::path& path) { return om::oci_layout(path.string()); }
    [[nodiscard]] om::oci_layout source() const { return source(scratch / "layout"); }
    [[nodiscard]] digest import(bool keep_blobs = false) const
    {
        om::import_options options;
        options.wanted({"linux", "amd64"}).keep_blobs(keep_blobs);
        return get(repository.import_image(source(), std::move(options))).id();
    }
    [[nodiscard]] check_report repair_from_source() const
    {
        return get(repository.repair(source(), om::repair_options().wanted({"linux", "amd64"})));
    }

    [[nodiscard]] om::virtual_repository::image image() const { return repository.images().at(0); }
    [[nodiscard]] om::diff_id diff(std::size_t number) const { return om::diff_id(digest::of(tars[number])); }
    [[nodiscard]] fs::path tar(std::size_t number) const { return base / "diffs/sha256" / diff(number).value().hex() / "layer.tar"; }
    [[nodiscard]] fs::path layer(std::size_t number) const
    {
        const om::chain_id lower = om::chain_id::of(diff(0));
        const om::chain_id chain = number == 0 ? lower : om::chain_id::of(lower, diff(1));
        return base / "layers/sha256" / chain.value().hex() / "layer.json";
    }
    [[nodiscard]] fs::path config() const { return base / "images/sha256" / image_id.hex() / "config.json"; }
    [[nodiscard]] fs::path manifest() const { return *fs::directory_iterator(base / "manifests"); }
    // The blob with the manifest's digest is not a layer's.
    [[nodiscard]] fs::path layer_blob() const
    {
        for (const auto& one : fs::directory_iterator(base / "blobs/sha256"))
            if (read(one.path()).starts_with("\x1f\x8b"))
                return one.path();
        throw std::runtime_error("no blob of a layer is kept");
    }
    void check_whole() const
    {
        const check_report report = get(repository.check());
        for (const auto& one : report.findings)
            UNSCOPED_INFO(to_string(one.kind) << " " << one.object << ": " << one.detail);
        CHECK(report.ok());
        for (const char* part : {"tmp", "claims", "leases"}) // no leftovers
            CHECK(fs::is_empty(base / part));
    }
    [[nodiscard]] boost::system::error_code export_failure(bool accept = false) const
    {
        om::oci_layout_target target(scratch / "out");
        om::export_options options;
        options.accept_damaged(accept);
        return failure_of(image().export_to(std::move(target), std::move(options)));
    }

    scratch_directory scratch;
    fs::path base = scratch / "repository";
    std::vector<std::string> tars{tar_writer().file("a", std::string(100'000, 'a')).finish(), tar_writer().file("b", "b").finish()};
    om::virtual_repository repository = get(om::virtual_repository::open(base, om::repository_options().workers(2)));
    digest image_id = image_of(*this);

private:
    static digest image_of(const kept_image& self)
    {
        image_source one{.layers = {{self.tars[0]}, {self.tars[1]}}, .tags = {"example.org/test:1"}};
        return digest::of(one.config_text());
    }
};

// A layout's images twice, first with layers that cannot be opened.
class refusing_first
{
public:
    explicit refusing_first(om::oci_layout from) : from_(std::move(from)) {}
    asio::awaitable<std::vector<om::found_image>> discover(om::import_context context) const { return find(from_, std::move(context)); }

private:
    static asio::awaitable<std::vector<om::found_image>> find(om::oci_layout from, om::import_context context)
    {
        auto good = co_await from.discover(std::move(context));
        auto out = good;
        for (auto& image : out)
            for (auto& layer : image.layers)
                layer.bytes = om::layer_source(&refuse, *layer.bytes.size());
        out.insert(out.end(), good.begin(), good.end());
        co_return out;
    }
    static asio::awaitable<om::byte_stream> refuse()
    {
        throw boost::system::system_error(asio::error::connection_reset);
        co_return om::byte_stream(om::asset_stream());
    }

    om::oci_layout from_;
};

bool has(const std::vector<om::finding>& all, finding_kind kind, const std::string& object)
{
    return std::any_of(all.begin(), all.end(), [&](const om::finding& one) { return one.kind == kind && one.object == object; });
}

} // namespace

TEST_CASE("a layer that a check found damaged is exported on request only")
{
    const kept_image one(false);
    CHECK_FALSE(one.export_failure());
    flip(one.tar(0));
    CHECK(get(one.repository.check()).findings.size() == 1);
    CHECK(one.export_failure() == errc::diff_damaged);
    CHECK_FALSE(one.export_failure(true) == errc::diff_damaged);
    CHECK(failure_of(one.repository.flatten(one.image())) == errc::diff_damaged);
}

TEST_CASE("importing an image again repairs what a check had found damaged")
{
    const kept_image one(false);
    flip(one.tar(0));
    CHECK_FALSE(get(one.repository.check()).ok());
    get(one.repository.remove_image(one.image().id()));
    static_cast<void>(one.import());
    CHECK(read(one.tar(0)) == one.tars[0]);
    one.check_whole();
    CHECK_FALSE(one.export_failure());
}

TEST_CASE("a check of the records reports a mark, and a check of the contents removes it from an intact layer")
{
    const kept_image one(false);
    flip(one.tar(0));
    CHECK(get(one.repository.check(om::check_options().contents(false))).ok());
    CHECK_FALSE(get(one.repository.check()).ok());
    const auto records = get(one.repository.check(om::check_options().contents(false)));
    REQUIRE(records.findings.size() == 1);
    CHECK(records.findings[0].kind == finding_kind::diff_marked);
    flip(one.tar(0)); // back
    const auto report = get(one.repository.check());
    CHECK(report.ok());
    CHECK(has(report.mended, finding_kind::diff_marked, one.diff(0).string()));
    CHECK_FALSE(one.export_failure());
    one.check_whole();
}

TEST_CASE("a repair unpacks a layer again from its kept blob")
{
    const kept_image one(true);
    flip(one.tar(0));
    fs::remove(one.tar(1));
    const auto report = get(one.repository.repair());
    CHECK(report.ok());
    CHECK(has(report.mended, finding_kind::diff_changed, one.diff(0).string()));
    CHECK(has(report.mended, finding_kind::diff_unreadable, one.diff(1).string()));
    for (const std::size_t number : {0u, 1u})
        CHECK(read(one.tar(number)) == one.tars[number]);
    one.check_whole();
}

TEST_CASE("a repair unpacks a layer again from a source, and imports nothing else from it")
{
    const kept_image one(false);
    get(one.repository.remove_tag("example.org/test:1"));
    flip(one.tar(0));
    write(one.tar(1).parent_path() / "diff.json", "{");
    const auto report = one.repair_from_source();
    CHECK(report.ok());
    CHECK(report.mended.size() == 2);
    CHECK(one.repository.tags().empty());
    one.check_whole();
}

TEST_CASE("a repair continues with the next source of a layer if a connection fails")
{
    const kept_image one(false);
    flip(one.tar(0));
    const refusing_first source(one.source());
    const auto report = get(one.repository.repair(source, om::repair_options().wanted({"linux", "amd64"})));
    CHECK(report.ok());
    CHECK(report.mended.size() == 1);
    one.check_whole();
}

TEST_CASE("a repair restores a missing layer from a source")
{
    const kept_image one(false);
    fs::remove_all(one.tar(0).parent_path());
    CHECK(one.repair_from_source().ok());
    one.check_whole();
}

TEST_CASE("a repair reports what it cannot repair, and why")
{
    const auto reason = [](const check_report& report) {
        REQUIRE(report.findings.size() == 1);
        CHECK(report.mended.empty());
        return report.findings[0].detail;
    };
    SECTION("nothing has the layer")
    {
        const kept_image one(false);
        flip(one.tar(0));
        CHECK(reason(get(one.repository.repair())).ends_with("not repaired: neither a kept blob nor the source has it"));
        CHECK(one.export_failure() == errc::diff_damaged);
    }
    SECTION("the source has another layer in its place")
    {
        const kept_image one(false);
        flip(one.tar(0));
        for (const auto& blob : fs::directory_iterator(one.scratch / "layout/blobs/sha256"))
            if (read(blob.path()).starts_with("\x1f\x8b"))
                flip(blob.path());
        CHECK(reason(one.repair_from_source()).find("not repaired: the source: ") != std::string::npos);
    }
    SECTION("a tag's record")
    {
        const kept_image one(false);
        write(one.base / "tags" / (std::string(64, '0') + ".json"), "{");
        CHECK(reason(get(one.repository.repair())).ends_with("not repaired: nothing else has its content"));
    }
    SECTION("a document")
    {
        const kept_image one(false);
        flip(one.manifest());
        CHECK(reason(get(one.repository.repair())).ends_with("not repaired: neither a kept blob nor the source has it"));
    }
}

TEST_CASE("a repair writes documents again from a kept blob or a source")
{
    const bool kept = GENERATE(true, false);
    const kept_image one(kept);
    const std::string config = read(one.config()), manifest = read(one.manifest());
    const auto repair = [&] { return kept ? get(one.repository.repair()) : one.repair_from_source(); };
    SECTION("changed")
    {
        flip(one.config());
        flip(one.manifest());
    }
    SECTION("missing")
    {
        fs::remove(one.config());
        fs::remove(one.manifest());
    }
    CHECK_FALSE(get(one.repository.check()).ok());
    const auto report = repair();
    CHECK(report.ok());
    CHECK(report.mended.size() == 2);
    CHECK(read(one.config()) == config);
    CHECK(read(one.manifest()) == manifest);
    one.check_whole();
}

TEST_CASE("a repair writes blobs of layers again from a source, and blobs of documents also from the records")
{
    const kept_image one(true);
    const fs::path blob = one.layer_blob(), document = one.base / "blobs/sha256" / one.image_id.hex();
    const std::string of_layer = read(blob), of_document = read(document);
    flip(blob);
    flip(document);
    const auto first = get(one.repository.repair());
    REQUIRE(first.findings.size() == 1);
    CHECK(first.findings[0].object == "sha256:" + blob.filename().string());
    CHECK(first.mended.size() == 1);
    CHECK(read(document) == of_document);
    CHECK(one.repair_from_source().ok());
    CHECK(read(blob) == of_layer);
    one.check_whole();
}

TEST_CASE("a check reports a layer that is its own parent, and a repair writes its record again")
{
    const kept_image one(false);
    const std::string before = read(one.layer(1)), self = "sha256:" + one.layer(1).parent_path().filename().string();
    SECTION("its own parent")
    {
        write(one.layer(1), R"({"diff_id":")" + one.diff(1).string() + R"(","parent":")" + self + R"("})");
        const auto report = get(one.repository.check());
        REQUIRE(report.findings.size() == 1);
        CHECK(report.findings[0].kind == finding_kind::chain_id_mismatch);
    }
    SECTION("damaged")
    {
        write(one.layer(1), "{");
    }
    SECTION("missing")
    {
        fs::remove(one.layer(1));
    }
    SECTION("with its directory")
    {
        fs::remove_all(one.layer(1).parent_path());
    }
    const auto report = get(one.repository.repair());
    CHECK(report.ok());
    CHECK(report.mended.size() == 1);
    CHECK(read(one.layer(1)) == before);
    one.check_whole();
}

TEST_CASE("a repair of an intact repository changes nothing")
{
    const kept_image one(true);
    const auto report = get(one.repository.repair());
    CHECK(report.ok());
    CHECK(report.mended.empty());
    one.check_whole();
}

// Blobs that are kept on import and exported unchanged.
#include <overmount/overmount.hpp>
#include <overmount/own_policies.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"

#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>

#include <fstream>
#include <map>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::compression;
using om::digest;
using om::errc;
using om::import_options;
using om::test::image_source;
using om::test::oci_layout_writer;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

std::string content(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// The files below a directory; none if it does not exist.
std::map<std::string, std::string> files_in(const fs::path& directory)
{
    std::map<std::string, std::string> out;
    if (fs::exists(directory))
        for (const auto& one : fs::recursive_directory_iterator(directory))
            if (one.is_regular_file())
                out[fs::relative(one.path(), directory)] = content(one.path());
    return out;
}

std::string text_of(std::size_t size, char first)
{
    std::string out;
    while (out.size() < size)
        out += first + std::to_string(out.size() * 7919);
    return out;
}

std::vector<std::string> tars()
{
    return {tar_writer().file("a", text_of(400'000, 'a')).finish(), tar_writer().file("b", "b").finish()};
}

import_options keeping()
{
    return import_options().keep_blobs().wanted({"linux", "amd64"});
}

template <class Storage>
class place
{
public:
    using repository = om::basic_repository<Storage, om::no_mount>;

    // Writes a layout with a named image; returns the text of its manifest.
    om::test::file_set make(const std::vector<om::test::layer_source>& layers, const std::string& name = "example.org/a:1")
    {
        oci_layout_writer writer;
        image = writer.add(image_source{.layers = layers, .tags = {name}});
        return writer.finish();
    }
    om::test::file_set make(compression kind)
    {
        return make({{tars()[0], kind}, {tars()[1], kind}, {tars()[0], kind}});
    }
    fs::path write(const om::test::file_set& files, const char* name = "source")
    {
        fs::remove_all(scratch / name);
        files.write_directory(scratch / name);
        return scratch / name;
    }
    template <class Source>
    void import(Source source, import_options options = keeping())
    {
        const auto made = get(kept.import_images(std::move(source), std::move(options)));
        CHECK(made.at(0).id() == image);
    }
    template <class Source>
    boost::system::error_code import_failure(Source source)
    {
        try {
            static_cast<void>(get(kept.import_images(std::move(source), keeping())));
        } catch (const om::error& failure) {
            return failure.code();
        }
        return {};
    }
    // The blobs of the exported image.
    std::map<std::string, std::string> written(om::export_options options = om::export_options())
    {
        fs::remove_all(scratch / "out");
        om::oci_layout_target target(scratch / "out");
        test::run_coroutine(kept.find_image(image.string()).export_to(std::move(target), std::move(options)));
        return files_in(scratch / "out/blobs");
    }
    std::map<std::string, std::string> written_archive()
    {
        om::oci_archive_target target((scratch / "out.tar").string());
        test::run_coroutine(kept.find_image(image.string()).export_to(std::move(target)));
        fs::remove_all(scratch / "untarred");
        fs::create_directory(scratch / "untarred");
        REQUIRE(om::test::run_quietly({"tar", "-C", (scratch / "untarred").c_str(), "-xf", (scratch / "out.tar").c_str()}) ==
                0);
        return files_in(scratch / "untarred/blobs");
    }
    [[nodiscard]] auto blobs() const { return files_in(scratch / "repository/blobs"); }
    [[nodiscard]] bool nothing_pending() const
    {
        for (const char* part : {"tmp", "leases", "claims"})
            if (!fs::is_empty(scratch / "repository" / part))
                return false;
        return true;
    }

    scratch_directory scratch;
    repository kept = get(repository::open(scratch / "repository", om::repository_options().workers(2)));
    digest image = digest::of("");
};

std::string blob_path(const std::string& bytes)
{
    return "sha256/" + digest::of(bytes).hex();
}

} // namespace

TEMPLATE_TEST_CASE("an image whose blobs were kept is exported with all of them unchanged", "", om::on_disk_storage,
                   om::virtual_storage)
{
    for (const compression kind : {compression::gzip, compression::zstd, compression::none}) {
        place<TestType> at;
        const auto files = at.make(kind);
        const fs::path source = at.write(files);
        const auto wanted = files_in(source / "blobs");
        REQUIRE(wanted.size() == 4); // two layers, config, manifest
        const auto check = [&](const char* what) {
            CAPTURE(what, to_string(kind));
            CHECK(at.blobs() == wanted);
            CHECK((at.written() == wanted));
            CHECK((at.written_archive() == wanted));
            CHECK(at.nothing_pending());
            CHECK(get(at.kept.check()).ok());
            fs::remove_all(at.scratch / "repository/blobs/sha256");
        };
        at.import(om::oci_layout(source.string()));
        check("a directory");
        files.write_tar(at.scratch / "source.tar");
        at.import(om::oci_layout((at.scratch / "source.tar").string()));
        check("a tar, of layers that are there");
        std::ofstream(at.scratch / "source.tar.gz", std::ios::binary) << om::test::gzip(files.tar());
        at.import(om::archive_file((at.scratch / "source.tar.gz").string()));
        check("a tar that is compressed as a whole");
        place<TestType> other;
        other.image = at.image;
        other.import(om::archive_file((at.scratch / "source.tar.gz").string()));
        CHECK((other.written() == wanted));
    }
}

TEST_CASE("blobs are kept of a streamed archive, and of one in docker's new format")
{
    place<om::virtual_storage> at;
    om::test::docker_archive_writer writer(om::test::docker_layout::blobs);
    const std::vector<om::test::layer_source> layers{{tars()[0], compression::none}, {tars()[1], compression::none}};
    at.image = writer.add(image_source{.layers = layers, .tags = {"example.org/a:1"}});
    const auto& files = writer.finish();
    files.write_tar(at.scratch / "docker.tar");
    at.import(om::docker_archive((at.scratch / "docker.tar").string()));
    const auto wanted = at.written();
    CHECK(wanted == at.blobs());
    CHECK(wanted.size() == 4);
    for (const auto& [path, bytes] : wanted)
        CHECK((files.content("blobs/" + path) == bytes));

    place<om::virtual_storage> streamed;
    asio::io_context context;
    asio::local::stream_protocol::socket from(context), to(context);
    asio::local::connect_pair(from, to);
    std::exception_ptr ended;
    const std::string tar = files.tar();
    asio::co_spawn(context,
                   streamed.kept.import_images(om::archive_stream(om::byte_stream(std::move(from))), keeping()),
                   [&ended](std::exception_ptr failure, const auto&) { ended = failure; });
    asio::async_write(to, asio::buffer(tar), [&to](boost::system::error_code, std::size_t) { to.close(); });
    context.run_for(std::chrono::seconds(60));
    if (ended)
        std::rethrow_exception(ended);
    streamed.image = at.image;
    CHECK((streamed.written() == wanted));
    CHECK(streamed.nothing_pending());
}

TEST_CASE("an archive without a manifest has no blobs to keep")
{
    place<om::virtual_storage> at;
    om::test::docker_archive_writer writer;
    at.image = writer.add(image_source{.layers = {{tars()[0]}}, .tags = {"example.org/a:1"}});
    writer.finish().write_tar(at.scratch / "docker.tar");
    at.import(om::docker_archive((at.scratch / "docker.tar").string()));
    CHECK(at.blobs().empty());
    CHECK(at.written().contains(blob_path(tars()[0])));
}

TEST_CASE("an image is compressed anew if a blob is missing or truncated, or another compression is requested")
{
    place<om::virtual_storage> at;
    const fs::path source = at.write(at.make(compression::gzip));
    at.import(om::oci_layout(source.string()));
    const auto wanted = files_in(source / "blobs");
    const std::string layer = blob_path(om::test::gzip(tars()[0]));
    const auto is_new = [&](const std::map<std::string, std::string>& written) {
        return written.contains("sha256/" + at.image.hex()) && !written.contains(layer);
    };
    REQUIRE((at.written() == wanted));
    CHECK(is_new(at.written(om::export_options().encoding(om::layer_encoding()))));
    CHECK(is_new(at.written(om::export_options().encoding(om::layer_encoding(compression::zstd)))));
    const fs::path blob = at.scratch / "repository/blobs" / layer;
    SECTION("missing")
    {
        fs::remove(blob);
    }
    SECTION("truncated")
    {
        fs::resize_file(blob, 100);
    }
    SECTION("no manifest")
    {
        fs::remove(at.scratch / "repository/blobs" / blob_path(om::test::gzip(tars()[1])));
        const auto again = at.written();
        CHECK(is_new(again));
        CHECK(again.contains(blob_path(tars()[1])));
    }
    CHECK(is_new(at.written()));
    om::oci_layout back((at.scratch / "out").string());
    place<om::virtual_storage> other;
    other.image = at.image;
    other.import(std::move(back), import_options());
    CHECK(other.kept.find_image(at.image.string()).layers().size() == 3);
}

TEST_CASE("a docker archive has uncompressed layers even if blobs were kept")
{
    place<om::virtual_storage> at;
    at.import(om::oci_layout(at.write(at.make(compression::gzip)).string()));
    om::docker_archive_target target((at.scratch / "docker.tar").string());
    test::run_coroutine(at.kept.find_image(at.image.string()).export_to(std::move(target)));
    CHECK(content(at.scratch / "docker.tar").find(tars()[0]) != std::string::npos);
}

TEST_CASE("a damaged kept blob makes the export fail, and a check reports it")
{
    place<om::virtual_storage> at;
    at.import(om::oci_layout(at.write(at.make(compression::gzip)).string()));
    const std::string layer = blob_path(om::test::gzip(tars()[0]));
    std::string bytes = content(at.scratch / "repository/blobs" / layer);
    bytes[50] = static_cast<char>(bytes[50] ^ 1);
    std::ofstream(at.scratch / "repository/blobs" / layer, std::ios::binary) << bytes;
    try {
        static_cast<void>(at.written());
        FAIL("it was written");
    } catch (const om::error& failure) {
        CHECK(failure.code() == errc::invalid_asset);
    }
    CHECK(!fs::exists(at.scratch / "out"));
    const auto report = get(at.kept.check());
    REQUIRE(report.findings.size() == 1);
    CHECK(report.findings[0].kind == om::finding_kind::blob_changed);
    CHECK(report.findings[0].object == "sha256:" + layer.substr(7));
}

TEMPLATE_TEST_CASE("an import that fails keeps no blob", "", om::on_disk_storage, om::virtual_storage)
{
    place<TestType> at;
    auto files = at.make(compression::gzip);
    const std::string whole = om::test::gzip(tars()[1]);
    std::string spoilt = whole;
    spoilt[spoilt.size() - 6] = static_cast<char>(spoilt[spoilt.size() - 6] ^ 1);
    files.replace("blobs/" + blob_path(whole), spoilt);
    CHECK(at.import_failure(om::oci_layout(at.write(files).string())) == om::condition::corrupt_input);
    CHECK(at.blobs().empty());
    CHECK(at.nothing_pending());
    std::ofstream(at.scratch / "source.tar.gz", std::ios::binary) << om::test::gzip(files.tar());
    CHECK(at.import_failure(om::archive_file((at.scratch / "source.tar.gz").string())) == om::condition::corrupt_input);
    CHECK(at.blobs().empty());
    CHECK(at.nothing_pending());
    // The same if the layers already exist.
    at.import(om::oci_layout(at.write(at.make(compression::gzip)).string()), import_options());
    CHECK(at.import_failure(om::oci_layout(at.write(files).string())) == om::condition::corrupt_input);
    CHECK(at.blobs().empty());
    CHECK(at.nothing_pending());
}

TEST_CASE("a blob that is not its layer's tar is not kept, even if the layer already exists")
{
    place<om::virtual_storage> at;
    at.import(om::oci_layout(at.write(at.make({{tars()[0]}})).string()), import_options());
    // Its config names the first tar, its manifest the blob of the second.
    oci_layout_writer writer;
    const auto layer = writer.add_blob("application/vnd.oci.image.layer.v1.tar+gzip", om::test::gzip(tars()[1]));
    const auto config = writer.add_blob("application/vnd.oci.image.config.v1+json",
                                        image_source{.layers = {{tars()[0]}}}.config_text());
    const std::string type = "application/vnd.oci.image.manifest.v1+json";
    const auto document = om::test::json_object({{"schemaVersion", "2"},
                                                 {"mediaType", om::test::json_string(type)},
                                                 {"config", config},
                                                 {"layers", om::test::json_array({layer})}});
    writer.list(writer.add_blob(type, document), {"example.org/a:1"});
    const fs::path source = at.write(writer.finish());
    CHECK(at.import_failure(om::oci_layout(source.string())) == errc::diff_id_mismatch);
    CHECK(at.blobs().empty());
    // An import that keeps no blobs succeeds. That manifest is then not exported, even if another image keeps its blob.
    at.import(om::oci_layout(source.string()), import_options());
    place<om::virtual_storage> other;
    const fs::path honest = other.write(other.make({{tars()[1]}}, "example.org/b:1"));
    static_cast<void>(get(at.kept.import_images(om::oci_layout(honest.string()), keeping())));
    CHECK(at.blobs().contains(blob_path(om::test::gzip(tars()[1]))));
    const auto out = at.written();
    CHECK(out.contains(blob_path(tars()[0])));
    CHECK_FALSE(out.contains(blob_path(om::test::gzip(tars()[1]))));
}

TEST_CASE("an image with several manifests is exported with that of its tag")
{
    place<om::virtual_storage> at;
    const fs::path first = at.write(at.make({{tars()[0], compression::gzip}}, "example.org/a:1"));
    const fs::path second = at.write(at.make({{tars()[0], compression::zstd}}, "example.org/b:1"), "second");
    at.import(om::oci_layout(first.string()));
    at.import(om::oci_layout(second.string()));
    CHECK((at.written(om::export_options().name(at.image, "example.org/a:1")) == files_in(first / "blobs")));
    CHECK((at.written(om::export_options().name(at.image, "example.org/b:1")) == files_in(second / "blobs")));
    // A manifest without a tag is used too.
    get(at.kept.remove_tag("example.org/a:1"));
    get(at.kept.remove_tag("example.org/b:1"));
    CHECK(at.written().size() == 3);
}

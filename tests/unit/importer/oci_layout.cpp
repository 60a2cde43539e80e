#include <overmount/importer/oci_layout.hpp>

#include "support/catch.hpp"
#include "support/found_images.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace {

using overmount::diff_id;
using overmount::digest;
using overmount::errc;
using overmount::limits;
using overmount::oci_layout;
using overmount::stage;
using namespace overmount::test;

using texts = std::vector<std::string>;

const std::string index_type = "application/vnd.oci.image.index.v1+json";
const std::string manifest_type = "application/vnd.oci.image.manifest.v1+json";
const std::string ref_name = "org.opencontainers.image.ref.name";
const std::string image_name = "io.containerd.image.name";

image_source small_image(const std::string& name, const std::string& architecture = "amd64")
{
    return {.layers = {{small_tar(name)}}, .architecture = architecture};
}

std::string index_of(const std::vector<std::string>& entries)
{
    return json_object(
        {{"schemaVersion", "2"}, {"mediaType", json_string(index_type)}, {"manifests", json_array(entries)}});
}

// A descriptor with annotations.
std::string named(std::string descriptor, const std::vector<std::pair<std::string, std::string>>& names)
{
    std::string members;
    for (const auto& [key, value] : names)
        members += (members.empty() ? "" : ",") + json_string(key) + ":" + json_string(value);
    return descriptor.insert(descriptor.size() - 1, ",\"annotations\":{" + members + "}");
}

std::string directory_of(const scratch_directory& scratch, const file_set& files)
{
    files.write_directory(scratch / "layout");
    return (scratch / "layout").string();
}

std::string blob_name(const std::string& content)
{
    return "blobs/sha256/" + digest::of(content).hex();
}

// The path of the blob that a descriptor made by the writer refers to.
std::string blob_of(const std::string& descriptor)
{
    return "blobs/sha256/" + descriptor.substr(descriptor.find("sha256:") + 7, 64);
}

// The error of discovering the images in these files; checks that its text is one line.
overmount::error failure_of(const file_set& files, const std::string& name = {},
                            const limits& bounds = limits())
{
    const scratch_directory scratch;
    const auto failure =
        discovery_failure(oci_layout(directory_of(scratch, files), name), {"linux", "amd64"}, bounds);
    CHECK(std::string(failure.what()).find('\n') == std::string::npos);
    return failure;
}

TEST_CASE("an image of a layout is found with its documents byte for byte and its layers in order")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    const image_source image{.layers = {{small_tar("a")}, {small_tar("b"), overmount::compression::none}},
                             .tags = {"docker.io/library/x:1"}};
    const digest id = writer.add(image);
    const auto found = discover(oci_layout(directory_of(scratch, writer.finish())));
    REQUIRE(found.size() == 1);
    CHECK(found[0].config.id() == id);
    CHECK(found[0].config.bytes() == image.config_text());
    CHECK(found[0].tags == texts{"docker.io/library/x:1"});
    REQUIRE(found[0].manifest);
    CHECK(writer.files().content(blob_name(*found[0].manifest)) == *found[0].manifest);
    CHECK_FALSE(found[0].index);
    REQUIRE(found[0].layers.size() == 2);
    CHECK(found[0].layers[0].promised == overmount::compression::gzip);
    CHECK(found[0].layers[1].promised == overmount::compression::none);
    CHECK(tars_of(found[0]) == texts{small_tar("a"), small_tar("b")});
}

TEST_CASE("an index in an index leads to the image of the wanted platform, and the outermost is kept")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    const auto inner =
        index_of({writer.add_manifest(small_image("arm", "arm64")), writer.add_manifest(small_image("amd"))});
    const auto outer = index_of({writer.add_blob(index_type, inner)});
    writer.list(writer.add_blob(index_type, outer), {"example.org/x:1"});
    const std::string path = directory_of(scratch, writer.finish());
    const auto amd = discover(oci_layout(path)), arm = discover(oci_layout(path), {"linux", "arm64", "v8"});
    REQUIRE(amd.size() == 1);
    CHECK(tars_of(amd[0]) == texts{small_tar("amd")});
    CHECK(tars_of(arm.at(0)) == texts{small_tar("arm")});
    CHECK(amd[0].index == outer);
    CHECK(arm[0].index == outer);
    CHECK(amd[0].tags == texts{"example.org/x:1"});

    limits bounds;
    bounds.index_depth = 2;
    const auto failure = discovery_failure(oci_layout(path), {"linux", "amd64"}, bounds);
    CHECK(failure.code() == errc::invalid_index);
    CHECK(failure.at() == stage::manifest);
}

TEST_CASE("an index without the wanted platform is an error that lists its platforms")
{
    oci_layout_writer writer;
    writer.add_index(
        {small_image("a", "s390x"), {.layers = {{small_tar("b")}}, .architecture = "arm", .variant = "v7"}},
        {"x"});
    const auto failure = failure_of(writer.finish());
    CHECK(failure.code() == errc::no_matching_platform);
    CHECK(failure.at() == stage::manifest);
    CHECK(failure.subject() == "linux/amd64");
    CHECK(failure.detail() == "the platforms in the index are: linux/s390x, linux/arm/v7");
    CHECK(failure.entry().starts_with("blobs/sha256/"));
}

TEST_CASE("entries with the same name are platforms of one image")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    writer.list(writer.add_manifest(small_image("arm", "arm64")), {"latest"});
    writer.list(writer.add_manifest(small_image("amd")), {"latest"});
    writer.list(writer.add_manifest(small_image("no name")), {});
    writer.list(writer.add_manifest(small_image("no name either", "arm64")), {});
    const std::string path = directory_of(scratch, writer.finish());
    const auto found = discover(oci_layout(path));
    REQUIRE(found.size() == 2);
    CHECK(tars_of(found[0]) == texts{small_tar("amd")});
    CHECK(tars_of(found[1]) == texts{small_tar("no name")});
    const auto failure = discovery_failure(oci_layout(path, "latest"), {"linux", "s390x"});
    CHECK(failure.code() == errc::no_matching_platform);
    CHECK(failure.detail() == "the platforms in the index are: linux/arm64, linux/amd64");
    CHECK(failure.entry() == "index.json");
}

TEST_CASE("entries with neither name nor platform are images of their own")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    for (const std::string name : {"a", "b"}) {
        auto entry = writer.add_manifest(small_image(name));
        entry.erase(entry.find(",\"platform\""));
        writer.list(entry + "}", {});
    }
    const auto found = discover(oci_layout(directory_of(scratch, writer.finish())));
    REQUIRE(found.size() == 2);
    CHECK(tars_of(found[0]) == texts{small_tar("a")});
    CHECK(tars_of(found[1]) == texts{small_tar("b")});
    CHECK(found[0].tags.empty());
}

TEST_CASE("two images with the same name and no platform are ambiguous")
{
    oci_layout_writer writer;
    for (const std::string name : {"a", "b"}) {
        auto entry = writer.add_manifest(small_image(name));
        entry.erase(entry.find(",\"platform\""));
        writer.list(entry + "}", {"latest"});
    }
    const auto failure = failure_of(writer.finish());
    CHECK(failure.code() == errc::ambiguous_image);
    CHECK(failure.at() == stage::manifest);
    CHECK(failure.subject() == "latest");
}

TEST_CASE("an image is found by its reference name, or by any form of its full name")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    // containerd: the tag alone does not name an image; both images have the same.
    writer.list(named(writer.add_manifest(small_image("a")),
                      {{image_name, "docker.io/library/a:latest"}, {ref_name, "latest"}}),
                {});
    writer.list(named(writer.add_manifest(small_image("b")),
                      {{image_name, "docker.io/library/b:latest"}, {ref_name, "latest"}}),
                {});
    writer.list(writer.add_manifest(small_image("c")), {"example.org/c:1"});
    writer.list(writer.add_manifest(small_image("d")), {"any text: not a name!"});
    writer.list(writer.add_manifest(small_image("e")), {"1.36"});
    const std::string path = directory_of(scratch, writer.finish());
    CHECK(discover(oci_layout(path)).size() == 5);
    const std::tuple<std::string, std::string, texts> rows[] = {
        {"docker.io/library/a:latest", "a", {"docker.io/library/a:latest"}},
        {"library/b:latest", "b", {"docker.io/library/b:latest"}},
        {"docker.io/b", "b", {"docker.io/library/b:latest"}},
        {"example.org/c:1", "c", {"example.org/c:1"}},
        {"any text: not a name!", "d", {}},
        {"1.36", "e", {}},
    };
    for (const auto& [name, layer, tags] : rows) {
        INFO(name);
        const auto found = discover(oci_layout(path, name));
        REQUIRE(found.size() == 1);
        CHECK(tars_of(found[0]) == texts{small_tar(layer)});
        CHECK(found[0].tags == tags);
    }
    CHECK(discover(oci_layout(path, "latest")).size() == 2);
    for (const std::string name : {"docker.io/library/1.36:latest", "example.org/c", "c:1", "A"}) {
        INFO(name);
        const auto failure = discovery_failure(oci_layout(path, name));
        CHECK(failure.code() == errc::missing_image);
        CHECK(failure.subject() == name);
        CHECK(failure.detail() == "the images in the index are: docker.io/library/a:latest, docker.io/library/b:latest, "
                                  "example.org/c:1, any text: not a name!, 1.36");
    }
}

TEST_CASE("an archive of a layout may have its members in any order, and their names in any form")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    writer.add({.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x"}});
    const file_set& files = writer.finish();
    const auto check_archive = [&](const std::string& tar) {
        const auto found = discover(oci_layout(written(scratch / "archive", tar)));
        REQUIRE(found.size() == 1);
        CHECK(tars_of(found[0]) == texts{small_tar("a"), small_tar("b")});
    };
    SECTION("as written")
    {
        check_archive(files.tar());
    }
    SECTION("index.json last, or first")
    {
        tar_writer last;
        auto paths = files.paths();
        std::ranges::reverse(paths);
        for (const auto& path : paths)
            last.file(path, files.content(path));
        check_archive(last.finish());
    }
    SECTION("with ./ in front, and directories")
    {
        tar_writer out;
        out.directory("./").directory("./blobs").directory("./blobs/sha256");
        for (const auto& path : files.paths())
            out.file("./" + path, files.content(path));
        check_archive(out.finish());
    }
    SECTION("blobs as hard links and symbolic links to others")
    {
        tar_writer out;
        int number = 0;
        for (const auto& path : files.paths()) {
            const std::string other = "other/" + std::to_string(number++);
            if (number % 2 == 0)
                out.file(other, files.content(path)).hard_link(path, "./" + other);
            else // a link may precede its target
                out.symlink(path, std::string(path.starts_with("blobs") ? "../../" : "") + other)
                    .file(other, files.content(path));
        }
        check_archive(out.finish());
    }
    SECTION("a blob that occurs twice: the later one replaces the earlier one, as in tar")
    {
        tar_writer out;
        for (const auto& path : files.paths())
            out.file(path, files.content(path));
        const std::string blob = files.paths().at(1);
        out.symlink(blob, "/else").file("else", files.content(blob));
        check_archive(out.finish());
    }
    SECTION("without an end marker")
    {
        tar_writer out;
        for (const auto& path : files.paths())
            out.file(path, files.content(path));
        check_archive(out.bytes());
    }
}

TEST_CASE("an invalid, truncated or ambiguous archive is refused, and named")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    writer.add({.layers = {{small_tar("a")}}, .tags = {"x"}});
    const file_set& files = writer.finish();
    const auto failure_in = [&](const std::string& content) {
        const std::string path = written(scratch / "archive", content);
        const auto failure = discovery_failure(oci_layout(path));
        CHECK(failure.at() == stage::source);
        CHECK(failure.subject() == path);
        return failure;
    };
    CHECK(failure_in("").code() == errc::unknown_archive_format);
    CHECK(failure_in("hello").code() == errc::truncated_stream);
    CHECK(failure_in(std::string(2000, 'x')).code() == errc::malformed_tar);
    CHECK(failure_in(files.tar().substr(0, 1500)).code() == errc::truncated_stream);
    CHECK(failure_in(gzip(files.tar())).detail() == "the archive is compressed as a whole; import it as archive_file");
    CHECK(failure_in(tar_writer().file("a", "b").finish()).detail() == "it has no oci-layout");
    tar_writer twice;
    for (const auto& path : files.paths())
        twice.file(path, files.content(path));
    twice.file("./index.json", index_of({}));
    CHECK(failure_in(twice.finish()).code() == errc::malformed_tar);
    CHECK(failure_in(twice.finish()).entry() == "index.json");
    CHECK(failure_in(tar_writer().file("../index.json", "{}").finish()).code() == errc::entry_escapes_layer);
    CHECK(failure_in(tar_writer().hard_link("index.json", "../../etc/passwd").finish()).code() ==
          errc::entry_escapes_layer);
    // `..` of the archive's root is its root.
    tar_writer outside;
    outside.symlink("oci-layout", "../../../../../../../../etc/hostname")
        .symlink("index.json", "/etc/hostname");
    CHECK(failure_in(outside.finish()).detail() == "it has no oci-layout");
    CHECK(failure_in(tar_writer().symlink("oci-layout", "a").symlink("a", "oci-layout").finish()).detail() ==
          "it has no oci-layout");
    CHECK(discovery_failure(oci_layout("/dev/null")).code() == errc::unknown_archive_format);
    const auto absent = discovery_failure(oci_layout((scratch / "absent").string()));
    CHECK(absent.code() == overmount::condition::not_found);
    CHECK(absent.at() == stage::source);
}

TEST_CASE("a directory that is not a layout of version 1.0.0 is refused")
{
    oci_layout_writer writer;
    writer.add(small_image("a"));
    file_set& files = writer.finish();
    SECTION("no oci-layout")
    {
        files.remove("oci-layout");
        CHECK(failure_of(files).code() == errc::unknown_archive_format);
    }
    SECTION("no index.json")
    {
        files.remove("index.json");
        CHECK(failure_of(files).detail() == "it has no index.json");
    }
    SECTION("another version")
    {
        files.replace("oci-layout", R"({"imageLayoutVersion":"2.0.0"})");
        CHECK(failure_of(files).code() == errc::unknown_archive_format);
    }
    SECTION("an oci-layout without a version")
    {
        files.replace("oci-layout", "{}");
        CHECK(failure_of(files).subject() == "imageLayoutVersion");
        CHECK(failure_of(files).entry() == "oci-layout");
    }
    SECTION("a broken index")
    {
        files.replace("index.json", "{");
        CHECK(failure_of(files).code() == errc::malformed_json);
        CHECK(failure_of(files).entry() == "index.json");
    }
    SECTION("an index.json without images")
    {
        files.replace("index.json", index_of({}));
        CHECK(failure_of(files).code() == errc::missing_image);
        CHECK(failure_of(files).detail() == "the images in the index are: none");
    }
}

TEST_CASE("the error for a document that is missing or does not match its descriptor has its name and stage")
{
    oci_layout_writer writer;
    const image_source image{.layers = {{small_tar("a")}}, .tags = {"x"}};
    const std::string manifest = blob_of(writer.add_manifest(image)), config = blob_name(image.config_text());
    writer.add(image);
    file_set& files = writer.finish();
    for (const std::string& document : {manifest, config}) {
        INFO(document);
        const std::string content = files.content(document);
        const auto check_failure = [&](errc code) {
            const auto failure = failure_of(files);
            CHECK(failure.code() == code);
            CHECK(failure.at() == stage::manifest);
            CHECK(failure.subject() == document);
        };
        files.replace(document, content + " ");
        check_failure(errc::size_mismatch);
        std::string changed = content;
        changed[content.find("sha256:") + 10] ^= 1;
        files.replace(document, changed);
        check_failure(errc::digest_mismatch);
        files.remove(document);
        check_failure(errc::missing_blob);
        files.add(document, content);
    }
}

TEST_CASE("a layer that is missing or has the wrong size is an error before anything is unpacked")
{
    oci_layout_writer writer;
    writer.add({.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x"}});
    file_set& files = writer.finish();
    const std::string blob = blob_name(gzip(small_tar("b"))), id = digest::of(small_tar("b")).string();
    files.replace(blob, gzip(small_tar("b")) + "x");
    auto failure = failure_of(files);
    CHECK(failure.code() == errc::size_mismatch);
    files.remove(blob);
    failure = failure_of(files);
    CHECK(failure.code() == errc::missing_blob);
    CHECK(failure.at() == stage::source);
    CHECK(failure.layer() == id);
    CHECK(failure.subject() == blob);
}

TEST_CASE(
    "a layer whose bytes are not those of its digest, or not as its media type says, fails when it is read")
{
    const scratch_directory scratch;
    oci_layout_writer writer;
    writer.add({.layers = {{small_tar("a")}}});
    file_set& files = writer.finish();
    const std::string whole = gzip(small_tar("a")), blob = blob_name(whole);
    std::string changed = whole;
    changed[4] = static_cast<char>(changed[4] ^ 1); // the time in the gzip header: it unpacks to the same tar
    const auto failure = [&](const std::string& content) {
        files.replace(blob, content);
        const scratch_directory own;
        const auto found = discover(oci_layout(directory_of(own, files)));
        try {
            (void)tar_of(found.at(0).layers.at(0));
        } catch (const overmount::error& error) {
            CHECK(error.at() == stage::decode);
            return error;
        }
        throw std::logic_error("no error");
    };
    CHECK(failure(changed).code() == errc::digest_mismatch);
    CHECK(failure(std::string(whole.size(), 'x')).code() == errc::unsupported_media_type);
}

TEST_CASE("media types that do not belong to an image are refused, and the error has the field")
{
    oci_layout_writer writer;
    const auto add = [&](const std::string& layer_type, const std::string& listed_type) {
        const image_source image{.layers = {{small_tar("a")}}};
        const auto manifest = json_object(
            {{"schemaVersion", "2"},
             {"config", writer.add_blob("application/vnd.oci.image.config.v1+json", image.config_text())},
             {"layers", json_array({writer.add_blob(layer_type, gzip(small_tar("a")))})}});
        writer.list(writer.add_blob(listed_type, manifest), {"x"});
        return blob_name(manifest);
    };
    SECTION("of a layer")
    {
        const std::string path = add("application/vnd.oci.image.layer.v1.tar+lzma", manifest_type);
        const auto failure = failure_of(writer.finish());
        CHECK(failure.code() == errc::unsupported_media_type);
        CHECK(failure.at() == stage::manifest);
        CHECK(failure.entry() == path);
        CHECK(failure.detail() == "layers[0]: this is not the media type of a layer");
    }
    SECTION("of a manifest")
    {
        const std::string path =
            add("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.artifact");
        const auto failure = failure_of(writer.finish());
        CHECK(failure.code() == errc::unsupported_media_type);
        CHECK(failure.at() == stage::manifest);
        CHECK(failure.entry() == path);
        CHECK(failure.subject() == "application/vnd.oci.artifact");
    }
}

TEST_CASE("a config whose number of layers differs from its manifest is refused")
{
    oci_layout_writer writer;
    image_source image{.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x"}};
    image.config = image_source{.layers = {{small_tar("a")}}}.config_text();
    writer.add(image);
    const auto failure = failure_of(writer.finish());
    CHECK(failure.code() == errc::invalid_config);
    CHECK(failure.entry() == blob_name(image.config));
}

TEST_CASE("the size of documents is limited, individually and in total")
{
    oci_layout_writer writer;
    for (int i = 0; i < 20; ++i)
        writer.add({.layers = {{small_tar(std::to_string(i))}}, .tags = {"x" + std::to_string(i)}});
    const file_set& files = writer.finish();
    limits bounds;
    bounds.all_json_bytes = files.content("index.json").size() + 3000;
    auto failure = failure_of(files, {}, bounds);
    CHECK(failure.code() == errc::json_limit_exceeded);
    CHECK(failure.detail() == "the documents of the archive are too large together");
    bounds = limits();
    bounds.json_bytes = 100;
    failure = failure_of(files, {}, bounds);
    CHECK(failure.code() == errc::json_limit_exceeded);
    CHECK(failure.subject() == "index.json");
}

} // namespace

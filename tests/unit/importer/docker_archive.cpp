#include <overmount/importer/docker_archive.hpp>

#include "support/catch.hpp"
#include "support/found_images.hpp"

#include <string>
#include <vector>

namespace {

using overmount::digest;
using overmount::docker_archive;
using overmount::errc;
using overmount::limits;
using overmount::stage;
using namespace overmount::test;

using texts = std::vector<std::string>;

std::string blob_name(const std::string& content)
{
    return "blobs/sha256/" + digest::of(content).hex();
}

std::string archive_of(const scratch_directory& scratch, const file_set& files)
{
    return written(scratch / "archive", files.tar());
}

overmount::error failure_of(const file_set& files, const std::string& name = {},
                            const limits& bounds = limits())
{
    const scratch_directory scratch;
    const auto failure =
        discovery_failure(docker_archive(archive_of(scratch, files), name), {"linux", "amd64"}, bounds);
    CHECK(std::string(failure.what()).find('\n') == std::string::npos);
    return failure;
}

// A manifest.json with one image.
std::string list_of(const std::string& config, const texts& tags, const texts& layers)
{
    texts quoted_tags, quoted_layers;
    for (const auto& tag : tags)
        quoted_tags.push_back(json_string(tag));
    for (const auto& layer : layers)
        quoted_layers.push_back(json_string(layer));
    return json_array({json_object({{"Config", json_string(config)},
                                    {"RepoTags", json_array(quoted_tags)},
                                    {"Layers", json_array(quoted_layers)}})});
}

TEST_CASE("each image of an archive is found with its tags and layers, in the old format and in the new")
{
    const auto form = GENERATE(docker_layout::legacy, docker_layout::blobs);
    const scratch_directory scratch;
    docker_archive_writer writer(form);
    const image_source one{.layers = {{small_tar("a")}, {small_tar("b")}},
                           .tags = {"x:1", "example.org/y:2"}};
    const image_source two{.layers = {{small_tar("a")}, {small_tar("c")}}, .tags = {"user/z"}};
    const image_source three{.layers = {{small_tar("d")}}};
    const digest id = writer.add(one);
    writer.add(two);
    writer.add(three);
    const std::string path = archive_of(scratch, writer.finish());
    const auto found = discover(docker_archive(path));
    REQUIRE(found.size() == 3);
    CHECK(found[0].config.id() == id);
    CHECK(found[0].config.bytes() == one.config_text());
    CHECK(found[0].tags == texts{"docker.io/library/x:1", "example.org/y:2"});
    CHECK(found[0].source == path);
    CHECK(tars_of(found[0]) == texts{small_tar("a"), small_tar("b")});
    CHECK(found[1].tags == texts{"docker.io/user/z:latest"});
    CHECK(tars_of(found[1]) == texts{small_tar("a"), small_tar("c")});
    CHECK(found[2].tags.empty());
    CHECK(tars_of(found[2]) == texts{small_tar("d")});

    for (const std::string name : {"x:1", "docker.io/library/x:1", "example.org/y:2"}) {
        INFO(name);
        const auto chosen = discover(docker_archive(path, name));
        REQUIRE(chosen.size() == 1);
        CHECK(chosen[0].config.id() == id);
    }
    const auto failure = discovery_failure(docker_archive(path, "x:2"));
    CHECK(failure.code() == errc::missing_image);
    CHECK(failure.at() == stage::manifest);
    CHECK(failure.subject() == "x:2");
    CHECK(failure.detail() == "the tags in the archive are: docker.io/library/x:1, example.org/y:2, docker.io/user/z:latest");
}

TEST_CASE("a layer of the old format may be a link to a layer of another image")
{
    const scratch_directory scratch;
    docker_archive_writer writer;
    writer.link_equal_layers();
    writer.add({.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x:1"}});
    writer.add({.layers = {{small_tar("b")}, {small_tar("a")}}, .tags = {"y:1"}});
    const file_set& files = writer.finish();
    const std::string tar = files.tar();
    REQUIRE(tar.find("../") != std::string::npos);
    const auto found = discover(docker_archive(archive_of(scratch, files)));
    REQUIRE(found.size() == 2);
    CHECK(tars_of(found[0]) == texts{small_tar("a"), small_tar("b")});
    CHECK(tars_of(found[1]) == texts{small_tar("b"), small_tar("a")});
}

TEST_CASE("an image of the new format keeps its manifest byte for byte")
{
    const scratch_directory scratch;
    docker_archive_writer writer(docker_layout::blobs);
    writer.add({.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x:1", "x:2"}});
    writer.add({.layers = {{small_tar("a")}}});
    const file_set& files = writer.finish();
    const auto found = discover(docker_archive(archive_of(scratch, files)));
    REQUIRE(found.size() == 2);
    for (const auto& image : found) {
        REQUIRE(image.manifest);
        CHECK(files.content(blob_name(*image.manifest)) == *image.manifest);
        CHECK(overmount::manifest::parse(*image.manifest, limits()).config().digest() == image.config.id());
        CHECK(image.layers[0].promised == overmount::compression::none);
        CHECK_FALSE(image.index);
    }
    CHECK(found[0].manifest != found[1].manifest);
}

// An archive of the new format whose index.json refers to an index, as docker with containerd's store writes it.
class indexed_archive
{
public:
    explicit indexed_archive(const image_source& image) : image_(image) {}

    // Only the documents that must be found in addition to the image itself.
    oci_layout_writer layout{overmount::compression::none};

    file_set& finish(const std::vector<std::string>& entries)
    {
        index = json_object({{"schemaVersion", "2"}, {"manifests", json_array(entries)}});
        layout.list(layout.add_blob("application/vnd.oci.image.index.v1+json", index), {"1"});
        file_set& files = layout.finish();
        texts layers;
        for (const auto& layer : image_.layers) {
            layers.push_back(blob_name(layer.tar));
            files.add(layers.back(), layer.tar);
        }
        files.add(blob_name(image_.config_text()), image_.config_text());
        files.add("manifest.json", list_of(blob_name(image_.config_text()), {"x:1"}, layers));
        return files;
    }
    std::string index;

private:
    image_source image_;
};

TEST_CASE("the index that leads to the manifest is kept, whatever else it refers to")
{
    const scratch_directory scratch;
    const image_source image{.layers = {{small_tar("a")}, {small_tar("b")}}};
    indexed_archive archive(image);
    auto& layout = archive.layout;
    const auto wrong_layers = json_object(
        {{"schemaVersion", "2"},
         {"config", layout.add_blob("application/vnd.oci.image.config.v1+json", image.config_text())},
         {"layers",
          json_array({layout.add_blob("application/vnd.oci.image.layer.v1.tar", small_tar("b")),
                      layout.add_blob("application/vnd.oci.image.layer.v1.tar", small_tar("a"))})}});
    const auto attestation =
        json_object({{"schemaVersion", "2"},
                     {"config", layout.add_blob("application/vnd.oci.image.config.v1+json", "{}")},
                     {"layers", json_array({layout.add_blob("application/vnd.in-toto+json", "{}")})}});
    const std::string type = "application/vnd.oci.image.manifest.v1+json";
    const std::string right = layout.add_manifest(image);
    const std::string absent = layout.add_blob(type, "of another platform");
    file_set& files =
        archive.finish({absent, layout.add_blob(type, wrong_layers), layout.add_blob(type, attestation),
                        layout.add_blob("text/plain", "{"), right});
    files.remove(blob_name("of another platform"));
    const auto found = discover(docker_archive(archive_of(scratch, files)));
    REQUIRE(found.size() == 1);
    REQUIRE(found[0].manifest);
    CHECK(right.find(digest::of(*found[0].manifest).string()) != std::string::npos);
    CHECK(found[0].index == archive.index);
}

TEST_CASE("the names of an archive's members are limited, including links and their targets")
{
    file_set files;
    files.add("manifest.json", "[]");
    limits bounds;
    bounds.member_bytes = 4000;
    CHECK(failure_of(files, {}, bounds).code() == errc::missing_image);
    SECTION("files")
    {
        for (int i = 0; i < 12; ++i)
            files.add(std::string(200, 'n') + std::to_string(i), "");
    }
    SECTION("short links with long targets")
    {
        const std::string directory = std::string(200, 'd') + "/" + std::string(200, 'e');
        for (int i = 0; i < 5; ++i)
            files.add_symlink(directory + "/" + std::to_string(i), "x");
    }
    SECTION("many short names")
    {
        for (int i = 0; i < 30; ++i)
            files.add(std::to_string(i), "");
    }
    const auto failure = failure_of(files, {}, bounds);
    CHECK(failure.code() == errc::too_many_members);
    CHECK(failure.code() == overmount::condition::limit_exceeded);
    CHECK(failure.at() == stage::source);
}

TEST_CASE("an image without a manifest in an archive of the new format keeps none")
{
    const scratch_directory scratch;
    const image_source image{.layers = {{small_tar("a")}}};
    indexed_archive archive(image);
    const auto found = discover(docker_archive(archive_of(scratch, archive.finish({}))));
    REQUIRE(found.size() == 1);
    CHECK_FALSE(found[0].manifest);
    CHECK_FALSE(found[0].index);
    CHECK(tars_of(found[0]) == texts{small_tar("a")});
}

TEST_CASE("the manifests of an archive of the new format are checked")
{
    const image_source image{.layers = {{small_tar("a")}}};
    SECTION("a manifest with a wrong digest")
    {
        indexed_archive archive(image);
        const std::string entry = archive.layout.add_manifest(image);
        file_set& files = archive.finish({entry});
        const std::string path = "blobs/sha256/" + entry.substr(entry.find("sha256:") + 7, 64);
        std::string changed = files.content(path);
        changed[changed.find("sha256:") + 10] ^= 1;
        files.replace(path, changed);
        const auto failure = failure_of(files);
        CHECK(failure.code() == errc::digest_mismatch);
        CHECK(failure.at() == stage::manifest);
        CHECK(failure.subject() == path);
    }
    SECTION("indexes that are nested too deeply")
    {
        indexed_archive archive(image);
        std::string entry = archive.layout.add_manifest(image);
        for (int i = 0; i < 4; ++i)
            entry = archive.layout.add_blob(
                "application/vnd.oci.image.index.v1+json",
                json_object({{"schemaVersion", "2"}, {"manifests", json_array({entry})}}));
        CHECK(failure_of(archive.finish({entry})).code() == errc::invalid_index);
    }
    SECTION("an index may refer to a manifest several times")
    {
        indexed_archive archive(image);
        const std::string entry = archive.layout.add_manifest(image);
        const scratch_directory scratch;
        CHECK(discover(docker_archive(archive_of(scratch, archive.finish({entry, entry, entry})))).size() ==
              1);
    }
}

TEST_CASE("the members of an archive may come in any order and form")
{
    const auto form = GENERATE(docker_layout::legacy, docker_layout::blobs);
    const scratch_directory scratch;
    docker_archive_writer writer(form);
    writer.add({.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x:1"}});
    file_set& files = writer.finish();
    tar_writer tar;
    int number = 0;
    for (auto path = files.paths().rbegin(); path != files.paths().rend(); ++path) {
        const std::string other = "other/" + std::to_string(number++);
        if (path->find('/') == std::string::npos)
            tar.file("./" + *path, files.content(*path));
        else
            tar.hard_link(*path, "./" + other).file(other, files.content(*path));
    }
    const auto found = discover(docker_archive(written(scratch / "archive", tar.finish())));
    REQUIRE(found.size() == 1);
    CHECK(tars_of(found[0]) == texts{small_tar("a"), small_tar("b")});
}

TEST_CASE("a layer that occurs twice in an image is listed twice and stored once")
{
    const auto form = GENERATE(docker_layout::legacy, docker_layout::blobs);
    const scratch_directory scratch;
    docker_archive_writer writer(form);
    writer.add({.layers = {{small_tar("a")}, {small_tar("b")}, {small_tar("a")}}, .tags = {"x:1"}});
    const auto found = discover(docker_archive(archive_of(scratch, writer.finish())));
    CHECK(tars_of(found.at(0)) == texts{small_tar("a"), small_tar("b"), small_tar("a")});
}

TEST_CASE("a layer that is listed twice, but has two diff IDs in the config, is refused")
{
    const scratch_directory scratch;
    const image_source image{.layers = {{small_tar("a")}, {small_tar("b")}}};
    file_set files;
    files.add("config.json", image.config_text());
    files.add("a/layer.tar", small_tar("a"));
    files.add("manifest.json", list_of("config.json", {}, {"a/layer.tar", "a/layer.tar"}));
    const auto found = discover(docker_archive(archive_of(scratch, files)));
    try {
        (void)tars_of(found.at(0));
        FAIL("no error");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::diff_id_mismatch);
        CHECK(failure.at() == stage::decode);
    }
}

TEST_CASE("the error for a missing layer has its file and stage")
{
    const auto form = GENERATE(docker_layout::legacy, docker_layout::blobs);
    docker_archive_writer writer(form);
    writer.add({.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x:1"}});
    file_set& files = writer.finish();
    std::string layer;
    for (const auto& path : files.paths())
        if (files.content(path) == small_tar("b"))
            layer = path;
    files.remove(layer);
    const auto failure = failure_of(files);
    CHECK(failure.code() == errc::missing_blob);
    CHECK(failure.at() == stage::source);
    CHECK(failure.layer() == digest::of(small_tar("b")).string());
    CHECK(failure.subject() == layer);
}

TEST_CASE("the error names a config that is missing or does not match its name")
{
    const auto form = GENERATE(docker_layout::legacy, docker_layout::blobs);
    docker_archive_writer writer(form);
    const image_source image{.layers = {{small_tar("a")}}, .tags = {"x:1"}};
    const std::string hex = writer.add(image).hex();
    const std::string path = form == docker_layout::legacy ? hex + ".json" : "blobs/sha256/" + hex;
    file_set& files = writer.finish();
    files.replace(path, image.config_text() + " ");
    auto failure = failure_of(files);
    CHECK(failure.code() == errc::digest_mismatch);
    CHECK(failure.at() == stage::manifest);
    CHECK(failure.subject() == path);
    files.remove(path);
    failure = failure_of(files);
    CHECK(failure.code() == errc::missing_blob);
    CHECK(failure.subject() == path);
}

TEST_CASE("a path cannot lead out of the archive")
{
    const image_source image{.layers = {{small_tar("a")}}};
    const auto failure_with = [&](const std::string& config, const std::string& layer) {
        file_set files;
        files.add("config.json", image.config_text());
        files.add_symlink("link.tar", "../../../../../../../etc/hostname");
        files.add("manifest.json", list_of(config, {"x:1"}, {layer}));
        return failure_of(files);
    };
    for (const std::string path : {"../../../../../../../../../etc/hostname", "/etc/hostname", "link.tar"}) {
        INFO(path);
        const auto failure = failure_with("config.json", path);
        CHECK(failure.code() == errc::missing_blob);
        CHECK(failure.layer() == digest::of(small_tar("a")).string());
        CHECK(failure_with(path, "link.tar").code() == errc::missing_blob);
        CHECK(failure_with(path, "link.tar").at() == stage::manifest);
    }
}

TEST_CASE("the error for an invalid manifest.json names the field")
{
    const image_source image{.layers = {{small_tar("a")}}};
    const auto failure_with = [&](const std::string& manifest) {
        file_set files;
        files.add("config.json", image.config_text());
        files.add("a.tar", small_tar("a"));
        if (!manifest.empty())
            files.add("manifest.json", manifest);
        const auto failure = failure_of(files);
        CHECK((manifest.empty() || failure.entry() == "manifest.json" || failure.entry() == "config.json"));
        return failure;
    };
    CHECK(failure_with("").code() == errc::unknown_archive_format);
    CHECK(failure_with("").at() == stage::source);
    CHECK(failure_with("[").code() == errc::malformed_json);
    CHECK(failure_with(R"([{"Config":"config.json","Layers":[0]}])").subject() == "[0].Layers[0]");
    CHECK(failure_with(list_of("config.json", {"Not:A:Name"}, {"a.tar"})).code() == errc::invalid_reference);
    CHECK(failure_with(list_of("config.json", {}, {})).code() == errc::invalid_config);
    CHECK(failure_with(list_of("config.json", {}, {"a.tar", "a.tar"})).code() == errc::invalid_config);
}

TEST_CASE("an archive without images is an error")
{
    file_set files;
    files.add("manifest.json", "[]");
    CHECK(failure_of(files).code() == errc::missing_image);
    CHECK(failure_of(files).detail() == "the tags in the archive are: none");
}

TEST_CASE("the total size of the configs of an archive is limited")
{
    const image_source image{.layers = {{small_tar("a")}}};
    file_set files;
    files.add("config.json", image.config_text());
    files.add("a.tar", small_tar("a"));
    const std::string one = R"({"Config":"config.json","Layers":["a.tar"]})";
    files.add("manifest.json", json_array(texts(100, one)));
    limits bounds;
    bounds.all_json_bytes = 50 * image.config_text().size();
    CHECK(failure_of(files, {}, bounds).code() == errc::json_limit_exceeded);
}

} // namespace

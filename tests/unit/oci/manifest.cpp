#include <overmount/core/error.hpp>
#include <overmount/oci/manifest.hpp>

#include "support/catch.hpp"

#include <string>
#include <string_view>
#include <utility>

namespace {

using overmount::compression;
using overmount::errc;
using overmount::limits;
using overmount::manifest;
using overmount::platform;

const std::string oci_manifest = "application/vnd.oci.image.manifest.v1+json";
const std::string oci_index = "application/vnd.oci.image.index.v1+json";
const std::string oci_config = "application/vnd.oci.image.config.v1+json";
const std::string oci_layer = "application/vnd.oci.image.layer.v1.tar";
const std::string docker_manifest = "application/vnd.docker.distribution.manifest.v2+json";
const std::string docker_list = "application/vnd.docker.distribution.manifest.list.v2+json";
const std::string docker_config = "application/vnd.docker.container.image.v1+json";
const std::string docker_layer = "application/vnd.docker.image.rootfs.diff.tar";

std::string digest_of(char digit)
{
    return "sha256:" + std::string(64, digit);
}

std::string blob(const std::string& type, char digit = 'a', const std::string& more = "")
{
    return R"({"mediaType":")" + type + R"(","digest":")" + digest_of(digit) + R"(","size":7)" + more + "}";
}

std::string image(const std::string& layers, const std::string& more = "",
                  const std::string& config = oci_config)
{
    return R"({"schemaVersion":2,"config":)" + blob(config, 'c') + R"(,"layers":[)" + layers + "]" + more +
           "}";
}

std::string list(const std::string& entries, const std::string& more = "")
{
    return R"({"schemaVersion":2,"manifests":[)" + entries + "]" + more + "}";
}

std::string on(char digit, const std::string& os, const std::string& architecture,
               const std::string& variant = "")
{
    return blob(oci_manifest, digit,
                R"(,"platform":{"os":")" + os + R"(","architecture":")" + architecture + "\"" +
                    (variant.empty() ? "" : R"(,"variant":")" + variant + "\"") + "}");
}

template <class Parse>
errc failure_of(Parse parse)
{
    try {
        parse();
    } catch (const overmount::error& failure) {
        return static_cast<errc>(failure.code().value());
    }
    return errc{};
}

errc image_failure(const std::string& text, const limits& bounds = limits())
{
    return failure_of([&] { (void)manifest::parse(text, bounds); });
}

errc index_failure(const std::string& text, const limits& bounds = limits())
{
    return failure_of([&] { (void)overmount::index::parse(text, bounds); });
}

TEST_CASE("an OCI manifest has its config and layers, and keeps its bytes")
{
    const std::string text = image(blob(oci_layer + "+gzip", '1') + " , " + blob(oci_layer, '2'),
                                   R"(,"mediaType":")" + oci_manifest + R"(","unknown":[{"x":null}])");
    const manifest value = manifest::parse(text, limits());
    CHECK(value.bytes() == text);
    CHECK(value.config().digest().string() == digest_of('c'));
    CHECK(value.config().media_type() == oci_config);
    CHECK(value.config().size() == 7);
    REQUIRE(value.layers().size() == 2);
    CHECK(value.layers()[0].blob.digest().string() == digest_of('1'));
    CHECK(value.layers()[0].promised == compression::gzip);
    CHECK(value.layers()[1].blob.digest().string() == digest_of('2'));
    CHECK(value.layers()[1].promised == compression::none);
}

TEST_CASE("a docker manifest of schema 2 is read like an OCI one")
{
    const std::string text =
        image(blob(docker_layer + ".gzip"), R"(,"mediaType":")" + docker_manifest + "\"", docker_config);
    CHECK(manifest::parse(text, limits()).layers().size() == 1);
}

TEST_CASE("the media type of a layer determines its compression")
{
    const std::string foreign = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    const std::pair<std::string, std::optional<compression>> rows[] = {
        {oci_layer, compression::none},
        {oci_layer + "+gzip", compression::gzip},
        {oci_layer + "+zstd", compression::zstd},
        {foreign, compression::none},
        {foreign + "+gzip", compression::gzip},
        {foreign + "+zstd", compression::zstd},
        {docker_layer, std::nullopt},
        {docker_layer + ".gzip", std::nullopt},
    };
    for (const auto& [type, promised] : rows) {
        INFO(type);
        CHECK(manifest::parse(image(blob(type)), limits()).layers().at(0).promised == promised);
    }
}

TEST_CASE("a media type that does not belong to an image is refused, and named")
{
    for (const std::string& type : {std::string(), std::string("text/plain"), oci_layer + "+bzip2",
                                    oci_layer + "+gzip+encrypted", oci_layer + ".gzip", oci_config}) {
        INFO(type);
        try {
            (void)manifest::parse(image(blob(type)), limits());
            FAIL("no error");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::unsupported_media_type);
            CHECK(failure.subject() == type);
        }
    }
    CHECK(image_failure(image("", "", "application/vnd.cncf.helm.config.v1+json")) ==
          errc::unsupported_media_type);
    CHECK(image_failure(image("", R"(,"mediaType":"text/plain")")) == errc::unsupported_media_type);
}

TEST_CASE("docker's schema 1 is refused")
{
    CHECK(image_failure(R"({"schemaVersion":1,"fsLayers":[],"history":[]})") == errc::unsupported_media_type);
}

TEST_CASE("a document that is both a manifest and an index is refused")
{
    const std::string both = image("", R"(,"manifests":[])");
    CHECK(image_failure(both) == errc::invalid_manifest);
    CHECK(index_failure(both) == errc::invalid_index);
    CHECK(image_failure(image("", R"(,"mediaType":")" + oci_index + "\"")) == errc::unsupported_media_type);
}

TEST_CASE("a manifest without a required field is invalid")
{
    const std::string config = blob(oci_config);
    for (const std::string& text :
         {std::string("[]"), std::string("null"), std::string("{}"), std::string(R"({"schemaVersion":2})"),
          R"({"schemaVersion":2,"config":)" + config + "}",
          R"({"schemaVersion":2,"layers":[]})" + std::string(),
          R"({"schemaVersion":2,"layers":{},"config":)" + config + "}",
          R"({"schemaVersion":2,"layers":[null],"config":)" + config + "}",
          R"({"schemaVersion":2,"layers":[1],"config":)" + config + "}",
          std::string(R"({"schemaVersion":2,"layers":[],"config":"x"})")}) {
        INFO(text);
        CHECK(image_failure(text) == errc::invalid_manifest);
    }
}

TEST_CASE("sizes and digests in a manifest must be valid")
{
    const std::string start = R"({"mediaType":")" + oci_layer + R"(","digest":")";
    for (const std::string size : {"-1", "1.5", "\"7\"", "null", "18446744073709551616", "true"}) {
        INFO(size);
        CHECK(image_failure(image(start + digest_of('a') + R"(","size":)" + size + "}")) ==
              errc::invalid_manifest);
    }
    CHECK(image_failure(image(start + digest_of('a') + R"(","size":18446744073709551615})")) == errc{});
    CHECK(image_failure(image(start + R"(sha256:abc","size":1})")) == errc::invalid_digest);
    CHECK(image_failure(image(start + digest_of('A') + R"(","size":1})")) == errc::invalid_digest);
}

TEST_CASE("the number of layers of a manifest is limited")
{
    limits bounds;
    bounds.layers = 2;
    const std::string layer = blob(oci_layer);
    CHECK(image_failure(image(layer + "," + layer), bounds) == errc{});
    CHECK(image_failure(image(layer + "," + layer + "," + layer), bounds) == errc::invalid_manifest);
}

TEST_CASE("documents are read within the limits on JSON")
{
    limits bounds;
    bounds.json_bytes = 20;
    CHECK(image_failure(image(""), bounds) == errc::json_limit_exceeded);
    CHECK(index_failure(list(""), bounds) == errc::json_limit_exceeded);
    CHECK(image_failure("{") == errc::malformed_json);
    CHECK(index_failure("{") == errc::malformed_json);
}

TEST_CASE("an index keeps its bytes and the names and platforms of its entries")
{
    const std::string text = list(on('1', "linux", "arm64", "v8") + "," +
                                      blob(oci_index, '2',
                                           R"(,"annotations":{"org.opencontainers.image.ref.name":"latest",)"
                                           R"("io.containerd.image.name":"docker.io/library/x:1","o":"p"})"),
                                  R"(,"mediaType":")" + oci_index + "\"");
    const auto value = overmount::index::parse(text, limits());
    CHECK(value.bytes() == text);
    REQUIRE(value.entries().size() == 2);
    CHECK(value.entries()[0].platform() == platform("linux", "arm64", "v8"));
    CHECK(value.entries()[0].ref_name().empty());
    CHECK_FALSE(value.entries()[1].platform());
    CHECK(value.entries()[1].ref_name() == "latest");
    CHECK(value.entries()[1].image_name() == "docker.io/library/x:1");
    CHECK(value.entries()[1].media_type() == oci_index);
}

TEST_CASE("an index without a required field is invalid")
{
    for (const std::string text :
         {"{}", "[]", R"({"schemaVersion":2})", R"({"schemaVersion":1,"manifests":[]})",
          R"({"schemaVersion":2,"manifests":[1]})", R"({"schemaVersion":2,"manifests":1})"}) {
        INFO(text);
        CHECK(index_failure(text) == errc::invalid_index);
    }
}

TEST_CASE("the entry that fits a platform best is selected, in any order")
{
    const auto value = overmount::index::parse(
        list(on('0', "unknown", "unknown") + "," + on('1', "linux", "arm", "v5") + "," +
             on('2', "linux", "arm", "v7") + "," + on('3', "linux", "arm", "v6") + "," +
             on('4', "linux", "amd64") + "," + on('5', "windows", "amd64")),
        limits());
    const auto chosen = [&](const std::string& text) {
        return value.select(platform::parse(text)).digest().hex()[0];
    };
    CHECK(chosen("linux/arm/v7") == '2');
    CHECK(chosen("linux/arm/v6") == '3');
    CHECK(chosen("linux/arm/v5") == '1');
    CHECK(chosen("linux/amd64") == '4');
    CHECK(chosen("windows/amd64") == '5');
}

TEST_CASE("an entry without a platform is selected only if no other fits")
{
    const auto value =
        overmount::index::parse(list(blob(oci_manifest, '1') + "," + on('2', "linux", "amd64")), limits());
    CHECK(value.select({"linux", "amd64"}).digest().hex()[0] == '2');
    CHECK(value.select({"linux", "s390x"}).digest().hex()[0] == '1');
}

TEST_CASE("if no entry fits, the error lists the platforms, escaped")
{
    const auto value = overmount::index::parse(
        list(on('1', "linux", "arm", "v7") + "," + on('2', "linux", "a\\n")), limits());
    try {
        (void)value.select({"linux", "s390x"});
        FAIL("no error");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::no_matching_platform);
        CHECK(failure.subject() == "linux/s390x");
        CHECK(failure.detail().find("linux/arm/v7, linux/a\\n") != std::string::npos);
        CHECK(std::string(failure.what()).find('\n') == std::string::npos);
    }
    CHECK(failure_of([] { (void)overmount::index::parse(list(""), limits()).select({"linux", "amd64"}); }) ==
          errc::no_matching_platform);
}

TEST_CASE("indexes are recognised by their media types")
{
    CHECK(overmount::is_index_media_type(oci_index));
    CHECK(overmount::is_index_media_type(docker_list));
    CHECK_FALSE(overmount::is_index_media_type(oci_manifest));
    CHECK_FALSE(overmount::is_index_media_type(""));
}

TEST_CASE("the manifest of a docker archive lists images, with and without tags")
{
    const auto images = overmount::parse_docker_archive_manifest(
        R"([{"Config":"c.json","RepoTags":["x:1","y:2"],"Layers":["1/layer.tar","2/layer.tar"],
             "LayerSources":{}},
            {"Config":"d.json","RepoTags":null,"Layers":[]}])",
        limits());
    REQUIRE(images.size() == 2);
    CHECK(images[0].config == "c.json");
    CHECK(images[0].tags == std::vector<std::string>{"x:1", "y:2"});
    CHECK(images[0].layers == std::vector<std::string>{"1/layer.tar", "2/layer.tar"});
    CHECK(images[1].tags.empty());
    CHECK(images[1].layers.empty());
}

TEST_CASE("the manifest of a docker archive without config or layers is invalid")
{
    const auto failure = [](std::string_view text) {
        limits bounds;
        bounds.layers = 1;
        return failure_of([&] { (void)overmount::parse_docker_archive_manifest(text, bounds); });
    };
    CHECK(failure(R"([{"Layers":[]}])") == errc::invalid_manifest);
    CHECK(failure(R"([{"Config":"c"}])") == errc::invalid_manifest);
    CHECK(failure(R"([{"Config":1,"Layers":[]}])") == errc::invalid_manifest);
    CHECK(failure(R"([{"Config":"c","Layers":[1]}])") == errc::invalid_manifest);
    CHECK(failure(R"([{"Config":"c","Layers":["a","b"]}])") == errc::invalid_manifest);
    CHECK(failure(R"([{"Config":"c","RepoTags":[1],"Layers":[]}])") == errc::invalid_manifest);
    CHECK(failure(R"([1])") == errc::invalid_manifest);
    CHECK(failure(R"([{"Config":"c","Layers":["a"]}])") == errc{});
}

TEST_CASE("an index with the media type or the config of a manifest is refused")
{
    CHECK(index_failure(list("", R"(,"mediaType":")" + oci_manifest + "\"")) == errc::unsupported_media_type);
    CHECK(index_failure(list("", R"(,"config":{})")) == errc::invalid_index);
    CHECK(index_failure(list("", R"(,"mediaType":")" + docker_list + "\"")) == errc{});
}

TEST_CASE("a field that must be a list is invalid if it is not, even if its parts could be elements")
{
    CHECK(index_failure(R"({"schemaVersion":2,"manifests":{"a":)" + blob(oci_manifest) + "}}") ==
          errc::invalid_index);
    CHECK(index_failure(R"({"schemaVersion":2,"manifests":null})") == errc::invalid_index);
    const auto failure = [](std::string_view text) {
        return failure_of([&] { (void)overmount::parse_docker_archive_manifest(text, limits()); });
    };
    CHECK(failure(R"({"a":{"Config":"c","Layers":[]}})") == errc::invalid_manifest);
    CHECK(failure(R"([{"Config":"c","Layers":"layer.tar"}])") == errc::invalid_manifest);
    CHECK(failure("null") == errc::invalid_manifest);
}

TEST_CASE("a media type that only starts like one of docker's is refused")
{
    CHECK(image_failure(image(blob(docker_layer + ".gzip+encrypted"))) == errc::unsupported_media_type);
    CHECK(image_failure(image(blob(docker_layer + ".xz"))) == errc::unsupported_media_type);
    CHECK(image_failure(image(blob(docker_layer + ".zstd"))) == errc{});
}

// The path of the field in an error.
template <class Parse>
std::string place_of(Parse parse)
{
    try {
        parse();
    } catch (const overmount::error& failure) {
        CHECK(failure.at() == overmount::stage::manifest);
        return failure.code() == errc::invalid_manifest || failure.code() == errc::invalid_index
                   ? failure.subject()
                   : failure.detail();
    }
    return "no error";
}

TEST_CASE("an error has the path of the field in the manifest or index")
{
    const auto in_image = [](const std::string& text) {
        return place_of([&] { (void)manifest::parse(text, limits()); });
    };
    const auto in_index = [](const std::string& text) {
        return place_of([&] { (void)overmount::index::parse(text, limits()); });
    };
    const std::string layer = blob(oci_layer);
    CHECK(in_image(image(layer + R"(,{"size":1})")) == "layers[1].digest");
    CHECK(in_image(image(layer + R"(,{"size":1,"digest":"x"})")) == "layers[1].digest");
    CHECK(in_image(image(layer + "," + blob("text/plain"))) == "layers[1]: this is not the media type of a layer");
    CHECK(in_image(image("", "", "text/plain")) == "config: this is not the media type of a config");
    CHECK(in_image(image("", R"(,"mediaType":"text/plain")")) == "mediaType: this is not the media type of a manifest");
    CHECK(in_image("{}") == "schemaVersion");
    CHECK(in_index(list(blob(oci_manifest) + "," + blob(oci_manifest, 'b', R"(,"platform":"linux")"))) ==
          "manifests[1].platform");
    CHECK(in_index(list(blob(oci_manifest, 'b', R"(,"platform":{"os":1})"))) == "manifests[0].platform.os");
    CHECK(in_index(R"({"schemaVersion":3,"manifests":[]})") == "3");
    CHECK(place_of([] {
              (void)overmount::parse_docker_archive_manifest(R"([{"Config":"c","Layers":["a",2]}])",
                                                             limits());
          }) == "[0].Layers[1]");
}

TEST_CASE("a field that readers may interpret differently is refused")
{
    const std::string twice = R"(,"digest":")" + digest_of('b') + "\"";
    CHECK(image_failure(image(blob(oci_layer, 'a', twice))) == errc::invalid_manifest);
    CHECK(image_failure(image("", R"(,"layers":[])")) == errc::invalid_manifest);
    CHECK(image_failure(image("", R"(,"Layers":[])")) == errc::invalid_manifest);
    CHECK(index_failure(list(blob(oci_manifest, 'a', twice))) == errc::invalid_index);
    CHECK(index_failure(list("", R"(,"manifestſ":[])")) == errc::invalid_index);
    CHECK(failure_of([] {
              (void)overmount::parse_docker_archive_manifest(R"([{"Config":"c","config":"d","Layers":[]}])",
                                                             limits());
          }) == errc::invalid_manifest);
    CHECK(index_failure(list(blob(oci_manifest, 'a', R"(,"annotations":{"A":"1","a":"2"})"))) == errc{});
}

TEST_CASE("docker writes null for no layers")
{
    const auto images =
        overmount::parse_docker_archive_manifest(R"([{"Config":"c.json","Layers":null}])", limits());
    CHECK(images.at(0).layers.empty());
}

} // namespace

#include <overmount/oci/manifest.hpp>
#include <overmount/registry/document.hpp>

#include "support/catch.hpp"

#include <optional>
#include <string>
#include <string_view>

namespace {

using overmount::digest;
using overmount::digest_algorithm;
using overmount::errc;
using overmount::limits;
using overmount::registry::accept_header;
using overmount::registry::classify;
using overmount::registry::document_kind;
using overmount::registry::head_is_trusted;
using overmount::registry::verify_document;

const std::string oci_manifest = "application/vnd.oci.image.manifest.v1+json";
const std::string oci_index = "application/vnd.oci.image.index.v1+json";
const std::string docker_manifest = "application/vnd.docker.distribution.manifest.v2+json";
const std::string docker_list = "application/vnd.docker.distribution.manifest.list.v2+json";
const std::string schema_1 = "application/vnd.docker.distribution.manifest.v1+json";
const std::string signed_schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";

std::string typed(const std::string& type)
{
    return R"({"schemaVersion":2,"mediaType":")" + type + "\"}";
}

overmount::error classify_failure(const std::string& type, const std::string& body)
{
    try {
        (void)classify(type, body, limits());
    } catch (const overmount::error& failure) {
        return failure;
    }
    return overmount::error(boost::system::error_code());
}

TEST_CASE("a registry is asked for the four kinds of manifest")
{
    CHECK(accept_header() == oci_manifest + ", " + oci_index + ", " + docker_manifest + ", " + docker_list);
}

TEST_CASE("the Content-Type says what a manifest is")
{
    CHECK(classify(oci_manifest, "{}", limits()) == document_kind::manifest);
    CHECK(classify(docker_manifest, "{}", limits()) == document_kind::manifest);
    CHECK(classify(oci_index, "{}", limits()) == document_kind::index);
    CHECK(classify(docker_list, "{}", limits()) == document_kind::index);
}

TEST_CASE("parameters, spaces and case of a Content-Type do not count")
{
    CHECK(classify(oci_index + "; charset=utf-8", "{}", limits()) == document_kind::index);
    CHECK(classify(" " + oci_index + " ;charset=utf-8", "{}", limits()) == document_kind::index);
    CHECK(classify("Application/VND.OCI.Image.Index.V1+JSON", "{}", limits()) == document_kind::index);
    CHECK(classify("application/json; charset=utf-8", typed(oci_index), limits()) == document_kind::index);
}

TEST_CASE("where the Content-Type says nothing, the media type in the document counts")
{
    for (const std::string type :
         {"", " ", ";charset=utf-8", "application/json", "text/plain", "application/octet-stream", "binary/octet-stream"}) {
        INFO(type);
        CHECK(classify(type, typed(oci_manifest), limits()) == document_kind::manifest);
        CHECK(classify(type, typed(docker_manifest), limits()) == document_kind::manifest);
        CHECK(classify(type, typed(oci_index), limits()) == document_kind::index);
        CHECK(classify(type, typed(docker_list), limits()) == document_kind::index);
    }
}

TEST_CASE("where no media type is stated, the fields of the document count")
{
    CHECK(classify("", R"({"schemaVersion":2,"config":{},"layers":[]})", limits()) == document_kind::manifest);
    CHECK(classify("", R"({"schemaVersion":2,"manifests":[{}]})", limits()) == document_kind::index);
    CHECK(classify("", R"({"mediaType":"","manifests":[{}]})", limits()) == document_kind::index);
    CHECK(classify_failure("", R"({"config":{},"manifests":[{}]})").code() == errc::malformed_answer);
    CHECK(classify_failure("application/json", "{}").code() == errc::unsupported_media_type);
    CHECK(classify_failure("application/json", "{}").subject() == "application/json");
}

TEST_CASE("the Content-Type and the document must agree on manifest or index")
{
    CHECK(classify(oci_manifest, typed(docker_manifest), limits()) == document_kind::manifest);
    for (const auto& [type, own] : {std::pair(oci_manifest, oci_index), std::pair(docker_list, docker_manifest)}) {
        INFO(type);
        const auto failure = classify_failure(type, typed(own));
        CHECK(failure.code() == errc::malformed_answer);
        CHECK(failure.subject() == own);
    }
}

TEST_CASE("docker's schema 1 is refused by name")
{
    const std::string body = R"({"schemaVersion":1,"name":"a","fsLayers":[]})";
    const std::pair<std::string, std::string> rows[] = {
        {schema_1, body},
        {signed_schema_1, body},
        {schema_1 + ";charset=utf-8", "not JSON"},
        {"application/json", body},
        {"", body},
        {oci_manifest, body},
        {"", typed(schema_1)},
        {oci_manifest, typed(signed_schema_1)},
    };
    for (const auto& [type, text] : rows) {
        INFO(type << " " << text);
        const auto failure = classify_failure(type, text);
        CHECK(failure.code() == errc::unsupported_media_type);
        CHECK(failure.detail().starts_with("docker schema 1 "));
    }
}

TEST_CASE("an answer that is no manifest is refused with its media type")
{
    const std::pair<std::string, std::string> rows[] = {{"text/html", "<html>"},
                                                        {"application/vnd.example+json", "{}"},
                                                        {"application/vnd.oci.image.config.v1+json", "{}"}};
    for (const auto& [type, body] : rows) {
        INFO(type);
        const auto failure = classify_failure(type + "; charset=utf-8", body);
        CHECK(failure.code() == errc::unsupported_media_type);
        CHECK(failure.subject() == type);
        CHECK(failure.at() == overmount::stage::source);
    }
    const auto failure = classify_failure(oci_manifest, typed("application/vnd.oci.artifact.manifest.v1+json"));
    CHECK(failure.code() == errc::unsupported_media_type);
    CHECK(failure.subject() == "application/vnd.oci.artifact.manifest.v1+json");
}

TEST_CASE("a registry's document with fields of the wrong type is malformed")
{
    for (const std::string body :
         {R"([])", R"({"mediaType":1})", R"({"schemaVersion":"2"})", R"({"config":[]})", R"({"manifests":{}})",
          R"({"mediaType":"a","mediaType":"b"})", R"({"MediaType":"a"})"}) {
        INFO(body);
        CHECK(classify_failure("", body).code() == errc::malformed_answer);
    }
    CHECK(classify_failure(oci_manifest, "<html>").code() == errc::malformed_json);
}

TEST_CASE("a registry's document is read within the limits")
{
    limits bounds;
    const std::string body = typed(oci_manifest);
    bounds.json_bytes = body.size();
    CHECK(classify("", body, bounds) == document_kind::manifest);
    CHECK_THROWS_AS(classify("", body + " ", bounds), overmount::error);
    CHECK(classify_failure("", body + std::string(4 << 20, ' ')).code() == errc::json_limit_exceeded);
}

TEST_CASE("a document must have the digest and size that its descriptor has")
{
    const std::string body = "{\"schemaVersion\":2}";
    const auto failure = [&](const std::optional<digest>& wanted, std::optional<std::uint64_t> size) {
        try {
            verify_document(body, wanted, size);
        } catch (const overmount::error& problem) {
            return problem.code();
        }
        return boost::system::error_code();
    };
    for (const auto algorithm : {digest_algorithm::sha256, digest_algorithm::sha512}) {
        CHECK_FALSE(failure(digest::of(body, algorithm), body.size()));
        CHECK_FALSE(failure(digest::of(body, algorithm), std::nullopt));
        CHECK(failure(digest::of(body + " ", algorithm), body.size()) == errc::digest_mismatch);
        CHECK(failure(digest::of(body + " ", algorithm), std::nullopt) == errc::digest_mismatch);
        CHECK(failure(digest::of(body, algorithm), body.size() + 1) == errc::size_mismatch);
        CHECK(failure(digest::of(body, algorithm), body.size() - 1) == errc::size_mismatch);
    }
    CHECK_FALSE(failure(std::nullopt, std::nullopt));
    CHECK(failure(std::nullopt, 1) == errc::size_mismatch);
}

TEST_CASE("HEAD of a manifest is trusted only with status 200, digest and length")
{
    const std::string sha256 = "sha256:" + std::string(64, 'a'), sha512 = "sha512:" + std::string(128, 'a');
    CHECK(head_is_trusted(200, sha256, 500));
    CHECK(head_is_trusted(200, sha512, 500));
    for (const unsigned status : {204u, 206u, 307u, 401u, 403u, 404u, 405u, 500u}) {
        INFO(status);
        CHECK_FALSE(head_is_trusted(status, sha256, 500));
    }
    CHECK_FALSE(head_is_trusted(200, std::nullopt, 500));
    CHECK_FALSE(head_is_trusted(200, "", 500));
    CHECK_FALSE(head_is_trusted(200, "sha256:../../etc", 500));
    CHECK_FALSE(head_is_trusted(200, sha256, std::nullopt));
    CHECK_FALSE(head_is_trusted(200, sha256, 0));
}

TEST_CASE("an attestation in a registry's index is not selected for any platform")
{
    const auto entry = [](char digit, const std::string& os, const std::string& architecture) {
        return R"({"mediaType":")" + oci_manifest + R"(","digest":"sha256:)" + std::string(64, digit) +
               R"(","size":7,"platform":{"os":")" + os + R"(","architecture":")" + architecture + R"("}})";
    };
    const std::string start = R"({"schemaVersion":2,"manifests":[)" + entry('0', "unknown", "unknown");
    const auto both = overmount::index::parse(start + "," + entry('1', "linux", "amd64") + "]}", limits());
    CHECK(both.select({"linux", "amd64"}).digest().hex()[0] == '1');
    const auto alone = overmount::index::parse(start + "]}", limits());
    CHECK_THROWS_AS(alone.select({"linux", "amd64"}), overmount::error);
}

TEST_CASE("an artifact is refused by its artifactType, or else by the media type of its config")
{
    const auto document = [](const std::string& artifact, const std::string& config) {
        return R"({"schemaVersion":2,)" + (artifact.empty() ? "" : R"("artifactType":")" + artifact + R"(",)") +
               R"("config":{"mediaType":")" + config + R"(","digest":"sha256:)" + std::string(64, 'a') + R"(","size":2},"layers":[]})";
    };
    for (const std::string config : {"application/vnd.cncf.helm.config.v1+json", "application/vnd.oci.empty.v1+json"}) {
        INFO(config);
        try {
            (void)classify(oci_manifest, document("application/vnd.example", config), limits());
            FAIL();
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::unsupported_media_type);
            CHECK(failure.subject() == "application/vnd.example");
        }
        CHECK(classify(oci_manifest, document("", config), limits()) == document_kind::manifest);
        try {
            (void)overmount::manifest::parse(document("", config), limits());
            FAIL();
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::unsupported_media_type);
            CHECK(failure.subject() == config);
        }
    }
    // An image may say what it is.
    for (const char* config : {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"})
        CHECK(classify(oci_manifest, document("application/vnd.example", config), limits()) == document_kind::manifest);
}

} // namespace

#include <overmount/core/error.hpp>
#include <overmount/oci/image_config.hpp>

#include "support/catch.hpp"

#include <string>
#include <vector>

namespace {

using overmount::errc;
using overmount::image_config;
using overmount::limits;

const std::string diff_a = "sha256:" + std::string(64, 'a');
const std::string diff_b = "sha256:" + std::string(64, 'b');

std::string config(const std::string& ids, const std::string& more = "")
{
    return R"({"rootfs":{"type":"layers","diff_ids":[)" + ids + "]}" + more + "}";
}

errc failure_of(const std::string& text, const limits& bounds = limits())
{
    try {
        (void)image_config::parse(text, bounds);
    } catch (const overmount::error& failure) {
        return static_cast<errc>(failure.code().value());
    }
    return errc{};
}

TEST_CASE("an image config is read, and kept byte for byte")
{
    const std::string text =
        R"({ "created":"2024-01-02T03:04:05Z","architecture":"arm","os":"linux","variant":"v7",
        "docker_version":"24","container_config":{"Cmd":["other"]},
        "config":{"User":"app:app","Env":["PATH=/bin","A=\u00e4"],"Entrypoint":["/run"],"Cmd":["-x","y z"],
                  "WorkingDir":"/srv","Labels":{"a":"b"},"OnBuild":null},
        "rootfs":{"type":"layers","diff_ids":[")" +
        diff_a + "\",\"" + diff_b + R"("]},
        "history":[{"created":"2024","created_by":"COPY","comment":"c"},{"empty_layer":true}]})";
    const image_config value = image_config::parse(text, limits());
    CHECK(value.bytes() == text);
    CHECK(value.id() == overmount::digest::of(text));
    CHECK(value.created() == "2024-01-02T03:04:05Z");
    CHECK(value.platform() == overmount::platform("linux", "arm", "v7"));
    REQUIRE(value.diff_ids().size() == 2);
    CHECK(value.diff_ids()[0].string() == diff_a);
    CHECK(value.diff_ids()[1].string() == diff_b);
    CHECK(value.user() == "app:app");
    CHECK(value.environment() == std::vector<std::string>{"PATH=/bin", "A=\xc3\xa4"});
    CHECK(value.entrypoint() == std::vector<std::string>{"/run"});
    CHECK(value.command() == std::vector<std::string>{"-x", "y z"});
    CHECK(value.working_directory() == "/srv");
    REQUIRE(value.history().size() == 2);
    CHECK(value.history()[0].created == "2024");
    CHECK(value.history()[0].created_by == "COPY");
    CHECK(value.history()[0].comment == "c");
    CHECK_FALSE(value.history()[0].empty_layer);
    CHECK(value.history()[1].empty_layer);
}

TEST_CASE("labels, ports, volumes, the stop signal and the author are read")
{
    const image_config value = image_config::parse(
        config("", R"(,"author":"me","config":{"Labels":{"b":"1","a":"","Env":"x","n":null},"StopSignal":"SIGINT",
        "ExposedPorts":{"80/tcp":{},"53":null,"1":{"x":[1]}},"Volumes":{"/v":{}}},"history":[{"author":"you"}])"),
        limits());
    CHECK(value.author() == "me");
    CHECK(value.stop_signal() == "SIGINT");
    CHECK(value.labels() == std::map<std::string, std::string>{{"Env", "x"}, {"a", ""}, {"b", "1"}, {"n", ""}});
    CHECK(value.exposed_ports() == std::set<std::string>{"1", "53", "80/tcp"});
    CHECK(value.volumes() == std::set<std::string>{"/v"});
    CHECK(value.history().at(0).author == "you");
    CHECK(image_config::parse(config("", R"(,"config":{"Labels":null,"Volumes":{}})"), limits()).labels().empty());
}

TEST_CASE("the ID depends on every byte, including blanks")
{
    const auto id = [](const std::string& text) { return image_config::parse(text, limits()).id(); };
    CHECK(id(config("")) != id(config("") + "\n"));
    CHECK(id(config("")) == id(config("")));
}

TEST_CASE("null is the same as absent where Go writes it")
{
    const std::string more =
        R"(,"created":null,"history":null,"config":{"Env":null,"Cmd":null,"Entrypoint":null,"User":null})";
    const image_config value = image_config::parse(config("", more), limits());
    CHECK(value.environment().empty());
    CHECK(value.command().empty());
    CHECK(value.history().empty());
    CHECK(value.user().empty());
    CHECK(failure_of(config("", R"(,"config":null)")) == errc{});
    CHECK(failure_of(R"({"rootfs":{"type":"layers","diff_ids":null}})") == errc{});
}

TEST_CASE("a config without a rootfs of layers is invalid")
{
    for (const std::string text :
         {"{}", "[]", "null", R"({"rootfs":null})", R"({"rootfs":{}})", R"({"rootfs":{"type":"layers"}})",
          R"({"rootfs":{"diff_ids":[]}})", R"({"rootfs":{"type":"layers+base","diff_ids":[]}})",
          R"({"rootfs":{"type":1,"diff_ids":[]}})", R"({"rootfs":{"type":"layers","diff_ids":[1]}})",
          R"({"rootfs":{"type":"layers","diff_ids":[null]}})"}) {
        INFO(text);
        CHECK(failure_of(text) == errc::invalid_config);
    }
}

TEST_CASE("fields of the wrong type are invalid")
{
    for (const std::string more :
         {R"(,"os":1)", R"(,"created":{})", R"(,"config":{"Env":[1]})", R"(,"config":{"Env":{"A":"b"}})",
          R"(,"config":{"User":0})", R"(,"history":[1])", R"(,"history":[{"empty_layer":"yes"}])"}) {
        INFO(more);
        CHECK(failure_of(config("", more)) == errc::invalid_config);
    }
}

TEST_CASE("the number of layers of a config is limited")
{
    limits bounds;
    bounds.layers = 1;
    const std::string id = "\"" + diff_a + "\"";
    CHECK(failure_of(config(id), bounds) == errc{});
    CHECK(failure_of(config(id + "," + id), bounds) == errc::invalid_config);
}

TEST_CASE("a config is read within the limits on JSON")
{
    limits bounds;
    bounds.json_depth = 2;
    CHECK(failure_of(config(""), bounds) == errc::json_limit_exceeded);
    CHECK(failure_of("{") == errc::malformed_json);
}

TEST_CASE("a malformed diff ID, or one that is not in a list, is invalid")
{
    CHECK(failure_of(config(R"("sha256:abc")")) == errc::invalid_config);
    CHECK(failure_of(R"({"rootfs":{"type":"layers","diff_ids":")" + diff_a + "\"}}") == errc::invalid_config);
    CHECK(failure_of(R"({"rootfs":{"type":"layers","diff_ids":{"a":")" + diff_a + "\"}}}") ==
          errc::invalid_config);
}

TEST_CASE("an error has the path of the field in the config")
{
    const std::pair<std::string, std::string> rows[] = {
        {config("", R"(,"config":{"Env":["A=b",1]})"), "config.Env[1]"},
        {config("", R"(,"config":[])"), "config"},
        {config("", R"(,"config":{"Labels":{"a":"b","c":1}})"), "config.Labels.c"},
        {config("", R"(,"config":{"Labels":["a"]})"), "config.Labels"},
        {config("", R"(,"config":{"ExposedPorts":{"80":1}})"), "config.ExposedPorts.80"},
        {config("", R"(,"history":[{},{"empty_layer":1}])"), "history[1].empty_layer"},
        {R"({"rootfs":{"type":"layers"}})", "rootfs.diff_ids"},
        {config("", R"(,"rootfs":{})"), "rootfs"},
        {config("", R"(,"config":{"User":"a","User":"root"})"), "config.User"},
        {config("", R"(,"config":{"user":"root"})"), "config.user"},
    };
    for (const auto& [text, place] : rows) {
        INFO(text);
        try {
            (void)image_config::parse(text, limits());
            FAIL("no error");
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::invalid_config);
            CHECK(failure.subject() == place);
        }
    }
}

} // namespace

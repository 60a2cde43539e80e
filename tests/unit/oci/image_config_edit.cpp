#include <overmount/core/error.hpp>
#include <overmount/oci/image_config_edit.hpp>

#include "support/catch.hpp"

#include <string>
#include <vector>

namespace {

using overmount::diff_id;
using overmount::errc;
using overmount::history_entry;
using overmount::image_config;
using overmount::image_config_edit;
using overmount::limits;

diff_id diff(char digit)
{
    return diff_id(overmount::digest::parse("sha256:" + std::string(64, digit)));
}

std::string quoted(char digit)
{
    return "\"" + diff(digit).string() + "\"";
}

image_config config(const std::string& layers, const std::string& more = "")
{
    return image_config::parse(R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[)" + layers + "]}" + more + "}",
                               limits());
}

history_entry step(const std::string& by)
{
    history_entry out;
    out.created_by = by;
    return out;
}

std::string text_of(const image_config_edit& edit)
{
    return edit.build(limits()).bytes();
}

template <class Call>
std::string failure_of(const Call& call)
{
    try {
        call();
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::invalid_config);
        return failure.subject() + ": " + failure.detail();
    }
    return {};
}

TEST_CASE("a config without edits keeps its members, their order and their values")
{
    const std::string text =
        R"({"zeta":[1,-2,2.5,18446744073709551615,null,{"b":1,"a":"\u0001é"}],"os":"linux","config":{"Healthcheck":)"
        R"({"Test":["CMD","x"],"Interval":1000000000},"User":"","Env":null,"ArgsEscaped":true},"container":"abc",)"
        R"("rootfs":{"type":"layers","diff_ids":[]},"history":[{"v":1,"empty_layer":true}],"architecture":"amd64"})";
    CHECK(text_of(image_config_edit(image_config::parse(text, limits()))) == text);
}

TEST_CASE("an existing member is changed in place, and a new one comes last")
{
    const auto from = config("", R"(,"config":{"Cmd":["a"],"OnBuild":["x"],"User":"u","Labels":{"z":"1","a":"2"}},"x":1)");
    image_config_edit edit(from);
    edit.command({"b", "c"}).label("b", "3").label("z", "4").stop_signal("SIGQUIT").author("me");
    CHECK(text_of(edit) ==
          R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"Cmd":["b","c"],"OnBuild":["x"],)"
          R"("User":"u","Labels":{"z":"4","a":"2","b":"3"},"StopSignal":"SIGQUIT"},"x":1,"author":"me"})");
}

TEST_CASE("a new config has the members that were set, in the order of the specification")
{
    image_config_edit edit(overmount::platform("linux", "arm64", "v8"));
    edit.expose("80/tcp").expose("53/udp").volumes({"/data"}).working_directory("/srv").user("app").entrypoint({"/run"});
    edit.environment({"A=b"}).label("k", "v").created("2024-02-29T23:59:59.25+01:30").append_layer(diff('a'), step("s"));
    const image_config made = edit.build(limits());
    CHECK(made.bytes() ==
          R"({"created":"2024-02-29T23:59:59.25+01:30","architecture":"arm64","os":"linux","variant":"v8","config":)"
          R"({"User":"app","ExposedPorts":{"53/udp":{},"80/tcp":{}},"Env":["A=b"],"Entrypoint":["/run"],)"
          R"("Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"k":"v"}},"rootfs":{"type":"layers","diff_ids":[)" +
              quoted('a') + R"(]},"history":[{"created_by":"s"}]})");
    CHECK(made.exposed_ports() == std::set<std::string>{"53/udp", "80/tcp"});
    CHECK(made.volumes() == std::set<std::string>{"/data"});
    CHECK(made.labels() == std::map<std::string, std::string>{{"k", "v"}});
    CHECK(text_of(image_config_edit(overmount::platform("linux", "amd64"))) ==
          R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}})");
}

TEST_CASE("setting an empty value removes the member")
{
    const auto from = config("", R"(,"variant":"v7","config":{"Cmd":["a"],"Env":["A=b"],"User":"u","X":1,)"
                                 R"("Labels":{"l":"1"},"ExposedPorts":{"80":{}}},"created":"2024-01-01T00:00:00Z")");
    image_config_edit edit(from);
    edit.command({}).environment({}).user("").remove_label("l").exposed_ports({}).created("");
    edit.platform(overmount::platform("linux", "arm64"));
    CHECK(text_of(edit) == R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"X":1},)"
                           R"("architecture":"arm64"})");
}

TEST_CASE("null is replaced when a member of it is set")
{
    const auto from = config("", R"(,"config":null,"history":null)");
    CHECK(text_of(image_config_edit(from).label("a", "b").append_empty(step("x"))) ==
          R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"Labels":{"a":"b"}},)"
          R"("history":[{"created_by":"x","empty_layer":true}]})");
}

TEST_CASE("an existing port keeps its value")
{
    const auto from = config("", R"(,"config":{"ExposedPorts":{"80":{"x":1},"1":null}})");
    CHECK(text_of(image_config_edit(from).expose("90")) ==
          R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[]},"config":{"ExposedPorts":)"
          R"({"80":{"x":1},"1":{},"90":{}}}})");
}

TEST_CASE("a variable replaces those of the same name")
{
    const auto from = config("", R"(,"config":{"Env":["A=1","AB=2","B=3","A=4"]})");
    image_config_edit edit(from);
    edit.set_environment("A", "x=y").set_environment("C", "");
    CHECK(edit.build(limits()).environment() == std::vector<std::string>{"A=x=y", "AB=2", "B=3", "C="});
    CHECK(failure_of([&] { edit.set_environment("", "1"); }) == ": the name of a variable must not be empty or contain =");
    CHECK(failure_of([&] { edit.set_environment("A=B", "1"); }) == "A=B: the name of a variable must not be empty or contain =");
}

TEST_CASE("a layer and its step are appended, and existing steps keep all their members")
{
    const auto from = config(quoted('a'), R"(,"history":[{"created_by":"a","x":1},{"empty_layer":true}])");
    history_entry next = step("b");
    next.author = "me";
    next.comment = "c";
    next.created = "2024-01-01T00:00:00Z";
    const image_config made = image_config_edit(from).append_layer(diff('b'), next).build(limits());
    CHECK(made.diff_ids() == std::vector<diff_id>{diff('a'), diff('b')});
    CHECK(made.bytes().ends_with(
        R"("history":[{"created_by":"a","x":1},{"empty_layer":true},{"created":"2024-01-01T00:00:00Z",)"
        R"("created_by":"b","author":"me","comment":"c"}]})"));
    CHECK(made.history().back().author == "me");
}

TEST_CASE("a step that created no layer is marked as such")
{
    const auto from = config(quoted('a'), R"(,"history":[{}])");
    const image_config made = image_config_edit(from).append_empty(step("ENV A=b")).build(limits());
    CHECK(made.diff_ids().size() == 1);
    REQUIRE(made.history().size() == 2);
    CHECK(made.history()[1].empty_layer);
    CHECK(made.history()[1].created_by == "ENV A=b");
}

TEST_CASE("layers without a step get one when the history is extended")
{
    const std::string unknown = R"({"comment":"how this layer was made is not recorded"})";
    const std::string two = quoted('a') + "," + quoted('b');
    CHECK(text_of(image_config_edit(config(two)).append_layer(diff('c'), step("c")))
              .ends_with("\"history\":[" + unknown + "," + unknown + R"(,{"created_by":"c"}]})"));
    CHECK(text_of(image_config_edit(config(two, R"(,"history":[{"created_by":"a"},{"empty_layer":true}])"))
                      .append_empty(step("e")))
              .ends_with(R"("history":[{"created_by":"a"},{"empty_layer":true},)" + unknown +
                         R"(,{"created_by":"e","empty_layer":true}]})"));
    CHECK(text_of(image_config_edit(config(two)).user("u")).find("history") == std::string::npos);
}

TEST_CASE("a history with more steps than layers is refused only when layers are changed")
{
    const auto from = config(quoted('a'), R"(,"history":[{},{}])");
    CHECK(failure_of([&] { (void)image_config_edit(from).append_layer(diff('b'), step("b")).build(limits()); }) ==
          "history: the history must have exactly one step for each layer");
    CHECK(image_config_edit(from).user("u").build(limits()).history().size() == 2);
}

TEST_CASE("layers are replaced, with the existing history or a new one")
{
    const auto from = config("", R"(,"history":[{"created_by":"a"}])");
    CHECK(text_of(image_config_edit(from).replace_layers({diff('b')})) ==
          R"({"os":"linux","rootfs":{"type":"layers","diff_ids":[)" + quoted('b') +
              R"(]},"history":[{"created_by":"a"}]})");
    CHECK(image_config_edit(config("")).replace_layers({diff('b')}).build(limits()).history().empty());

    image_config_edit other(from);
    other.replace_layers({diff('c')}, {step("squash")});
    REQUIRE(other.build(limits()).history().size() == 1);
    CHECK(other.build(limits()).history()[0].created_by == "squash");
    other.replace_layers({diff('c')}, {});
    CHECK(other.build(limits()).bytes().find("history") == std::string::npos);
    other.replace_layers({diff('c'), diff('d')}, {step("squash")});
    CHECK(failure_of([&] { (void)other.build(limits()); }) == "history: the history must have exactly one step for each layer");
}

TEST_CASE("times that Go cannot read are refused")
{
    for (const char* time : {"2024", "2024-01-02", "2024-01-02 03:04:05Z", "2024-02-30T00:00:00Z", "2024-13-01T00:00:00Z",
                             "2024-01-02T24:00:00Z", "2024-01-02T03:60:00Z", "2024-01-02T03:04:60Z", "2024-01-02T03:04:05",
                             "2024-01-02T03:04:05.Z", "2024-01-02T03:04:05+0100", "2024-01-02T03:04:05+24:00",
                             "2024-01-02T03:04:05ZZ", "x024-01-02T03:04:05Z", "2024-00-02T03:04:05Z"}) {
        INFO(time);
        CHECK(failure_of([&] { (void)image_config_edit(config("")).created(time).build(limits()); }) ==
              "created: the time is not in the format of RFC 3339");
        history_entry wrong;
        wrong.created = time;
        CHECK(failure_of([&] { (void)image_config_edit(config("")).append_empty(wrong).build(limits()); }) ==
              "history: the time is not in the format of RFC 3339");
    }
    for (const char* time : {"2024-01-02T03:04:05Z", "2024-01-02T03:04:05.123456789Z", "2024-02-29T03:04:05-12:30"}) {
        INFO(time);
        CHECK(image_config_edit(config("")).created(time).build(limits()).created() == time);
    }
}

TEST_CASE("text that is not UTF-8 is refused, and the new config is within limits")
{
    CHECK(failure_of([] { (void)image_config_edit(config("")).user("\xff").build(limits()); }) ==
          ": a text that was set is not UTF-8");
    limits small;
    small.json_bytes = 100;
    try {
        (void)image_config_edit(config("")).user(std::string(100, 'u')).build(small);
        FAIL("no error");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::json_limit_exceeded);
    }
}

} // namespace

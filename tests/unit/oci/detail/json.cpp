#include <overmount/oci/detail/json.hpp>

#include "support/catch.hpp"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

// Sanitizers replace these operators themselves, and detect more errors than ours.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define COUNTS_HEAP 1

namespace {

// Current and maximum number of bytes on the heap.
std::atomic<std::size_t> heap_now{0}, heap_most{0};

} // namespace

void* operator new(std::size_t size)
{
    void* out = std::malloc(size);
    if (out == nullptr)
        throw std::bad_alloc();
    const std::size_t now = heap_now += ::malloc_usable_size(out);
    for (std::size_t most = heap_most; now > most && !heap_most.compare_exchange_weak(most, now);) {
    }
    return out;
}
void operator delete(void* memory) noexcept
{
    heap_now -= ::malloc_usable_size(memory);
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept
{
    operator delete(memory);
}
#endif

namespace {

using overmount::errc;
using overmount::limits;
using namespace overmount::detail;

// The error of reading; `code()` is 0 if there is none.
overmount::error failure_of(std::string_view text, const json_field& root, const limits& bounds = limits())
{
    try {
        read_json(text, bounds, errc::invalid_config, root);
    } catch (const overmount::error& failure) {
        CHECK(failure.at() == overmount::stage::manifest);
        return failure;
    }
    return overmount::error(boost::system::error_code());
}

// The same, with the document as the value of an unknown field.
errc code_of(std::string_view text, const limits& bounds = limits())
{
    const auto failure = failure_of("{\"unknown\":" + std::string(text) + "}", json_object({}), bounds);
    return static_cast<errc>(failure.code().value());
}

TEST_CASE("a document that is not JSON is malformed, and the error has the position")
{
    for (const std::string_view text :
         {"", " ", "{", "[1,]", "{}x", "{\"a\":1,}", "nul", "'a'", "\"\xff\"", "\"\xc0\xaf\"",
          "\"\xed\xa0\x80\"", "\"\\ud800\"", "01", "{1:2}", "\"\n\"", "1e999"}) {
        INFO(text);
        CHECK(code_of(text) == errc::malformed_json);
    }
    CHECK(code_of(" {\"a\": [1, -2, 3.5, true, null, \"\\u00e4\xc3\xa4\"]} ") == errc{});
    CHECK(failure_of("", json_object({})).code() == errc::malformed_json);
    CHECK(failure_of("{} x", json_object({})).detail() == "at byte 4");
}

TEST_CASE("the size of a document is limited")
{
    limits bounds;
    bounds.json_bytes = 3;
    CHECK_FALSE(failure_of("{} ", json_object({}), bounds).code());
    CHECK(failure_of("{}  ", json_object({}), bounds).code() == errc::json_limit_exceeded);
}

TEST_CASE("the depth of a document is limited, in known and unknown fields")
{
    limits bounds;
    bounds.json_depth = 3;
    CHECK(code_of("[[],{\"a\":[]}]", bounds) == errc::json_limit_exceeded);
    CHECK(code_of("[[],{}]", bounds) == errc{});
    CHECK(code_of("{\"a\":{\"a\":{}}}", bounds) == errc::json_limit_exceeded);
    bounds.json_depth = 1;
    const json_field known = json_object({{"a", json_object({})}});
    CHECK(failure_of("{\"a\":{}}", known, bounds).code() == errc::json_limit_exceeded);
    CHECK_FALSE(failure_of("{}", known, bounds).code());
}

TEST_CASE("keys and values are counted, in lists and objects alike")
{
    limits bounds;
    bounds.json_values = 7; // two of them are around the text
    CHECK(code_of("[1,2,3,4]", bounds) == errc{});
    CHECK(code_of("[1,2,3,4,5]", bounds) == errc::json_limit_exceeded);
    CHECK(code_of("{\"a\":1,\"b\":2}", bounds) == errc{});
    CHECK(code_of("{\"a\":1,\"b\":2,\"c\":3}", bounds) == errc::json_limit_exceeded);
}

TEST_CASE("a million brackets are an error, not a crash")
{
    CHECK(code_of(std::string(1'000'000, '[')) == errc::json_limit_exceeded);
    limits bounds;
    bounds.json_depth = 2'000'000;
    bounds.json_values = 2'000'000;
    CHECK(code_of(std::string(1'000'000, '['), bounds) == errc::malformed_json);
}

TEST_CASE("a NUL byte or a byte order mark is refused, since other readers see what follows")
{
    CHECK(failure_of(std::string_view("{}\0{", 4), json_object({})).code() == errc::malformed_json);
    CHECK(failure_of("\xef\xbb\xbf{}", json_object({})).code() == errc::malformed_json);
}

// One field of each kind.
struct example
{
    std::string text;
    std::uint64_t number = 0;
    bool flag = false;
    std::vector<std::string> texts, inner, order;
    std::string note;

    json_field field()
    {
        return json_object({{"text", json_text(text)},
                            {"number", json_number(number)},
                            {"flag", json_flag(flag)},
                            {"texts", json_texts(texts)},
                            {"list", json_list(json_object({{"name", json_text([this](std::string value) {
                                                                         inner.push_back(std::move(value));
                                                                         order.push_back("name");
                                                                     }).required()}},
                                                           [this] { order.push_back("done"); }),
                                               2)},
                            {"notes", json_map({{"kind", json_text(note)}})}});
    }
};

TEST_CASE("known fields are read in any order, unknown ones are skipped")
{
    example value;
    read_json(R"({"x":{"text":"no","list":[{"name":1}]},"list":[{"name":"a","text":[]},{"y":0,"name":"b"}],
                  "flag":true,"texts":["p","q"],"text":"yes","number":7,"z":[{"number":"no"}],
                  "notes":{"Kind":"other","kind":"k"}})",
              limits(), errc::invalid_config, value.field());
    CHECK(value.text == "yes");
    CHECK(value.number == 7);
    CHECK(value.flag);
    CHECK(value.texts == std::vector<std::string>{"p", "q"});
    CHECK(value.inner == std::vector<std::string>{"a", "b"});
    CHECK(value.order == std::vector<std::string>{"name", "done", "name", "done"});
    CHECK(value.note == "k");
}

TEST_CASE("null is the same as absent, but not in a list")
{
    example value;
    CHECK_FALSE(failure_of(R"({"text":null,"number":null,"flag":null,"texts":null,"list":null,"notes":null})",
                           value.field())
                    .code());
    CHECK(failure_of(R"({"texts":["a",null]})", value.field()).subject() == "texts[1]");
    CHECK(failure_of(R"({"list":[null]})", value.field()).subject() == "list[0]");
    CHECK(failure_of("null", value.field()).subject() == "the document");
}

TEST_CASE("a field of the wrong type is an error with its path and the expected type")
{
    const std::tuple<std::string, std::string, std::string> rows[] = {
        {R"({"text":1})", "text", "it is not a string"},
        {R"({"text":["a"]})", "text", "it is not a string"},
        {R"({"number":-1})", "number", "it is not a whole number"},
        {R"({"number":1.0})", "number", "it is not a whole number"},
        {R"({"number":18446744073709551616})", "number", "it is not a whole number"},
        {R"({"number":"1"})", "number", "it is not a whole number"},
        {R"({"number":true})", "number", "it is not a whole number"},
        {R"({"flag":"yes"})", "flag", "it is not true or false"},
        {R"({"flag":1})", "flag", "it is not true or false"},
        {R"({"texts":{"0":"a"}})", "texts", "it is not a list"},
        {R"({"texts":"a"})", "texts", "it is not a list"},
        {R"({"texts":["a",["b"]]})", "texts[1]", "it is not a string"},
        {R"({"list":[{"name":"a"},{"name":0}]})", "list[1].name", "it is not a string"},
        {R"({"list":[{"name":"a"},7]})", "list[1]", "it is not an object"},
        {R"({"notes":[]})", "notes", "it is not an object"},
        {R"({"notes":{"kind":{}}})", "notes.kind", "it is not a string"},
        {"[]", "the document", "it is not an object"},
        {"1", "the document", "it is not an object"},
    };
    for (const auto& [text, place, why] : rows) {
        INFO(text);
        example value;
        const auto failure = failure_of(text, value.field());
        CHECK(failure.code() == errc::invalid_config);
        CHECK(failure.subject() == place);
        CHECK(failure.detail() == why);
    }
}

TEST_CASE("the error for a required field that is missing or null has its path")
{
    std::string text;
    const json_field strict = json_object({{"a", json_text(text).required()}});
    for (const std::string_view document : {"{}", "{\"a\":null}", "{\"b\":{\"a\":\"x\"}}"}) {
        INFO(document);
        CHECK(failure_of(document, strict).subject() == "a");
        CHECK(failure_of(document, strict).code() == errc::invalid_config);
    }
    std::vector<std::string> texts;
    const json_field lenient = json_object({{"a", json_texts(texts).required_or_null()}});
    CHECK_FALSE(failure_of("{\"a\":null}", lenient).code());
    CHECK(failure_of("{}", lenient).detail() == "the field is missing");
    example value;
    CHECK(failure_of(R"({"list":[{"name":"a"},{}]})", value.field()).subject() == "list[1].name");
}

TEST_CASE("a known field that occurs twice is an error, whatever its values")
{
    example value;
    for (const std::string_view text : {R"({"text":"a","text":"a"})", R"({"text":null,"x":1,"text":"a"})",
                                        R"({"t\u0065xt":"a","text":"b"})"}) {
        INFO(text);
        const auto failure = failure_of(text, value.field());
        CHECK(failure.code() == errc::invalid_config);
        CHECK(failure.subject() == "text");
        CHECK(failure.detail() == "the field occurs twice");
    }
    CHECK(failure_of(R"({"list":[{"name":"a","name":"b"}]})", value.field()).subject() == "list[0].name");
    CHECK(failure_of(R"({"notes":{"kind":"a","kind":"b"}})", value.field()).subject() == "notes.kind");
    CHECK_FALSE(failure_of(R"({"list":[{"name":"a"},{"name":"b"}],"x":1,"x":2})", value.field()).code());
}

TEST_CASE("a name that Go's JSON reader takes for a known one is an error")
{
    example value;
    for (const std::string name : {"Text", "TEXT", "texT", "li\xc5\xbft", "FLAG"}) {
        INFO(name);
        CHECK(failure_of("{\"" + name + "\":null}", value.field()).subject() == name);
    }
    std::string out;
    const json_field kelvin = json_object({{"a", json_object({{"k", json_text(out)}})}});
    CHECK(failure_of("{\"a\":{\"\xe2\x84\xaa\":\"x\"}}", kelvin).subject() == "a.\xe2\x84\xaa");
    CHECK_FALSE(
        failure_of(R"({"Texts ":0,"tex":0,"textss":0,"":0,"notes":{"KIND":0}})", value.field()).code());
}

TEST_CASE("the number of elements of a list is limited by its field")
{
    example value;
    CHECK_FALSE(failure_of(R"({"list":[{"name":"a"},{"name":"b"}]})", value.field()).code());
    const auto failure = failure_of(R"({"list":[{"name":"a"},{"name":"b"},{"name":"c"}]})", value.field());
    CHECK(failure.subject() == "list[2]");
    CHECK(failure.detail() == "the list has too many elements");
}

TEST_CASE("a forbidden field is refused with its reason")
{
    const json_field root = json_object({{"a", json_refused("because")}});
    for (const std::string_view text :
         {"{\"a\":1}", "{\"a\":-1}", "{\"a\":{}}", "{\"a\":[]}", "{\"a\":\"\"}", "{\"a\":1.5}"}) {
        INFO(text);
        CHECK(failure_of(text, root).subject() == "a");
        CHECK(failure_of(text, root).detail() == "because");
    }
}

TEST_CASE("the path of the field is added to errors of its handler")
{
    const auto fail = [](const std::string& value) {
        throw overmount::error(errc::invalid_digest).subject(value).detail("no");
    };
    const json_field root = json_object({{"a", json_list(json_object({{"b", json_text(fail)}}))}});
    const auto failure = failure_of(R"({"a":[{},{"b":"x"}]})", root);
    CHECK(failure.code() == errc::invalid_digest);
    CHECK(failure.subject() == "x");
    CHECK(failure.detail() == "a[1].b: no");
}

#ifdef COUNTS_HEAP
// The peak memory of reading, in bytes.
std::size_t heap_of(std::string_view text, const json_field& root, const limits& bounds)
{
    const std::size_t before = heap_now;
    heap_most = before;
    try {
        read_json(text, bounds, errc::invalid_config, root);
    } catch (const overmount::error&) {
    }
    return heap_most - before;
}

TEST_CASE("ten hostile megabytes need memory only for the longest text and the kept values")
{
    constexpr std::size_t size = 10 << 20;
    limits open; // except for the number of bytes
    open.json_bytes = 2 * size;
    open.json_values = 2 * size;
    const auto repeated = [](std::string_view start, std::string_view part, std::string_view end) {
        std::string out(start);
        while (out.size() < size)
            out += part;
        return out += end;
    };
    example value;
    const json_field root = value.field();
    const std::string long_text = repeated("{\"x\":\"", "0123456789", "\"}");
    CHECK(heap_of(long_text, root, limits()) < 4096);
    CHECK(heap_of(repeated("{\"x\":[0", ",0", "]}"), root, open) < 4096);
    CHECK(heap_of(repeated("{\"x\":0", ",\"x\":0", "}"), root, open) < 4096);
    CHECK(heap_of(repeated("{\"x\":[{}", ",{\"y\":[1]}", "]}"), root, open) < 4096);
    CHECK(heap_of(repeated("{\"x\":[", "[", ""), root, open) < (64u << 10));
    CHECK(heap_of(repeated("{\"list\":[{\"name\":\"\"}", ",{\"name\":\"\"}", "]}"), root, open) < 4096);
    CHECK(heap_of(long_text, root, open) < 6 * size); // the reader's buffers double as they grow
    // Within the usual limit on values.
    CHECK(heap_of(repeated("{\"texts\":[\"\"", ",\"\"", "]}"), root, open) > (1u << 20));
    open.json_values = limits().json_values;
    value.texts = {};
    CHECK(heap_of(repeated("{\"texts\":[\"\"", ",\"\"", "]}"), root, open) <
          3 * open.json_values * sizeof(std::string));
}
#endif

} // namespace

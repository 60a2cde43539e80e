#include <overmount/tar/framing.hpp>

#include <overmount/tar/comparer.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace {

using overmount::errc;
using overmount::limits;
using overmount::test::put_field;
using overmount::test::run_quietly;
using overmount::test::scratch_directory;
using overmount::test::tar_writer;
namespace detail = overmount::detail;
namespace tar = overmount::tar;
namespace tar_fields = overmount::test::tar_fields;

// An entry and the content of its file, holes filled with zeros.
struct seen_entry
{
    tar::entry headers;
    std::string content;
    std::vector<tar::segment> pieces; // of data events, adjacent ones merged
};

struct seen
{
    std::vector<seen_entry> entries;
    std::string log;
    bool ended = false;
};

void note(seen& out, const tar::framing& frames)
{
    seen_entry& entry = out.entries.back();
    const auto size = frames.data().size();
    if (!entry.pieces.empty() &&
        entry.pieces.back().offset + entry.pieces.back().size == frames.data_offset())
        entry.pieces.back().size += size;
    else
        entry.pieces.push_back({frames.data_offset(), size});
    if (frames.data_offset() + size > entry.content.size())
        FAIL("data behind the end of " << entry.headers.path);
    std::memcpy(entry.content.data() + frames.data_offset(), frames.data().data(), size);
}

std::string text_of(const seen_entry& one)
{
    const tar::entry& entry = one.headers;
    std::ostringstream out;
    out << entry.path << '|' << entry.link_target << '|' << int(entry.type) << '|' << entry.mode << '|'
        << entry.uid << '|' << entry.gid << '|' << entry.size << '|' << entry.stored_size << '|'
        << entry.mtime.seconds << '.' << entry.mtime.nanoseconds << '|' << entry.sparse;
    for (const auto& attribute : entry.xattrs)
        out << '|' << attribute.name << '=' << attribute.value;
    for (const auto& piece : entry.segments)
        out << '|' << piece.offset << '+' << piece.size;
    for (const auto& piece : one.pieces)
        out << "|data " << piece.offset << '+' << piece.size;
    return out.str();
}

seen read(const std::string& archive, std::size_t piece, const limits& bounds = {}, bool checked = true)
{
    seen out;
    tar::framing frames(bounds);
    detail::comparer check;
    for (std::size_t begin = 0; begin < archive.size(); begin += piece) {
        auto input =
            std::as_bytes(std::span(archive).subspan(begin, std::min(piece, archive.size() - begin)));
        for (auto what = frames.next(input); what != tar::event::need_input; what = frames.next(input)) {
            if (what == tar::event::entry) {
                out.log += 'e';
                if (checked)
                    check.compare(frames.entry(), frames.header_blocks(), frames.skippable());
                out.entries.push_back({frames.entry(), std::string(), {}});
                out.entries.back().content.resize(frames.entry().size);
            } else if (what == tar::event::data) {
                note(out, frames);
            } else if (what == tar::event::entry_end) {
                out.log += '.';
            } else {
                out.log += '$';
                out.ended = true;
            }
        }
        if (!input.empty())
            FAIL("input is left over");
    }
    frames.finish();
    CHECK(frames.stream_offset() == archive.size());
    return out;
}

std::string events_of(const seen& read)
{
    std::string out = read.log + "\n";
    for (const auto& entry : read.entries)
        out += text_of(entry) + "\n";
    return out;
}

overmount::error failure_of(const std::string& archive, const limits& bounds = {})
{
    std::vector<overmount::error> failures;
    for (const std::size_t piece : {1u, 7u, 512u, 65536u}) {
        try {
            read(archive, piece, bounds, false);
        } catch (const overmount::error& failure) {
            failures.push_back(failure);
            continue;
        }
        FAIL("no error in pieces of " << piece);
    }
    for (const auto& failure : failures)
        CHECK(failure.code() == failures.front().code());
    return failures.front();
}

std::string slurp(const std::filesystem::path& path)
{
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void make_tree(const std::filesystem::path& top)
{
    namespace fs = std::filesystem;
    fs::create_directories(top / "dir" / std::string(60, 'n') / "below");
    const auto write = [&](const std::string& name, const std::string& text) {
        std::ofstream(top / name, std::ios::binary) << text;
    };
    write("empty", "");
    write("one", "1");
    write("block", std::string(512, 'b'));
    write("large", std::string(70001, 'l'));
    write("dir/" + std::string(60, 'n') + "/below/" + std::string(60, 'f'), "a long path");
    fs::create_symlink("../nowhere", top / "link");
    fs::create_hard_link(top / "one", top / "two");
    std::ofstream sparse(top / "sparse", std::ios::binary);
    for (int i = 0; i < 40; ++i) { // more segments than the header and one further block of a GNU map can hold
        sparse.seekp(i * 16384 + 4096);
        sparse << std::string(4096, static_cast<char>('A' + i % 26));
    }
    sparse.close();
    fs::resize_file(top / "sparse", 40 * 16384 + 12345);
    std::ofstream(top / "hole").close();
    fs::resize_file(top / "hole", 1 << 18);
}

void check_archive(const std::filesystem::path& archive, const std::filesystem::path& top)
{
    const std::string bytes = slurp(archive);
    REQUIRE(bytes.size() > 1024);
    const seen first = read(bytes, 65536);
    for (const std::size_t piece : {1u, 7u, 512u})
        CHECK(events_of(read(bytes, piece)) == events_of(first));
    CHECK(first.ended);
    std::map<std::string, int> count;
    for (const auto& [entry, content, pieces] : first.entries) {
        ++count[entry.path];
        if (entry.type == tar::entry_type::regular) {
            INFO(entry.path);
            CHECK((content == slurp(top / entry.path)));
        }
        if (entry.type == tar::entry_type::symbolic_link)
            CHECK(entry.link_target == "../nowhere");
    }
    for (const char* name :
         {"./empty", "./one", "./two", "./block", "./large", "./link", "./sparse", "./hole"})
        CHECK(count[name] == 1);
}

TEST_CASE("archives of GNU tar and bsdtar parse the same in pieces of any size")
{
    const scratch_directory scratch;
    const auto top = scratch / "tree", archive = scratch / "archive.tar";
    make_tree(top);
    for (const char* format : {"v7", "ustar", "gnu", "oldgnu", "posix"}) {
        SECTION(std::string("GNU tar, ") + format)
        {
            if (std::string_view(format) == "v7")
                std::filesystem::remove_all(top / "dir"); // its names are too long for this format
            const std::string option = std::string("--format=") + format;
            REQUIRE(run_quietly({"tar", "-C", top.c_str(), option.c_str(), "-cf", archive.c_str(), "."}) ==
                    0);
            check_archive(archive, top);
        }
    }
    for (const char* format : {"gnu", "oldgnu"}) {
        SECTION(std::string("GNU tar, sparse, ") + format)
        {
            const std::string option = std::string("--format=") + format;
            REQUIRE(run_quietly(
                        {"tar", "-C", top.c_str(), option.c_str(), "-S", "-cf", archive.c_str(), "."}) == 0);
            CHECK(std::filesystem::file_size(archive) < 400'000);
            check_archive(archive, top);
        }
    }
    for (const char* version : {"0.0", "0.1", "1.0"}) {
        SECTION(std::string("GNU tar, sparse of PAX ") + version)
        {
            const std::string option = std::string("--sparse-version=") + version;
            REQUIRE(run_quietly({"tar", "-C", top.c_str(), "--format=posix", option.c_str(), "-S", "-cf",
                                 archive.c_str(), "."}) == 0);
            CHECK(std::filesystem::file_size(archive) < 400'000);
            check_archive(archive, top);
        }
    }
    SECTION("bsdtar, PAX")
    {
        REQUIRE(run_quietly({"bsdtar", "--format=pax", "-C", top.c_str(), "-cf", archive.c_str(), "."}) == 0);
        check_archive(archive, top);
    }
}

TEST_CASE("an entry has the values of its headers")
{
    tar_writer out;
    out.file("a", "text",
             {.mode = 04751,
              .uid = 0xfffffffe,
              .gid = 5,
              .mtime = 12,
              .mtime_ns = 34,
              .xattrs = {{"user.a", std::string("x\0=\n", 4)}}});
    out.character_device("c", 5, 259);
    const seen read_back = read(out.finish(), 7);
    REQUIRE(read_back.log == "e.e.$");
    const tar::entry& file = read_back.entries[0].headers;
    CHECK(file.mode == 04751);
    CHECK(file.uid == 0xfffffffe);
    CHECK(file.gid == 5);
    CHECK(file.mtime == tar::timestamp{12, 34});
    CHECK(file.xattrs == std::vector<tar::xattr>{{"user.a", std::string("x\0=\n", 4)}});
    CHECK(read_back.entries[0].content == "text");
    CHECK(read_back.entries[1].headers.device_major == 5);
    CHECK(read_back.entries[1].headers.device_minor == 259);
}

TEST_CASE("the fraction of a time before 1970 counts downwards")
{
    const auto time_of = [](const std::string& text) {
        return read(tar_writer().file("a", "", {.pax = {{"mtime", text}}}).finish(), 512)
            .entries[0]
            .headers.mtime;
    };
    CHECK(time_of("-86400.123") == tar::timestamp{-86401, 877'000'000});
    CHECK(time_of("-0.5") == tar::timestamp{-1, 500'000'000});
    CHECK(time_of("-1") == tar::timestamp{-1, 0});
    CHECK(time_of("1.9999999999") == tar::timestamp{1, 999'999'999});
}

TEST_CASE("data can be skipped")
{
    const std::string archive = tar_writer().file("a", std::string(1000, 'a')).file("b", "b").finish();
    tar::framing frames{limits()};
    auto input = std::as_bytes(std::span(archive));
    REQUIRE(frames.next(input) == tar::event::entry);
    REQUIRE(frames.skippable() == 1024);
    frames.skip(1024);
    input = input.subspan(1024);
    CHECK(frames.next(input) == tar::event::entry_end);
    CHECK(frames.next(input) == tar::event::entry);
    CHECK(frames.entry().path == "b");
    CHECK(frames.stream_offset() == 512 + 1024 + 512);
}

TEST_CASE("an archive may lack its end marker")
{
    CHECK(read(tar_writer().file("a", "a").bytes(), 7).log == "e.");
}

TEST_CASE("a wrong checksum is an error")
{
    const auto archive =
        tar_writer().file("a", "", {.corrupt = [](std::string& block) { block[0] = 'b'; }}).finish();
    CHECK(failure_of(archive).code() == errc::malformed_tar);
}

TEST_CASE("an archive truncated in a header, in data or in padding is an error")
{
    const std::string archive =
        tar_writer().file("a", std::string(600, 'a'), {.pax = {{"comment", "x"}}}).bytes();
    REQUIRE(archive.size() == 512 + 512 + 512 + 1024);
    for (const std::size_t size : {1u, 511u, 512u, 600u, 1024u, 1100u, 1536u, 2000u, 2200u, 2559u}) {
        INFO(size);
        CHECK(failure_of(archive.substr(0, size)).code() == errc::truncated_stream);
    }
}

TEST_CASE("an owner above the maximum is an error")
{
    CHECK(failure_of(tar_writer().file("a", "", {.uid = 0xffffffff}).finish()).code() == errc::malformed_tar);
    CHECK(failure_of(tar_writer().file("a", "", {.gid = 1ull << 32}).finish()).code() == errc::malformed_tar);
    const auto binary = [](std::string& block) {
        put_field(block, tar_fields::uid, std::string("\x80\0\0\0\xff\xff\xff\xff", 8));
    };
    CHECK(failure_of(tar_writer().file("a", "", {.tweak = binary}).finish()).code() == errc::malformed_tar);
}

TEST_CASE("a malformed PAX record is an error")
{
    for (const std::string text :
         {"x path=a\n", "10 path=a", "8 path=a\n", "11 path=a\n", "9 pathxa\n", "7 =abc\n", "0 a=b\n",
          "-6 a=b\n", "99999999999999999999999 a=b\n", "6 a=b\n6", "4 a\n"}) {
        INFO(text);
        const auto archive = tar_writer().extension('x', "p", text).file("a", "").finish();
        CHECK(failure_of(archive).code() == errc::malformed_tar);
    }
}

TEST_CASE("a sparse map that overlaps, goes backwards or exceeds its file is an error")
{
    for (const std::string map : {"0,4,2,4", "8,4,0,4", "0,8,13,4", "0,4,8", "0,x", "0,4"}) {
        INFO(map);
        const auto archive =
            tar_writer()
                .file("a", "01234567", {.pax = {{"GNU.sparse.size", "16"}, {"GNU.sparse.map", map}}})
                .finish();
        CHECK(failure_of(archive).code() == errc::malformed_tar);
    }
    const auto fine =
        tar_writer()
            .file("a", "01234567", {.pax = {{"GNU.sparse.size", "16"}, {"GNU.sparse.map", "0,4,12,4"}}})
            .finish();
    CHECK(read(fine, 7, {}, false).entries[0].content == std::string("0123\0\0\0\0\0\0\0\0"
                                                                     "4567",
                                                                     16));
}

TEST_CASE("each limit has its own error")
{
    limits bounds;
    bounds.entries = 2;
    tar_writer out;
    out.file("a", "").file("b", "");
    CHECK(read(out.finish(), 512, bounds).entries.size() == 2);
    CHECK(failure_of(out.file("c", "").finish(), bounds).code() == errc::too_many_entries);
    bounds = {};
    bounds.layer_bytes = 4;
    CHECK(failure_of(tar_writer().file("a", "12345").finish(), bounds).code() == errc::layer_too_large);
    bounds = {};
    bounds.extension_bytes = 100;
    const auto long_record =
        tar_writer().file("a", "", {.pax = {{"comment", std::string(200, 'c')}}}).finish();
    CHECK(failure_of(long_record, bounds).code() == errc::extension_too_large);
    bounds = {};
    bounds.path_bytes = 10;
    CHECK(failure_of(tar_writer().file("0123456789abcde", "").finish(), bounds).code() ==
          errc::path_too_long);
    bounds = {};
    bounds.segments = 1;
    const auto two =
        tar_writer()
            .file("a", "01234567", {.pax = {{"GNU.sparse.size", "16"}, {"GNU.sparse.map", "0,4,12,4"}}})
            .finish();
    CHECK(failure_of(two, bounds).code() == errc::too_many_segments);
}

TEST_CASE("an unknown type is an error")
{
    for (const char type : {'8', 'V', 'M', 'D', 'z'})
        CHECK(failure_of(tar_writer().entry(type, "a", "", {}).finish()).code() ==
              errc::unsupported_entry_type);
}

TEST_CASE("an entry that libarchive reads differently is a disagreement")
{
    const std::string archive = tar_writer().file("a", "text").finish();
    tar::framing frames{limits()};
    auto input = std::as_bytes(std::span(archive));
    REQUIRE(frames.next(input) == tar::event::entry);
    const auto code_of = [&](const tar::entry& expected) {
        try {
            detail::comparer().compare(expected, frames.header_blocks(), frames.skippable());
        } catch (const overmount::error& failure) {
            return failure.code();
        }
        return boost::system::error_code();
    };
    tar::entry other = frames.entry();
    CHECK_FALSE(code_of(other).failed());
    other.size = 5;
    CHECK(code_of(other) == errc::tar_disagreement);
    other = frames.entry();
    other.type = tar::entry_type::directory;
    CHECK(code_of(other) == errc::tar_disagreement);
}

} // namespace

#include <overmount/tar/framing.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <sys/xattr.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <vector>

namespace {

namespace tar = overmount::tar;
namespace at = overmount::test::tar_fields;
using overmount::errc;
using overmount::test::put_field;
using overmount::test::tar_attributes;
using overmount::test::tar_field;
using overmount::test::tar_writer;

// An entry as a caller sees it, with its content; holes are zeros.
struct seen
{
    tar::entry entry;
    std::string content;
    std::string headers;
};

// Feeds `bytes` in pieces, and assembles the data by their offsets.
std::vector<seen> read_all(std::string_view bytes, std::size_t piece = 65536,
                           const overmount::limits& bounds = {})
{
    tar::framing framing(bounds);
    std::vector<seen> out;
    while (!bytes.empty()) {
        auto input = std::as_bytes(std::span(bytes.substr(0, piece)));
        bytes.remove_prefix(input.size());
        for (bool more = true; more;) {
            switch (framing.next(input)) {
            case tar::event::need_input:
                more = false;
                break;
            case tar::event::entry:
                out.push_back({framing.entry(), std::string(framing.entry().size, '\0'), {}});
                for (const std::byte byte : framing.header_blocks())
                    out.back().headers += static_cast<char>(byte);
                break;
            case tar::event::data:
                if (framing.data_offset() + framing.data().size() > out.back().content.size())
                    FAIL("data behind the end of their file");
                out.back().content.replace(framing.data_offset(), framing.data().size(),
                                           reinterpret_cast<const char*>(framing.data().data()),
                                           framing.data().size());
                break;
            case tar::event::entry_end:
            case tar::event::end:
                break;
            }
        }
        if (!input.empty())
            FAIL("input is left over");
    }
    framing.finish();
    CHECK(framing.entries() == out.size());
    return out;
}

seen read_one(const tar_writer& archive)
{
    const auto all = read_all(archive.finish());
    REQUIRE(all.size() == 1);
    return all[0];
}

void refused(const std::string& bytes, errc code, const overmount::limits& bounds = {})
{
    try {
        read_all(bytes, 65536, bounds);
        FAIL("not refused");
    } catch (const overmount::error& problem) {
        CHECK(problem.code() == code);
        CHECK(problem.at() == overmount::stage::framing);
    }
}

tar_attributes with_pax(overmount::test::string_pairs records)
{
    tar_attributes out;
    out.pax = std::move(records);
    return out;
}

tar_attributes with_tweak(std::function<void(std::string&)> tweak)
{
    tar_attributes out;
    out.tweak = std::move(tweak);
    return out;
}

std::string slurp(const std::filesystem::path& path)
{
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

int run(const std::string& command)
{
    return std::system((command + " >/dev/null 2>&1").c_str());
}

bool same(const seen& left, const seen& right)
{
    const auto& a = left.entry;
    const auto& b = right.entry;
    return a.path == b.path && a.link_target == b.link_target && a.type == b.type && a.mode == b.mode &&
           a.uid == b.uid && a.gid == b.gid && a.size == b.size && a.stored_size == b.stored_size &&
           a.mtime == b.mtime && a.xattrs == b.xattrs && a.segments == b.segments &&
           left.content == right.content && left.headers == right.headers;
}

// A tree with a long name, links, a file slightly larger than two blocks, and a sparse file with many segments.
void make_tree(const std::filesystem::path& top)
{
    const std::string dir = "'" + top.native() + "'";
    const std::string name(120, 'n');
    REQUIRE(run("mkdir -p " + dir + "/t/d && cd " + dir +
                "/t && head -c 1100 /dev/urandom > plain && : > empty &&"
                " ln plain hard && ln -s " +
                std::string(150, 's') + " soft && mkfifo pipe && echo x > " + name +
                " && touch -d '1960-01-02 03:04:05.25 UTC' d && truncate -s 400K sparse &&"
                " for i in $(seq 0 40); do printf 'piece %s' $i | dd of=sparse bs=1 seek=$((i * 8192 + 4096))"
                " conv=notrunc; done") == 0);
}

} // namespace

TEST_CASE("archives of GNU tar and bsdtar have the entries that those tools list, in pieces of any size")
{
    overmount::test::scratch_directory scratch;
    make_tree(scratch.path());
    const std::string cd = "cd '" + scratch.path().native() + "' && ";
    std::map<std::string, std::string> commands = {
        {"v7", "tar --format=v7 -cf $OUT t/plain t/empty t/hard"},
        {"ustar", "tar --format=ustar -cf $OUT --exclude=soft --exclude=t/d --exclude='nnn*' t"},
        {"gnu", "tar --format=gnu -cf $OUT t"},
        {"oldgnu-sparse", "tar --format=gnu -S -cf $OUT t"},
        {"pax", "tar --format=posix -cf $OUT t"},
        {"pax-0.0", "tar --format=posix -S --sparse-version=0.0 -cf $OUT t"},
        {"pax-0.1", "tar --format=posix -S --sparse-version=0.1 -cf $OUT t"},
        {"pax-1.0", "tar --format=posix -S --sparse-version=1.0 -cf $OUT t"},
    };
    if (run("bsdtar --version") == 0) {
        commands["bsd-pax"] = "bsdtar --format=pax -cf $OUT t";
        commands["bsd-gnu"] = "bsdtar --format=gnutar -cf $OUT t";
        commands["bsd-ustar"] =
            "bsdtar --format=ustar -cf $OUT --exclude=soft --exclude=t/d --exclude='nnn*' t";
    }
    for (const auto& [name, command] : commands) {
        INFO(name);
        REQUIRE(run(cd + "OUT=" + name + ".tar && " + command) == 0);
        const std::string bytes = slurp(scratch / (name + ".tar"));
        const auto whole = read_all(bytes);
        REQUIRE(whole.size() >= 3);
        for (const seen& one : whole) {
            INFO(one.entry.path);
            if (one.entry.type == tar::entry_type::regular)
                CHECK(one.content == slurp(scratch / one.entry.path));
        }
        for (const std::size_t piece : {1u, 7u, 512u, 700u}) {
            const auto pieces = read_all(bytes, piece);
            CHECK(std::equal(pieces.begin(), pieces.end(), whole.begin(), whole.end(), same));
        }
    }
}

TEST_CASE("sparse archives of GNU tar store less than the file's size", "[tar]")
{
    overmount::test::scratch_directory scratch;
    make_tree(scratch.path());
    for (const std::string options : {"gnu -S", "posix -S --sparse-version=0.0",
                                      "posix -S --sparse-version=0.1", "posix -S --sparse-version=1.0"}) {
        INFO(options);
        REQUIRE(run("cd '" + scratch.path().native() + "' && tar -cf s.tar t/sparse --format=" + options) ==
                0);
        const auto all = read_all(slurp(scratch / "s.tar"));
        REQUIRE(all.size() == 1);
        CHECK(all[0].entry.path == "t/sparse");
        CHECK(all[0].entry.sparse);
        CHECK(all[0].entry.size == 400 << 10);
        CHECK(all[0].entry.stored_size < 200 << 10);
        CHECK(all[0].entry.segments.size() >= 41);
    }
}

TEST_CASE("the prefix field is part of the name only with the POSIX magic", "[tar]")
{
    const auto prefixed = [](std::string_view magic) {
        return read_one(tar_writer().file("name", "", with_tweak([magic](std::string& block) {
                                              put_field(block, at::prefix, "dir");
                                              put_field(block, at::magic, magic);
                                          })))
            .entry.path;
    };
    CHECK(prefixed({"ustar\00000", 8}) == "dir/name");
    CHECK(prefixed({"ustar  \0", 8}) == "name");
    CHECK(prefixed({"\0\0\0\0\0\0\0\0", 8}) == "name");
}

TEST_CASE("a NUL type is a directory when its name ends in a slash", "[tar]")
{
    const auto type = [](const char* name) {
        return read_one(tar_writer().entry('\0', name, "", {})).entry.type;
    };
    CHECK(type("a") == tar::entry_type::regular);
    CHECK(type("a/") == tar::entry_type::directory);
}

TEST_CASE("entries of types 1 to 6 have no data, whatever their size field", "[tar]")
{
    for (const char type : std::string("123456")) {
        tar_writer archive;
        archive.entry(type, "a", "b",
                      with_tweak([](std::string& block) { put_field(block, at::size, "00000001000"); }));
        archive.file("next", "content");
        const auto all = read_all(archive.finish());
        REQUIRE(all.size() == 2);
        CHECK(all[0].entry.size == 0);
        CHECK(all[1].entry.path == "next");
        CHECK(all[1].content == "content");
    }
}

TEST_CASE("a PAX size overrides that of the header, even if it is zero", "[tar]")
{
    tar_writer archive;
    archive.pax({{"size", "5"}}).entry('0', "a", "", {}).data("12345").file("b", "");
    auto all = read_all(archive.finish());
    REQUIRE(all.size() == 2);
    CHECK(all[0].content == "12345");

    tar_writer zero;
    zero.file("a", "", {.pax = {{"size", "0"}}, .tweak = [](std::string& block) {
                            put_field(block, at::size, "00000001000");
                        }});
    all = read_all(zero.file("b", "").finish());
    REQUIRE(all.size() == 2);
    CHECK(all[0].entry.size == 0);
    CHECK(all[1].entry.path == "b");
}

TEST_CASE("PAX records apply to the next real entry, past GNU records, and only to it", "[tar]")
{
    tar_writer archive;
    archive.pax({{"uid", "70000"}, {"SCHILY.xattr.user.a", "1"}}).gnu_long('L', std::string(200, 'n'));
    archive.entry('0', "short", "", {}).file("next", "");
    const auto all = read_all(archive.finish());
    REQUIRE(all.size() == 2);
    CHECK(all[0].entry.path == std::string(200, 'n'));
    CHECK(all[0].entry.uid == 70000);
    CHECK(all[0].entry.xattrs == std::vector<tar::xattr>{{"user.a", "1"}});
    CHECK(all[1].entry.path == "next");
    CHECK(all[1].entry.uid == 0);
    CHECK(all[1].entry.xattrs.empty());
}

TEST_CASE("the last of equal PAX keys wins, and values are bytes", "[tar]")
{
    const std::string value("\0=\n\xff", 4);
    const auto one = read_one(tar_writer().file("a", "",
                                                with_pax({{"path", "first"},
                                                          {"path", "e\xcc\x81\xff"},
                                                          {"SCHILY.xattr.user.a", "old"},
                                                          {"SCHILY.xattr.user.a", value},
                                                          {"unknown", "x"}})));
    CHECK(one.entry.path == "e\xcc\x81\xff");
    CHECK(one.entry.xattrs == std::vector<tar::xattr>{{"user.a", value}});
}

TEST_CASE("global headers are checked and ignored", "[tar]")
{
    CHECK(read_one(tar_writer().pax({{"path", "evil"}, {"uid", "7"}}, 'g').file("a", "")).entry.path == "a");
    refused(tar_writer().extension('g', "g", "junk").file("a", "").finish(), errc::malformed_tar);
}

TEST_CASE("PAX times keep nanoseconds on both sides of 1970", "[tar]")
{
    const auto time = [](const char* text) {
        return read_one(tar_writer().file("a", "", with_pax({{"mtime", text}}))).entry.mtime;
    };
    CHECK(time("1.5") == tar::timestamp{1, 500000000});
    CHECK(time("-86400.123") == tar::timestamp{-86401, 877000000});
    CHECK(time("-0.5") == tar::timestamp{-1, 500000000});
    CHECK(time("-2") == tar::timestamp{-2, 0});
    CHECK(time("5000000000.1234567891") == tar::timestamp{5000000000, 123456789});
    for (const char* wrong : {"x", "1.x", "1e5", "--1", "+1", "99999999999999999999"})
        refused(tar_writer().file("a", "", with_pax({{"mtime", wrong}})).finish(), errc::malformed_tar);
}

TEST_CASE("malformed PAX records are errors", "[tar]")
{
    for (const std::string body : {"5 a=b\n", "7 a=b\n", "6 a=b ", "6 ab1\n", "x a=b\n", "-6 a=b\n",
                                   "99999999999999999999999 a=b\n", "5 =b\n", "6  a=\n0", "11", " a=b\n"}) {
        INFO(body);
        refused(tar_writer().extension('x', "x", body).file("a", "").finish(), errc::malformed_tar);
    }
    refused(tar_writer().extension('x', "x", std::string("8 a\0b=c\n", 8)).file("a", "").finish(),
            errc::malformed_tar);
    refused(tar_writer().file("a", "", with_pax({{"path", std::string("a\0b", 3)}})).finish(),
            errc::malformed_tar);
    refused(tar_writer().symlink("a", "b", with_pax({{"linkpath", std::string("a\0b", 3)}})).finish(),
            errc::malformed_tar);
}

TEST_CASE("owners and devices that are out of range are errors", "[tar]")
{
    for (const char* id : {"4294967295", "4294967296", "-1", "x"}) {
        refused(tar_writer().file("a", "", with_pax({{"uid", id}})).finish(), errc::malformed_tar);
        refused(tar_writer().file("a", "", with_pax({{"gid", id}})).finish(), errc::malformed_tar);
    }
    CHECK(read_one(tar_writer().file("a", "", with_pax({{"uid", "4294967294"}}))).entry.uid == 4294967294u);
    refused(tar_writer()
                .file("a", "", with_tweak([](std::string& block) {
                          put_field(block, at::uid, "\xff\xff\xff\xff\xff\xff\xff\xff");
                      }))
                .finish(),
            errc::malformed_tar);
    refused(tar_writer()
                .file("a", "", with_tweak([](std::string& block) {
                          put_field(block, at::size, std::string(12, '\xff'));
                      }))
                .finish(),
            errc::malformed_tar);
    const auto device = read_one(tar_writer().character_device("a", 0xfff, 0xfffff)).entry;
    CHECK((device.device_major == 0xfff && device.device_minor == 0xfffff));
    refused(tar_writer().block_device("a", 0x1000, 0).finish(), errc::malformed_tar);
    refused(tar_writer().block_device("a", 0, 0x100000).finish(), errc::malformed_tar);
}

TEST_CASE("a wrong checksum and an unknown type are errors", "[tar]")
{
    refused(tar_writer().file("a", "", {.corrupt = [](std::string& block) { block[0] = 'b'; }}).finish(),
            errc::malformed_tar);
    for (const char type : std::string("8AVZ"))
        refused(tar_writer().entry(type, "a", "", {}).finish(), errc::unsupported_entry_type);
}

TEST_CASE("sparse maps that overlap, exceed the file or do not add up are errors", "[tar]")
{
    const auto sparse = [](const char* map, const char* size) {
        return tar_writer().file(
            "a", "12345678",
            with_pax({{"GNU.sparse.map", map}, {"GNU.sparse.size", size}, {"GNU.sparse.name", "real"}}));
    };
    CHECK(read_one(sparse("2,4,10,4", "14")).content == std::string("\0\0001234\0\0\0\0005678", 14));
    CHECK(read_one(sparse("0,8", "8")).entry.path == "real");
    for (const char* map : {"10,4,2,4", "2,4,5,4", "2,4,11,4", "0,4", "0,16", "0", "a,8",
                            "18446744073709551615,8", "0,8,9,18446744073709551615"}) {
        INFO(map);
        refused(sparse(map, "14").finish(), errc::malformed_tar);
    }
    refused(tar_writer()
                .pax({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "8"}})
                .file("a", std::string(512, '1'))
                .finish(),
            errc::malformed_tar);
}

TEST_CASE("each limit has an error of its own", "[tar]")
{
    overmount::limits bounds;
    bounds.entries = 2;
    refused(tar_writer().file("a", "").file("b", "").file("c", "").finish(), errc::too_many_entries, bounds);
    bounds = {};
    bounds.layer_bytes = 10;
    refused(tar_writer().file("a", "123456").file("b", "123456").finish(), errc::layer_too_large, bounds);
    refused(tar_writer()
                .file("a", "1", with_pax({{"GNU.sparse.map", "0,1"}, {"GNU.sparse.size", "11"}}))
                .finish(),
            errc::layer_too_large, bounds);
    bounds = {};
    bounds.extension_bytes = 1000;
    refused(tar_writer().gnu_long('L', std::string(1000, 'a')).file("a", "").finish(),
            errc::extension_too_large, bounds);
    bounds = {};
    tar_writer many;
    for (int i = 0; i < 33; ++i)
        many.pax({{"comment", "x"}}, 'g');
    refused(many.file("a", "").finish(), errc::extension_too_large);
    bounds.segments = 2;
    refused(tar_writer()
                .file("a", "123", with_pax({{"GNU.sparse.map", "0,1,2,1,4,1"}, {"GNU.sparse.size", "9"}}))
                .finish(),
            errc::too_many_segments, bounds);
    bounds = {};
    bounds.xattr_bytes = 4;
    refused(tar_writer().file("a", "", {.xattrs = {{"user.a", "12345"}}}).finish(), errc::xattr_too_large,
            bounds);
    refused(tar_writer().gnu_long('L', std::string(4100, 'a')).file("a", "").finish(), errc::path_too_long);
    refused(tar_writer().gnu_long('K', std::string(4096, 'a')).symlink("a", "b").finish(),
            errc::path_too_long);
    CHECK(read_one(tar_writer().gnu_long('L', std::string(4099, 'a')).entry('0', "a", "", {}))
              .entry.path.size() == 4099);
}

TEST_CASE("an archive may lack its end marker but not end inside an entry", "[tar]")
{
    const std::string whole =
        tar_writer().file("a", std::string(600, 'x'), {.xattrs = {{"user.a", "1"}}}).bytes();
    CHECK(read_all(whole).size() == 1);
    CHECK(read_all(whole + std::string(512, '\0')).size() == 1);
    CHECK(read_all("").empty());
    for (const std::size_t cut : {1u, 511u, 512u, 513u, 1024u, 1500u, 1536u, 1537u, 2100u}) {
        INFO(cut);
        refused(whole.substr(0, cut), errc::truncated_stream);
    }
}

TEST_CASE("everything after the end marker is ignored", "[tar]")
{
    const std::string more = tar_writer().file("b", "").finish() + "junk";
    CHECK(read_all(tar_writer().file("a", "").finish() + more).size() == 1);
    CHECK(read_all(tar_writer().file("a", "").finish() + more, 1).size() == 1);
}

TEST_CASE("skipped data count in the offset, and the next entry is found", "[tar]")
{
    const std::string bytes = tar_writer().file("a", std::string(1000, 'x')).file("b", "y").finish();
    tar::framing framing({});
    auto input = std::as_bytes(std::span(bytes));
    REQUIRE(framing.next(input) == tar::event::entry);
    CHECK(framing.skippable() == 1024);
    CHECK(framing.stream_offset() == 512);
    framing.skip(framing.skippable());
    input = input.subspan(1024);
    CHECK(framing.stream_offset() == 1536);
    CHECK(framing.next(input) == tar::event::entry_end);
    REQUIRE(framing.next(input) == tar::event::entry);
    CHECK(framing.entry().path == "b");
}

TEST_CASE("data skipped in the middle of a file do not change the offset of the data after it", "[tar]")
{
    const auto first_data_after = [](const tar_writer& archive, std::size_t count) {
        const std::string bytes = archive.finish();
        tar::framing framing({});
        auto input = std::as_bytes(std::span(bytes));
        REQUIRE(framing.next(input) == tar::event::entry);
        framing.skip(count);
        input = input.subspan(count);
        REQUIRE(framing.next(input) == tar::event::data);
        return std::pair(framing.data_offset(), static_cast<char>(framing.data()[0]));
    };
    CHECK(first_data_after(tar_writer().file("a", "0123456789"), 4) == std::pair(std::uint64_t{4}, '4'));
    const auto sparse = tar_writer().file(
        "a", "0123456789", with_pax({{"GNU.sparse.map", "5,3,20,0,30,7"}, {"GNU.sparse.size", "40"}}));
    CHECK(first_data_after(sparse, 2) == std::pair(std::uint64_t{7}, '2'));
    CHECK(first_data_after(sparse, 3) == std::pair(std::uint64_t{30}, '3'));
    CHECK(first_data_after(sparse, 5) == std::pair(std::uint64_t{32}, '5'));
}

TEST_CASE("attributes in libarchive's own encoding are read", "[tar]")
{
    const auto attributes = [](const overmount::test::string_pairs& records) {
        return read_one(tar_writer().file("a", "", with_pax(records))).entry.xattrs;
    };
    using list = std::vector<tar::xattr>;
    CHECK(attributes({{"LIBARCHIVE.xattr.user.a%3d%25%FF", "AP8K"}}) ==
          list{{"user.a=%\xff", std::string("\0\xff\n", 3)}});
    CHECK(attributes({{"LIBARCHIVE.xattr.user.a", ""}}) == list{{"user.a", ""}});
    CHECK(attributes({{"LIBARCHIVE.xattr.user.a", "YQ"}, {"LIBARCHIVE.xattr.user.a", "YWI="}}) ==
          list{{"user.a", "ab"}});
}

TEST_CASE("attributes of bsdtar's own archives are read", "[tar]")
{
    overmount::test::scratch_directory scratch;
    std::ofstream(scratch / "f") << "text";
    const overmount::test::string_pairs attributes{{"user. %=\xff", "a"},
                                                   {"user.a", ""},
                                                   {"user.b", "ab"},
                                                   {"user.c", "abc"},
                                                   {"user.d", std::string("\0\xff\n=", 4)}};
    for (const auto& [name, value] : attributes)
        if (::setxattr((scratch / "f").c_str(), name.c_str(), value.data(), value.size(), 0) != 0)
            OVERMOUNT_SKIP("the file system has no user attributes");
    if (run("cd '" + scratch.path().native() + "' && bsdtar --format=pax --xattrs -cf out.tar f") != 0)
        OVERMOUNT_SKIP("there is no bsdtar");
    const std::string bytes = slurp(scratch / "out.tar");
    REQUIRE(bytes.find("LIBARCHIVE.xattr.user.%20%25%3D%FF") != std::string::npos);
    const auto all = read_all(bytes);
    REQUIRE(all.size() == 1);
    // libarchive also encodes this name in the SCHILY record, which makes it a different name.
    for (const auto& [name, value] : attributes) {
        INFO(name);
        CHECK(std::ranges::count(all[0].entry.xattrs, tar::xattr{name, value}) == 1);
    }
}

TEST_CASE("of an attribute in both encodings the one that all tools read wins", "[tar]")
{
    const auto attributes = [](const overmount::test::string_pairs& records) {
        return read_one(tar_writer().file("a", "", with_pax(records))).entry.xattrs;
    };
    using list = std::vector<tar::xattr>;
    CHECK(attributes({{"SCHILY.xattr.user.a", "s"}, {"LIBARCHIVE.xattr.user.a", "bA"}}) ==
          list{{"user.a", "s"}});
    CHECK(attributes({{"LIBARCHIVE.xattr.user.a", "bA"}, {"SCHILY.xattr.user.a", "s"}}) ==
          list{{"user.a", "s"}});
}

TEST_CASE("an empty PAX value cancels an earlier record", "[tar]")
{
    const auto one = read_one(tar_writer().file("name", "12345",
                                                {.uid = 7,
                                                 .gid = 8,
                                                 .mtime = 99,
                                                 .pax = {{"path", "other"},
                                                         {"path", ""},
                                                         {"uid", "1"},
                                                         {"uid", ""},
                                                         {"gid", ""},
                                                         {"size", "0"},
                                                         {"size", ""},
                                                         {"mtime", "1.5"},
                                                         {"mtime", ""}}}));
    CHECK(one.entry.path == "name");
    CHECK(one.entry.uid == 7);
    CHECK(one.entry.gid == 8);
    CHECK(one.entry.mtime == tar::timestamp{99, 0});
    CHECK(one.content == "12345");
    CHECK(read_one(tar_writer().symlink("l", "target", with_pax({{"linkpath", ""}}))).entry.link_target ==
          "target");
}

TEST_CASE("an attribute may be empty", "[tar]")
{
    CHECK(read_one(tar_writer().file("a", "",
                                     with_pax({{"SCHILY.xattr.user.a", "1"}, {"SCHILY.xattr.user.a", ""}})))
              .entry.xattrs == std::vector<tar::xattr>{{"user.a", ""}});
}

TEST_CASE("a PAX value overrides a header field that is not a number", "[tar]")
{
    const auto spoilt = [](tar_field field, overmount::test::string_pairs records) {
        auto attributes = with_tweak([field](std::string& block) { put_field(block, field, "zzz"); });
        attributes.pax = std::move(records);
        return tar_writer().file("a", "", attributes);
    };
    CHECK(read_one(spoilt(at::uid, {{"uid", "70000"}})).entry.uid == 70000);
    CHECK(read_one(spoilt(at::gid, {{"gid", "70000"}})).entry.gid == 70000);
    CHECK(read_one(spoilt(at::size, {{"size", "0"}})).entry.size == 0);
    CHECK(read_one(spoilt(at::mtime, {{"mtime", "1.5"}})).entry.mtime == tar::timestamp{1, 500'000'000});
    for (const tar_field field : {at::uid, at::gid, at::size, at::mtime, at::mode})
        refused(spoilt(field, {{"comment", "x"}}).finish(), errc::malformed_tar);
}

TEST_CASE("an extension header without an entry is an error", "[tar]")
{
    refused(tar_writer().file("a", "").pax({{"path", "b"}}).finish(), errc::malformed_tar);
    refused(tar_writer().gnu_long('L', "b").finish(), errc::malformed_tar);
    refused(tar_writer().gnu_long('K', "b").finish(), errc::malformed_tar);
    refused(tar_writer().pax({{"path", "b"}}).bytes(), errc::truncated_stream);
    // A global header needs no entry.
    CHECK(read_all(tar_writer().pax({{"comment", "b"}}, 'g').finish()).empty());
    CHECK(read_all(tar_writer().pax({{"comment", "b"}}, 'g').bytes()).empty());
}

TEST_CASE("two extension headers of one kind for one entry are an error", "[tar]")
{
    refused(tar_writer().pax({{"path", "b"}}).pax({{"path", "c"}}).file("a", "").finish(),
            errc::malformed_tar);
    refused(tar_writer().gnu_long('L', "b").gnu_long('L', "c").file("a", "").finish(), errc::malformed_tar);
    refused(tar_writer().gnu_long('K', "b").gnu_long('K', "c").symlink("a", "t").finish(),
            errc::malformed_tar);
    CHECK(read_one(tar_writer().gnu_long('K', "to").gnu_long('L', "b").pax({{"uid", "1"}}).symlink("a", "t"))
              .entry.link_target == "to");
}

TEST_CASE("an attribute's name is 1 to 255 bytes long", "[tar]")
{
    const auto named = [](const std::string& name) {
        return tar_writer().file("a", "", {.xattrs = {{name, "1"}}});
    };
    CHECK(read_one(named("user." + std::string(250, 'n'))).entry.xattrs.size() == 1);
    refused(named("user." + std::string(251, 'n')).finish(), errc::xattr_too_large);
    refused(named("").finish(), errc::malformed_tar);
    refused(tar_writer().file("a", "", with_pax({{"LIBARCHIVE.xattr.", "YQ"}})).finish(),
            errc::malformed_tar);
}

TEST_CASE("an attribute in libarchive's record must be encoded as libarchive does", "[tar]")
{
    for (const auto& [name, value] : overmount::test::string_pairs{{"user.a%0", "YQ"},
                                                                   {"user.a%zz", "YQ"},
                                                                   {"user.a%00", "YQ"},
                                                                   {"user.a", "Y"},
                                                                   {"user.a", "Y!=="},
                                                                   {"user.a", "YR"},
                                                                   {"user.a", "YQ==="}}) {
        INFO(name << " " << value);
        refused(tar_writer().file("a", "", with_pax({{"LIBARCHIVE.xattr." + name, value}})).finish(),
                errc::malformed_tar);
    }
}

TEST_CASE("a sparse map in pairs of records must have each offset and size", "[tar]")
{
    const auto sparse = [](overmount::test::string_pairs records) {
        records.insert(records.begin(), {"GNU.sparse.size", "8"});
        return tar_writer().file("a", "1234", with_pax(records));
    };
    CHECK(read_one(sparse({{"GNU.sparse.offset", "2"}, {"GNU.sparse.numbytes", "4"}})).content ==
          std::string("\0\0001234\0\0", 8));
    refused(sparse({{"GNU.sparse.offset", "0"}, {"GNU.sparse.numbytes", "4"}, {"GNU.sparse.offset", "6"}})
                .finish(),
            errc::malformed_tar);
    refused(sparse({{"GNU.sparse.offset", "0"}, {"GNU.sparse.offset", "1"}, {"GNU.sparse.numbytes", "4"}})
                .finish(),
            errc::malformed_tar);
    refused(sparse({{"GNU.sparse.numbytes", "4"}}).finish(), errc::malformed_tar);
}

TEST_CASE("a sparse map that ends in a comma is an error", "[tar]")
{
    refused(tar_writer()
                .file("a", "1234", with_pax({{"GNU.sparse.map", "0,4,"}, {"GNU.sparse.size", "8"}}))
                .finish(),
            errc::malformed_tar);
}

TEST_CASE("an old GNU sparse file must have GNU's magic and no PAX map", "[tar]")
{
    const auto sparse = [](std::string_view magic, overmount::test::string_pairs records) {
        tar_attributes attributes = with_tweak([magic](std::string& block) {
            put_field(block, at::magic, magic);
            put_field(block, at::prefix, "");
            put_field(block, {386, 12}, "00000000002");
            put_field(block, {398, 12}, "00000000004");
            put_field(block, {483, 12}, "00000000010");
        });
        attributes.pax = std::move(records);
        return tar_writer().entry('S', "a", "", attributes, "1234");
    };
    CHECK(read_one(sparse({"ustar  \0", 8}, {})).content == std::string("\0\0001234\0\0", 8));
    refused(sparse({"ustar\00000", 8}, {}).finish(), errc::malformed_tar);
    refused(sparse({"ustar  \0", 8}, {{"GNU.sparse.map", "0,4"}}).finish(), errc::malformed_tar);
}

TEST_CASE("a header after a single zero block is an error, since readers disagree about it", "[tar]")
{
    refused(tar_writer().file("a", "").raw(std::string(512, '\0')).file("b", "").finish(),
            errc::malformed_tar);
    CHECK(read_all(tar_writer().file("a", "").bytes() + std::string(512, '\0')).size() == 1);
}

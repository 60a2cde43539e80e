#include <overmount/tar/framing.hpp>
#include <overmount/tar/writer.hpp>

#include "support/catch.hpp"

using namespace overmount;

namespace {

// The entry that framing reads from headers; libarchive, through the comparer, must agree.
tar::entry read_back(const std::string& headers, std::uint64_t size = 0)
{
    tar::framing frames{limits()};
    const std::string text = headers + std::string(size, 'x') + tar::zeros_behind(size) + tar::end_marker();
    std::span<const std::byte> input = std::as_bytes(std::span(text));
    while (frames.next(input) != tar::event::entry)
        if (input.empty())
            throw std::runtime_error("there is no entry");
    tar::entry out = frames.entry();
    while (!input.empty())
        (void)frames.next(input);
    frames.finish();
    return out;
}

tar::entry file(std::string path)
{
    tar::entry out;
    out.path = std::move(path);
    out.mode = 0644;
    return out;
}

} // namespace

TEST_CASE("a short file takes one header block")
{
    tar::entry made = file("blobs/sha256/0123");
    made.size = 700;
    const std::string header = tar::make_header(made);
    CHECK(header.size() == 512);
    const tar::entry seen = read_back(header, 700);
    CHECK(seen.path == made.path);
    CHECK(seen.size == 700);
    CHECK(seen.mode == 0644);
    CHECK(seen.type == tar::entry_type::regular);
    CHECK(seen.mtime == tar::timestamp());
}

TEST_CASE("equal entries give equal headers")
{
    tar::entry made = file(std::string(300, 'n') + "/name");
    made.mtime = {1700000000, 123456789};
    made.xattrs = {{"user.note", std::string("a\0b", 3)}};
    CHECK(tar::make_header(made) == tar::make_header(made));
}

TEST_CASE("values that ustar cannot hold are read back")
{
    SECTION("a long name")
    {
        for (const std::size_t length : {99u, 100u, 101u, 255u, 256u, 1000u, 4000u}) {
            tar::entry made = file("d/" + std::string(length, 'n'));
            CHECK(read_back(tar::make_header(made)).path == made.path);
        }
    }
    SECTION("a name that is not UTF-8")
    {
        tar::entry made = file("d/\xff\xfe\x80 name");
        CHECK(read_back(tar::make_header(made)).path == made.path);
    }
    SECTION("a time with a fraction of a second")
    {
        for (const tar::timestamp time : {tar::timestamp{1700000000, 5}, {0, 999'999'999}, {-1, 0}, {-7, 0},
                                          {-2, 999'999'999}, {-3, 1}, {1ll << 40, 7}}) {
            tar::entry made = file("f");
            made.mtime = time;
            INFO(time.seconds << " " << time.nanoseconds);
            CHECK(read_back(tar::make_header(made)).mtime == time);
        }
    }
    SECTION("a large owner")
    {
        tar::entry made = file("owned");
        made.uid = 4'000'000'000;
        made.gid = 3'000'000'000;
        const tar::entry seen = read_back(tar::make_header(made));
        CHECK(seen.uid == made.uid);
        CHECK(seen.gid == made.gid);
    }
    SECTION("a binary attribute")
    {
        tar::entry made = file("noted");
        made.xattrs = {{"user.note", std::string("a\0\n=b", 5)}};
        CHECK(read_back(tar::make_header(made)).xattrs == made.xattrs);
    }
    SECTION("a long link")
    {
        tar::entry made = file("link");
        made.type = tar::entry_type::symbolic_link;
        made.link_target = std::string(500, 't');
        CHECK(read_back(tar::make_header(made)).link_target == made.link_target);
    }
}

TEST_CASE("a header is complete without the data of a large file")
{
    tar::entry made = file("large");
    made.size = std::uint64_t{20} << 30;
    const std::string header = tar::make_header(made);
    CHECK(header.size() <= 4 * 512);
    tar::framing frames{limits()};
    std::span<const std::byte> input = std::as_bytes(std::span(header));
    while (frames.next(input) != tar::event::entry)
        REQUIRE_FALSE(input.empty());
    CHECK(frames.entry().size == made.size);
}

TEST_CASE("each type of entry is read back")
{
    tar::entry made = file("some/path");
    SECTION("directory") { made.type = tar::entry_type::directory; }
    SECTION("device")
    {
        made.type = tar::entry_type::character_device;
        made.device_major = 10;
        made.device_minor = 229;
    }
    SECTION("fifo") { made.type = tar::entry_type::fifo; }
    SECTION("hard link")
    {
        made.type = tar::entry_type::hard_link;
        made.link_target = "other/path";
    }
    const tar::entry seen = read_back(tar::make_header(made));
    CHECK(seen.type == made.type);
    CHECK(seen.link_target == made.link_target);
    CHECK(seen.device_major == made.device_major);
    CHECK(seen.device_minor == made.device_minor);
}

TEST_CASE("an entry that no header can represent is refused")
{
    CHECK_THROWS_AS(tar::make_header(file("")), error);
}

TEST_CASE("a time before 1970 is read back to the nanosecond")
{
    const tar::timestamp when = GENERATE(tar::timestamp{-3, 250'000'000}, tar::timestamp{-1, 750'000'000},
                                         tar::timestamp{-1, 1}, tar::timestamp{-1, 0}, tar::timestamp{-62'135'596'800, 999'999'999},
                                         tar::timestamp{0, 1}, tar::timestamp{253'402'300'799, 999'999'999});
    tar::entry made = file("early");
    made.mtime = when;
    CHECK(read_back(tar::make_header(made)).mtime == when);
}

TEST_CASE("an extended attribute is written once")
{
    tar::entry made = file("one");
    made.xattrs = {{"user.a", "value"}};
    const std::string header = tar::make_header(made);
    CHECK(header.find("SCHILY.xattr.user.a=value") != std::string::npos);
    CHECK(header.find("LIBARCHIVE.xattr") == std::string::npos);
}

TEST_CASE("names of extended attributes are bytes; one that no record can represent is refused")
{
    tar::entry made = file(std::string(150, 'n') + " mtime=-1.y");
    made.mtime = {-1, 500'000'000};
    made.xattrs = {{"user.a b%20", "1"},
                   {"user.long", std::string(60'000, 'v')},
                   {"user.\xc3\xbc\xff", std::string("\n\0", 2)}};
    const tar::entry seen = read_back(tar::make_header(made));
    CHECK(seen.path == made.path);
    CHECK(seen.mtime == made.mtime);
    REQUIRE(seen.xattrs.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
        CAPTURE(i);
        CHECK(seen.xattrs[i].name == made.xattrs[i].name);
        CHECK(seen.xattrs[i].value == made.xattrs[i].value);
    }
    made.xattrs = {{"user.a=b", "1"}};
    CHECK_THROWS_AS(tar::make_header(made), error);
}

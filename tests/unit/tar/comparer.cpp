#include <overmount/tar/comparer.hpp>
#include <overmount/tar/framing.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

namespace {

namespace detail = overmount::detail;
namespace tar = overmount::tar;
using overmount::errc;
using overmount::test::tar_writer;

// Compares each entry, skipping the data; returns the number of entries.
std::uint64_t check_all(std::string_view bytes, std::size_t spoil_size = 0, std::uint64_t spoil_data = 0)
{
    tar::framing framing({});
    detail::comparer comparer;
    auto input = std::as_bytes(std::span(bytes));
    for (;;) {
        switch (framing.next(input)) {
        case tar::event::need_input:
            return framing.entries();
        case tar::event::entry: {
            auto copy = framing.entry();
            copy.size += spoil_size;
            comparer.compare(copy, framing.header_blocks(), framing.skippable() + spoil_data);
            break;
        }
        default:
            break;
        }
    }
}

errc code_of(std::string_view bytes, std::size_t spoil_size = 0, std::uint64_t spoil_data = 0)
{
    try {
        check_all(bytes, spoil_size, spoil_data);
    } catch (const overmount::error& problem) {
        return static_cast<errc>(problem.code().value());
    }
    return {};
}

} // namespace

TEST_CASE("libarchive agrees on all forms of GNU tar and bsdtar", "[tar]")
{
    overmount::test::scratch_directory scratch;
    const std::string cd = "cd '" + scratch.path().native() + "' && exec >/dev/null 2>&1 && ";
    REQUIRE(
        std::system((cd +
                     "mkdir t && head -c 1100 /dev/urandom > t/plain && : > t/empty && ln t/plain t/hard &&"
                     " ln -s x t/soft && mkfifo t/pipe && touch t/" +
                     std::string(130, 'n') +
                     " t/$(printf 'b\\377n') &&"
                     " truncate -s 3M t/sparse && for i in $(seq 0 40); do echo $i | dd of=t/sparse bs=1 "
                     "seek=$((i * 65536 + 4096))"
                     " conv=notrunc; done")
                        .c_str()) == 0);
    for (const std::string command :
         {"tar --format=gnu -cf", "tar --format=gnu -S -cf", "tar --format=posix -cf",
          "bsdtar --format=pax -cf", "bsdtar --format=gnutar -cf",
          "tar --format=posix -S --sparse-version=0.0 -cf", "tar --format=posix -S --sparse-version=0.1 -cf",
          "tar --format=posix -S --sparse-version=1.0 -cf"}) {
        INFO(command);
        if (command[0] == 'b' && std::system("bsdtar --version >/dev/null 2>&1") != 0)
            continue;
        REQUIRE(std::system((cd + command + " out.tar t").c_str()) == 0);
        std::ifstream file(scratch / "out.tar", std::ios::binary);
        const std::string bytes{std::istreambuf_iterator<char>(file), {}};
        CHECK(check_all(bytes) == 9);
    }
}

TEST_CASE("a different type, size or offset of the next header is a disagreement", "[tar]")
{
    const std::string two = tar_writer().file("a", "content").file("b", "content").finish();
    CHECK(code_of(two) == errc{});
    CHECK(code_of(two, 1) == errc::tar_disagreement);
    CHECK(code_of(two, 0, 512) == errc::tar_disagreement);
    // Even for the last entry, which no header follows.
    const std::string one = tar_writer().file("a", "content").bytes();
    CHECK(code_of(one) == errc{});
    CHECK(code_of(one, 0, 512) == errc::tar_disagreement);
    // libarchive takes a regular file whose name ends in a slash for a directory.
    CHECK(code_of(tar_writer().entry('0', "a/", "", {}).finish()) == errc::tar_disagreement);
}

TEST_CASE("names that are not UTF-8 do not cause a disagreement", "[tar]")
{
    tar_writer archive;
    archive.pax({{"hdrcharset", "BINARY"}, {"path", "b\xff"}}).file("x", "1");
    archive.pax({{"path", "b\xff"}}).file("x", "1");
    archive.file("b\xff", "1").symlink("l", "\xff").hard_link("h\xff", "b\xff");
    archive.pax({{"linkpath", "b\xff"}}).hard_link("i", "x");
    CHECK(check_all(archive.finish()) == 6);
}

TEST_CASE("a comparer can be moved in the middle of an archive", "[tar]")
{
    const std::string bytes = tar_writer().file("a", "1").file("b", "2").finish();
    tar::framing framing({});
    auto input = std::as_bytes(std::span(bytes));
    REQUIRE(framing.next(input) == tar::event::entry);
    detail::comparer first;
    first.compare(framing.entry(), framing.header_blocks(), framing.skippable());
    detail::comparer second = std::move(first);
    while (framing.next(input) != tar::event::entry) {
    }
    CHECK_NOTHROW(second.compare(framing.entry(), framing.header_blocks(), framing.skippable()));
}

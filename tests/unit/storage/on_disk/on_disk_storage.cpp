#include <overmount/storage/on_disk/on_disk_storage.hpp>

#include "conformance/storage_fixture.hpp"
#include "support/catch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#define NEEDS_ROOT()                                                                                         \
    if (::geteuid() != 0)                                                                                    \
    OVERMOUNT_SKIP("needs root")

namespace {

using overmount::diff_id;
using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::error;
using overmount::on_disk_storage;
using overmount::test::run_quietly;
using overmount::test::scratch_directory;
using overmount::test::tar_writer;
namespace detail = overmount::detail;
namespace fs = std::filesystem;

using fixture = overmount::test::storage_fixture<on_disk_storage>;

std::string packed(on_disk_storage::reader reader, std::size_t piece = 65536)
{
    std::string out;
    std::vector<char> buffer(piece);
    while (const std::size_t count = reader.read(std::as_writable_bytes(std::span(buffer))))
        out.append(buffer.data(), count);
    return out;
}

bool comes_back(const std::string& tar)
{
    fixture place;
    place.put(tar);
    const bool whole = packed(place.storage().pack(place.id(tar))) == tar;
    return whole && packed(place.storage().pack(place.id(tar)), 509) == tar;
}

std::string slurp(const fs::path& path)
{
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

rlimit set_file_size_limit(rlim_t bytes)
{
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    const rlimit now{bytes, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &now) == 0);
    return before;
}

// A diff in the storage, and its directory.
class stored
{
public:
    // A special piece size: one block a piece; the deferred work of all pieces is run after all are written.
    static constexpr std::size_t all_late = 0;

    explicit stored(std::string tar, durability sync = durability::none, std::size_t piece = std::string::npos)
        : place_(sync), tar_(std::move(tar))
    {
        auto writer = place_.create();
        if (piece == all_late)
            fixture::feed_late(writer, tar_, 512);
        else
            fixture::feed(writer, tar_, piece);
        (void)writer.finish();
        REQUIRE(writer.publish(id()));
    }
    [[nodiscard]] fs::path path(const std::string& name) const
    {
        return fs::read_symlink("/proc/self/fd/" + std::to_string(place_.where().diffs())) / "sha256" /
               id().value().hex() / name;
    }
    [[nodiscard]] diff_id id() const { return fixture::id(tar_); }
    [[nodiscard]] on_disk_storage::reader reader() { return place_.storage().pack(id()); }
    [[nodiscard]] std::string pack(std::size_t piece = 65536) { return packed(reader(), piece); }
    [[nodiscard]] const std::string& tar() const noexcept { return tar_; }

    // The error of reading the tar: its code, and the entry that it names.
    [[nodiscard]] std::string failure()
    {
        try {
            (void)pack();
        } catch (const error& failed) {
            CHECK(failed.layer() == id().string());
            CHECK(failed.at() == overmount::stage::storage);
            return failed.entry() + ": " + failed.code().message();
        }
        return "none";
    }

private:
    fixture place_;
    std::string tar_;
};

std::string changed(const std::string& path)
{
    return path + ": " + error(errc::diff_changed).code().message();
}

overmount::test::tar_attributes own()
{
    return {.uid = ::geteuid(), .gid = ::getegid()};
}

std::string words(std::size_t size, std::uint_fast32_t seed = 1)
{
    std::mt19937 random(seed);
    std::string out(size, '\0');
    for (char& c : out)
        c = static_cast<char>(random());
    return out;
}

TEST_CASE("a tar is reproduced bit for bit, in pieces of any size")
{
    NEEDS_ROOT();
    const std::string large = words(3'000'000);
    const std::string tar = tar_writer()
                                .directory("d", {.mode = 0})
                                .file("d/a", "text", {.mode = 0})
                                .file("empty", "")
                                .file("large", large)
                                .hard_link("d/b", "d/a")
                                .symlink("l", "d")
                                .file("l/through", "a link")
                                .file(std::string(200, 'n') + "/" + std::string(200, 'm'), "long")
                                .file("block", std::string(512, 'x'))
                                .fifo("p")
                                .finish();
    stored layer(tar);
    CHECK_FALSE(fs::exists(layer.path("aside")));
    for (const std::size_t piece : {7u, 511u, 512u, 65536u, 10'000'000u}) {
        const bool whole = layer.pack(piece) == tar;
        CHECK(whole);
    }
}

TEST_CASE("a reader fills its buffer until the end, and can be moved")
{
    stored layer(fixture::tar());
    auto first = layer.reader();
    std::string out(layer.tar().size() + 10, '\0');
    const auto bytes = std::as_writable_bytes(std::span(out));
    REQUIRE(first.read(bytes.first(700)) == 700);
    auto second = std::move(first);
    first = layer.reader();
    CHECK(second.read(bytes.subspan(700)) == layer.tar().size() - 700);
    CHECK(second.read(bytes) == 0);
    CHECK(second.read(bytes) == 0);
    CHECK(out.substr(0, layer.tar().size()) == layer.tar());
}

TEST_CASE("bytes after the end marker are reproduced")
{
    const tar_writer archive = tar_writer().file("a", "text", own());
    CHECK(comes_back(""));
    CHECK(comes_back(archive.bytes()));
    CHECK(comes_back(archive.bytes() + std::string(512, '\0')));
    CHECK(comes_back(archive.finish() + std::string(9216, '\0')));
    CHECK(comes_back(archive.finish() + words(300'001)));
    CHECK(comes_back(std::string(10240, '\0')));
}

TEST_CASE("padding that is not zeros is reproduced")
{
    std::string tar = tar_writer().file("a", "text", own()).file("b", "text", own()).finish();
    tar.replace(512 + 4, 508, std::string(508, 'x'));
    CHECK(comes_back(tar));
}

TEST_CASE("data of entries that create no file is reproduced")
{
    NEEDS_ROOT();
    const std::string data = words(200'000);
    CHECK(comes_back(tar_writer()
                         .file("d/.wh.gone", data)
                         .file("d/.wh..wh..opq", "opaque")
                         .file(".wh..wh.plnk", data)
                         .file(".wh..wh.orph/a", "text")
                         .file("d/a", "text")
                         .finish()));
}

TEST_CASE("files that the same tar replaces are kept in aside, and are reproduced")
{
    NEEDS_ROOT();
    tar_writer archive;
    for (const char* text : {"first", "", "second", "third"})
        archive.file("a", text);
    archive.file("d/e/f", "deep").file("d/g", "twice").file("d/g", "twice again").fifo("d/pipe");
    archive.hard_link("d/h", "a").hard_link("kept", "d/e/f");
    archive.symlink("d", "a").directory("d").file("d/e/f", "again").file("d/g", "and again");
    archive.hard_link("a", "kept").file("l/x", "1").symlink("x", "l").file("x/x", "2").file("l", "3");
    stored layer(archive.finish());
    CHECK(fs::exists(layer.path("aside")));
    const bool whole = layer.pack() == layer.tar();
    CHECK(whole);
    CHECK(slurp(layer.path("rootfs/d/e/f")) == "again");
    std::set<std::string> kept;
    for (const auto& entry : fs::directory_iterator(layer.path("rootfs").parent_path()))
        kept.insert(entry.path().filename().string());
    CHECK(kept == std::set<std::string>{"aside", "diff.json", "recipe", "rootfs"}); // and no leftovers of replaced entries
    fs::remove_all(layer.path("aside/0"));
    CHECK(layer.failure() == changed("a"));
}

TEST_CASE("a changed file in aside is detected")
{
    stored layer(tar_writer().file("d/a", "first", own()).file("d/a", "last", own()).finish());
    std::ofstream(layer.path("aside/0")) << "fir5t";
    CHECK(layer.failure() == changed("d/a"));
}

TEST_CASE("deferred work for a file is done even if another entry has replaced the file meanwhile")
{
    NEEDS_ROOT();
    tar_writer archive;
    archive.file("a", "first").hard_link("b", "a").file("a", "second").directory("d").file("d/e", "third").symlink("d", "a");
    archive.file("c", "fourth", {.mode = 04755, .uid = 5, .gid = 6}).file("sparse", "12345678", {.pax = {{"GNU.sparse.size", "100000"}, {"GNU.sparse.map", "500,8"}}});
    stored layer(archive.finish(), durability::none, stored::all_late);
    const bool whole = layer.pack() == layer.tar();
    CHECK(whole);
    CHECK(slurp(layer.path("rootfs/b")) == "first");
    CHECK(slurp(layer.path("rootfs/a")) == "second");
    struct stat status;
    REQUIRE(::stat(layer.path("rootfs/c").c_str(), &status) == 0);
    CHECK((status.st_uid == 5 && status.st_gid == 6 && (status.st_mode & 07777) == 04755));
    CHECK(fs::file_size(layer.path("rootfs/sparse")) == 100000);
}

TEST_CASE("deferred work is split into lists with a limited number of files, for any piece size")
{
    NEEDS_ROOT();
    tar_writer archive;
    std::string map;
    for (int i = 0; i < 600; ++i)
        map += (i == 0 ? "" : ",") + std::to_string(i * 10) + ",1";
    for (std::size_t i = 0; i < 300; ++i)
        archive.file("empty" + std::to_string(i), "").file("full" + std::to_string(i), std::string(i % 3 * 512, 'x'));
    archive.file("sparse", std::string(600, 's'), {.pax = {{"GNU.sparse.size", "6000"}, {"GNU.sparse.map", map}}});
    const std::string tar = archive.finish();
    for (const std::size_t piece : {std::size_t{512}, std::size_t{4096}, std::size_t{64} << 10, tar.size()}) {
        fixture place;
        auto writer = place.create();
        fixture::feed_late(writer, tar, piece);
        CHECK(writer.finish().entries == 601);
        REQUIRE(writer.publish(fixture::id(tar)));
        const bool whole = packed(place.storage().pack(fixture::id(tar))) == tar;
        CHECK(whole);
    }
}

TEST_CASE("an error of deferred work names its entry")
{
    NEEDS_ROOT();
    fixture place;
    auto writer = place.create();
    const std::string tar = tar_writer().file("d/large", std::string(2 << 20, 'x'), own()).file("d/b", "text", own()).finish();
    on_disk_storage::writer::deferred left;
    auto bytes = std::as_bytes(std::span(tar));
    REQUIRE(writer.write_part(bytes, left));
    const rlimit before = set_file_size_limit(1 << 20);
    std::string failed;
    try {
        left.run();
    } catch (const error& failure) {
        failed = failure.entry() + " " + failure.operation() + " " + std::string(to_string(failure.at()));
    }
    set_file_size_limit(before.rlim_cur);
    CHECK(failed == "d/large write unpack");
    left.run(); // does nothing: the list is empty
}

TEST_CASE("a replaced tree without files is not kept in aside")
{
    NEEDS_ROOT();
    stored layer(
        tar_writer().symlink("a", "b").fifo("a").directory("a").fifo("a/b").symlink("a", "x").finish());
    CHECK_FALSE(fs::exists(layer.path("aside")));
    const bool whole = layer.pack() == layer.tar();
    CHECK(whole);
}

TEST_CASE("paths of replaced files count against limits::directory_bytes")
{
    fixture place;
    overmount::limits bounds;
    bounds.directory_bytes = 300;
    tar_writer archive;
    for (int i = 0; i < 4; ++i)
        archive.file(std::string(100, 'a'), "text", own());
    CHECK_FALSE(place.failure(archive.finish(), bounds));
    archive.file(std::string(100, 'a'), "text", own());
    CHECK(place.failure(archive.finish(), bounds) == errc::too_many_entries);
}

TEST_CASE("a recipe does not depend on the size of the pieces")
{
    stored layer(tar_writer().file("a", words(100'000), own()).file("b", "text", own()).finish());
    const std::string recipe = slurp(layer.path("recipe"));
    for (const std::size_t piece : {1u, 511u, 512u, 100'000u})
        CHECK(slurp(stored(layer.tar(), durability::none, piece).path("recipe")) == recipe);
}

TEST_CASE("a recipe is written with any durability")
{
    for (const durability sync : {durability::none, durability::batch, durability::full}) {
        stored layer(tar_writer().file("d/a", "1", own()).symlink("d", "x", own()).finish(), sync);
        const bool whole = layer.pack() == layer.tar();
        CHECK(whole);
    }
}

TEST_CASE("a file that was changed on disk is detected and named")
{
    const std::string tar = tar_writer()
                                .file("a", "text", own())
                                .file("d/b", std::string(5000, 'x'), own())
                                .file("z", "more", own())
                                .finish();
    const auto after = [&](auto change) {
        stored layer(tar);
        const fs::path file = layer.path("rootfs/d/b");
        change(file);
        return layer.failure();
    };
    CHECK(after([](const fs::path&) {}) == "none");
    CHECK(after([](const fs::path& file) { std::fstream(file, std::ios::in | std::ios::out).write("y", 1); }) ==
          changed("d/b"));
    CHECK(after([](const fs::path& file) { fs::resize_file(file, 4999); }) == changed("d/b"));
    CHECK(after([](const fs::path& file) { fs::resize_file(file, 5001); }) == changed("d/b"));
    CHECK(after([](const fs::path& file) { fs::remove(file); }) == changed("d/b"));
    CHECK(after([](const fs::path& file) { fs::remove_all(file.parent_path()); }) == changed("d/b"));
    CHECK(after([](const fs::path& file) {
              fs::rename(file, file.parent_path() / "c");
              fs::create_symlink("c", file);
          }) == changed("d/b"));
    CHECK(after([](const fs::path& file) {
              fs::remove(file);
              REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
          }) == changed("d/b"));
    CHECK(after([](const fs::path& file) {
              fs::remove(file);
              fs::create_directory(file);
          }) == changed("d/b"));
    CHECK(after([](const fs::path& file) {
              fs::remove_all(file.parent_path());
              std::ofstream(file.parent_path()) << "";
          }) == changed("d/b"));
}

TEST_CASE("a link that replaced a file of the same size is detected")
{
    stored layer(tar_writer().file("d/b", "text", own()).file("d/same", "text", own()).finish());
    fs::remove(layer.path("rootfs/d/b"));
    fs::create_symlink("same", layer.path("rootfs/d/b"));
    CHECK(layer.failure() == changed("d/b"));
}

TEST_CASE("no link leads a reader out of the tree")
{
    const scratch_directory outside;
    std::ofstream(outside / "b") << std::string(5000, 'x');
    stored layer(tar_writer().file("d/b", std::string(5000, 'x'), own()).finish());
    fs::remove_all(layer.path("rootfs/d"));
    fs::create_symlink(outside.path(), layer.path("rootfs/d"));
    CHECK(layer.failure() == changed("d/b"));
}

TEST_CASE("holes of a sparse file are not read")
{
    // PAX 0.1: 4 bytes at 1 TiB.
    stored layer(tar_writer()
                     .file("short", "data",
                           {.uid = ::geteuid(),
                            .gid = ::getegid(),
                            .pax = {{"GNU.sparse.name", "a"},
                                    {"GNU.sparse.size", "1099511627776"},
                                    {"GNU.sparse.map", "1099511627772,4"}}})
                     .finish());
    const bool whole = layer.pack() == layer.tar();
    CHECK(whole);
}

TEST_CASE("a missing and a damaged recipe are errors")
{
    stored layer(fixture::tar());
    std::string recipe = slurp(layer.path("recipe"));
    recipe.resize(recipe.size() - 1);
    std::ofstream(layer.path("recipe")) << recipe;
    CHECK(layer.failure() == ": " + error(errc::invalid_asset).code().message());
    fs::remove(layer.path("recipe"));
    CHECK(layer.failure() == ": " + error(errc::missing_recipe).code().message());
    fs::remove_all(layer.path(""));
    CHECK(layer.failure() == ": " + error(errc::layer_not_found).code().message());
}

TEST_CASE("tars of GNU tar and bsdtar are reproduced, in each of their formats")
{
    NEEDS_ROOT();
    const scratch_directory scratch;
    const fs::path top = scratch / "tree";
    fs::create_directories(top / "d" / std::string(150, 'e'));
    std::ofstream(top / "d/a") << words(100'000);
    std::ofstream(top / "d" / std::string(150, 'e') / std::string(120, 'f')) << "long";
    std::ofstream(top / "empty");
    std::ofstream(top / "sparse").seekp(3'000'000).write("end", 3);
    fs::create_hard_link(top / "d/a", top / "hard");
    fs::create_symlink("d/a", top / "soft");
    const std::string tar = scratch / "layer.tar";
    const auto check = [&](int status) {
        REQUIRE(status == 0);
        CHECK(comes_back(slurp(tar)));
    };
    for (const char* format : {"v7", "ustar"})
        check(run_quietly({"tar", "--format", format, "-cf", tar.c_str(), "-C", top.c_str(), "empty", "hard",
                           "soft", "sparse"}));
    for (const char* format : {"oldgnu", "gnu", "pax"})
        check(run_quietly({"tar", "--format", format, "-cf", tar.c_str(), "-C", top.c_str(), "."}));
    check(run_quietly({"tar", "--format", "oldgnu", "-S", "-cf", tar.c_str(), "-C", top.c_str(), "."}));
    for (const char* version : {"0.0", "0.1", "1.0"})
        check(run_quietly({"tar", "--format", "pax", "-S", "--sparse-version", version, "-cf", tar.c_str(), "-C",
                           top.c_str(), "."}));
    // Append the same entries again, so that each file is replaced.
    check(run_quietly({"tar", "-rf", tar.c_str(), "-C", top.c_str(), "."}));
    for (const char* format : {"gnutar", "pax", "ustar"})
        if (run_quietly({"bsdtar", "--version"}) == 0)
            check(run_quietly({"bsdtar", "--format", format, "-cf", tar.c_str(), "-C", top.c_str(), "empty", "hard",
                               "soft", "sparse"}));
}

// A random entry. There are few names, so that files, directories and links replace each other; whiteouts have data.
void add_entry(tar_writer& archive, std::mt19937& random)
{
    const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
    const auto name = [&] {
        std::string out(1, static_cast<char>('a' + below(3)));
        for (unsigned depth = below(3); depth != 0; --depth)
            out += std::string("/") + static_cast<char>('a' + below(3));
        return out;
    };
    const std::string path = name(), data = words(below(4) == 0 ? 0 : below(2000), random());
    switch (below(8)) {
    case 0: archive.directory(path); break;
    case 1: archive.symlink(path, below(2) == 0 ? "/" + name() : name()); break;
    case 2: archive.hard_link(path, name()); break;
    case 3: archive.file(path + "/.wh." + name().substr(0, 1), data); break;
    case 4:
        archive.file(path, data.substr(0, 8),
                     {.pax = {{"GNU.sparse.size", "100000"},
                              {"GNU.sparse.map",
                               "500," + std::to_string(std::min<std::size_t>(data.size(), 8))}}});
        break;
    default: archive.file(path, data);
    }
}

TEST_CASE("a layer of random entries is reproduced")
{
    NEEDS_ROOT();
    unsigned aside = 0;
    for (unsigned seed = 0; seed < 25; ++seed) {
        std::mt19937 random(seed);
        tar_writer archive;
        for (int i = 0; i < 30; ++i) {
            tar_writer more = archive;
            add_entry(more, random);
            fixture place;
            if (!place.failure(more.finish()))
                archive = more;
        }
        INFO("seed " << seed);
        stored layer(archive.finish() + words(random() % 2 * 3000, seed), durability::none,
                     seed % 2 == 0 ? std::string::npos : stored::all_late);
        const bool whole = layer.pack() == layer.tar();
        CHECK(whole);
        aside += fs::exists(layer.path("aside"));
    }
    CHECK(aside > 10);
}

} // namespace

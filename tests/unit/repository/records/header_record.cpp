#include <overmount/repository/records/header_record.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"
#include "support/may_mount.hpp"
#include "support/skip.hpp"

#include <nlohmann/json.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <latch>
#include <thread>
#include <vector>

namespace fs = std::filesystem;
using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::detail::header_record;
using overmount::detail::lock_kind;
using overmount::detail::store;
using overmount::test::error_of;
using overmount::test::file_names;
using overmount::test::names_in;
using overmount::test::opened_store;
using overmount::test::read_text;
using overmount::test::run_quietly;
using overmount::test::scratch_directory;
using overmount::test::write_text;

namespace {

overmount::error open_error(const fs::path& base, bool allow_others = false)
{
    return error_of([&] { const store records(base, "directory", allow_others); });
}

// repository.json with these lists of features.
void write_header(const fs::path& base, const std::string& compatible, const std::string& read_only,
                  const std::string& incompatible)
{
    write_text(base / "repository.json", R"({"version":1,"forms":["directory"],"features":{"compatible":[)" + compatible +
                                             R"(],"read_only_compatible":[)" + read_only + R"(],"incompatible":[)" +
                                             incompatible + "]}}");
}

const std::string feature = '"' + std::string(header_record::feature) + '"';

} // namespace

TEST_CASE("only its owner can enter a new repository, and it opens again")
{
    const opened_store one;
    struct stat status;
    REQUIRE(::stat(one.base.c_str(), &status) == 0);
    CHECK((status.st_mode & 07777u) == 0700u);
    CHECK_FALSE(open_error(one.base).code());
    CHECK(names_in(one.base / "tmp").empty());
}

TEST_CASE("a repository that others may enter opens on request only")
{
    const opened_store one;
    for (const unsigned mode : {0701u, 0710u, 0740u, 0755u}) {
        REQUIRE(::chmod(one.base.c_str(), mode) == 0);
        CHECK(open_error(one.base).code() == errc::repository_open_to_others);
        CHECK_FALSE(open_error(one.base, true).code());
    }
}

TEST_CASE("a directory with other files is not a repository, and stays unchanged")
{
    const scratch_directory scratch;
    write_text(scratch / "other/file", "text");
    REQUIRE(::chmod((scratch / "other").c_str(), 0700) == 0);
    CHECK(open_error(scratch / "other").code() == errc::not_a_repository);
    CHECK(names_in(scratch / "other") == file_names{"file"});
    CHECK(open_error(scratch / "other/file").code() == boost::system::errc::not_a_directory);
}

TEST_CASE("a repository with a header has all its subdirectories")
{
    const opened_store one;
    const auto all = names_in(one.base);
    for (const char* part : {"diffs", "layers", "images", "manifests", "tags", "blobs", "mounts", "leases", "imports", "claims", "tmp"})
        CHECK(all.contains(part));
    // A process that died while it created the repository has left any of the subdirectories, and no header.
    fs::remove(one.base / "repository.json");
    fs::remove(one.base / "tags");
    fs::remove(one.base / "claims");
    write_text(one.base / "record-0123", "{\"vers");
    CHECK_FALSE(open_error(one.base).code());
    CHECK(fs::exists(one.base / "repository.json"));
    CHECK(fs::exists(one.base / "tags"));
    CHECK(fs::exists(one.base / "claims"));
}

TEST_CASE("a missing subdirectory is created again if it was empty, and else reported by its path")
{
    for (const char* part : {"diffs", "layers", "images", "manifests", "tags", "blobs", "mounts", "leases", "claims", "tmp"}) {
        const opened_store one;
        fs::remove(one.base / part);
        CHECK(open_error(one.base).code() == boost::system::error_code());
        CHECK(fs::is_directory(one.base / part));
    }
    for (const char* part : {"diffs", "layers", "images"}) {
        const opened_store one;
        for (const char* other : {"diffs", "layers", "images"})
            if (std::string_view(other) != part)
                fs::create_directories(one.base / other / "sha256/some");
        fs::remove(one.base / part);
        const auto failure = open_error(one.base);
        CHECK(failure.code() == errc::corrupt_repository);
        CHECK(failure.subject() == (one.base / part).string());
    }
}

TEST_CASE("the error for an unreadable header has its path")
{
    const opened_store one;
    for (const char* text : {"", "{", "[]", R"({"version":1})"}) {
        write_text(one.base / "repository.json", text);
        const auto failure = open_error(one.base);
        CHECK(failure.code() == errc::corrupt_repository);
        CHECK(failure.subject() == (one.base / "repository.json").string());
    }
}

TEST_CASE("a repository of a newer version opens as far as its features allow")
{
    const opened_store one;
    one.put_tag({"example.org/a:1", digest::of("image"), {}, {}, {}});
    SECTION("a feature that every version may ignore")
    {
        write_header(one.base, R"("news")", "", "");
        const store records(one.base, "directory", false);
        CHECK(records.lock(lock_kind::shared).try_take());
        CHECK(read_text(one.base / "repository.json").find("\"news\"") != std::string::npos); // it stays
    }
    SECTION("a feature that a reader may ignore")
    {
        write_header(one.base, "", R"("news")", "");
        const auto before = read_text(one.base / "repository.json");
        const store records(one.base, "directory", false);
        CHECK(records.read_only());
        CHECK(records.tag("example.org/a:1")->image == digest::of("image"));
        for (const lock_kind kind : {lock_kind::shared, lock_kind::roots, lock_kind::exclusive}) {
            const auto refused = error_of([&] { static_cast<void>(records.lock(kind)); });
            CHECK(refused.code() == errc::unsupported_repository);
            CHECK(refused.detail().find("news") != std::string::npos);
        }
        records.sweep(); // does not throw
        CHECK(read_text(one.base / "repository.json") == before);
    }
    SECTION("a feature that no version may ignore")
    {
        write_header(one.base, "", "", R"("news")");
        CHECK(open_error(one.base).code() == errc::unsupported_repository);
    }
    SECTION("another version")
    {
        write_text(one.base / "repository.json", R"({"version":2,"forms":["directory"],"features":{}})");
        CHECK(open_error(one.base).code() == errc::unsupported_repository);
    }
    SECTION("another storage")
    {
        CHECK_THROWS_AS(store(one.base, "tar", false), overmount::error);
    }
}

TEST_CASE("the first write of this version adds its feature to the header, and no look-up does")
{
    const opened_store one;
    CHECK(read_text(one.base / "repository.json").find(feature) != std::string::npos); // a new repository has it
    write_header(one.base, "", "", "");
    fs::remove_all(one.base / "imports");
    const store records(one.base, "directory", false);
    CHECK(records.tags().empty());
    CHECK(read_text(one.base / "repository.json").find(feature) == std::string::npos);
    for (int i = 0; i < 2; ++i) {
        CHECK(records.lock(lock_kind::shared).try_take());
        CHECK(read_text(one.base / "repository.json").find("\"read_only_compatible\":[" + feature + "]") != std::string::npos);
    }
    CHECK(fs::is_directory(one.base / "imports"));
    CHECK_FALSE(store(one.base, "directory", false).read_only());
}

TEST_CASE("unknown members of the header stay when the feature is added")
{
    const opened_store one;
    const auto header = [](const std::string& read_only) {
        return R"({"features":{"compatible":["news"],"incompatible":[],"news":[1,{"a":null}],"read_only_compatible":[)" + read_only +
               R"(]},"forms":["directory","tar"],"made_by":{"name":"\u00e9","size":18446744073709551615,"version":[1.5,true]},"version":1})";
    };
    write_text(one.base / "repository.json", header(""));
    const store records(one.base, "directory", false);
    CHECK(records.lock(lock_kind::shared).try_take());
    CHECK(nlohmann::json::parse(read_text(one.base / "repository.json")) == nlohmann::json::parse(header(feature)));
}

TEST_CASE("the first write fails if the header was damaged or replaced since the repository was opened, and leaves it unchanged")
{
    const opened_store one;
    write_header(one.base, "", "", "");
    const store records(one.base, "directory", false);
    const auto refused_with = [&](const std::string& text) {
        write_text(one.base / "repository.json", text);
        const auto failure = error_of([&] { static_cast<void>(records.lock(lock_kind::shared).try_take()); });
        CHECK(read_text(one.base / "repository.json") == text);
        return failure;
    };
    const auto header = [](const std::string& features) {
        return R"({"version":1,"forms":["directory"],"features":)" + features + "}";
    };
    std::string deep = header(R"({"incompatible":[],"read_only_compatible":[],"x":)" + std::string(100'000, '[') +
                              std::string(100'000, ']') + "}");
    for (const std::string& text :
         {std::string(), std::string("{"), std::string("[]"), std::string("7"), std::string("null"), std::string("{}"),
          std::string(R"({"version":1})"), std::string(R"({"version":1e999})"), std::string(R"({"version":1.5})"),
          std::string(R"({"version":-1})"), std::string(R"({"version":1,"forms":"directory","features":{}})"), header("null"),
          header("[]"), header("7"), header("{}"), header(R"({"incompatible":[],"read_only_compatible":{}})"),
          header(R"({"incompatible":[],"read_only_compatible":null})"), header(R"({"incompatible":[],"read_only_compatible":"a"})"),
          header(R"({"incompatible":[],"read_only_compatible":[1]})"), header(R"({"incompatible":[],"read_only_compatible":[[]]})"),
          header(R"({"incompatible":[],"read_only_compatible":[],"read_only_compatible":7})"),
          header(R"({"incompatible":[],"read_only_compatible":[]},"features":7)"),
          header(R"({"incompatible":[],"read_only_compatible":[]},"Features":7)"),
          header("{\"incompatible\":[],\"read_only_compatible\":[],\"x\":\"\xff\"}"),
          header(R"({"incompatible":[],"read_only_compatible":[],"x":1e999})"),
          header(R"({"incompatible":[],"read_only_compatible":[]})") + "}", header(R"({"incompatible":[],"read_only_compatible":[]})") + std::string(1, '\0'),
          "\xef\xbb\xbf" + header(R"({"incompatible":[],"read_only_compatible":[]})"), deep}) {
        INFO(text.substr(0, 200));
        CHECK(refused_with(text).code() == errc::corrupt_repository);
    }
    // A newer version has changed it meanwhile.
    for (const char* text : {R"({"version":2})", R"({"version":2,"features":[]})", R"({"version":2,"features":{"read_only_compatible":7}})"}) {
        INFO(text);
        CHECK(refused_with(text).code() == errc::unsupported_repository);
    }
    CHECK(refused_with(header(R"({"incompatible":["news"],"read_only_compatible":[]})")).code() == errc::unsupported_repository);
}

TEST_CASE("a header draft of a killed process in the base directory is swept when the lock is free")
{
    const opened_store one;
    write_text(one.base / "record-dead", "{\"vers");
    auto at_work = one.records.lock(lock_kind::shared);
    REQUIRE(at_work.try_take());
    const store other(one.base, "directory", false);
    other.sweep();
    CHECK(fs::exists(one.base / "record-dead"));
    at_work.release();
    other.sweep();
    CHECK_FALSE(fs::exists(one.base / "record-dead"));
    CHECK_FALSE(open_error(one.base).code());
}

TEST_CASE("sweeps do not disturb processes that create a repository or add the feature at the same time")
{
    const scratch_directory scratch;
    std::atomic<int> failures = 0;
    const auto together = [&failures](const auto& work) {
        std::latch start(4);
        std::vector<std::thread> threads;
        for (int i = 0; i < 4; ++i)
            threads.emplace_back([&] {
                start.arrive_and_wait();
                if (error_of(work).code())
                    ++failures;
            });
        for (std::thread& one : threads)
            one.join();
    };
    for (int round = 0; round < 25; ++round) {
        const fs::path base = scratch / ("repository-" + std::to_string(round));
        together([&base] { store(base, "directory", false).sweep(); });
        write_header(base, "", "", "");
        together([&base] {
            const store records(base, "directory", false);
            auto lock = records.lock(lock_kind::shared);
            while (!lock.try_take())
                std::this_thread::yield();
            lock.release();
            for (int i = 0; i < 20; ++i)
                records.sweep();
        });
        CHECK(read_text(base / "repository.json").find(feature) != std::string::npos);
        CHECK(names_in(base / "tmp").empty());
    }
    CHECK(failures == 0);
}

TEST_CASE("a repository on a read-only file system can be read, and the error of a write says why it fails")
{
    if (!overmount::test::may_mount())
        OVERMOUNT_SKIP("may not mount");
    const opened_store one;
    one.put_tag({"a:1", digest::of("image"), {}, {}, {}});
    one.put_image(digest::of("image"), "config");
    const fs::path shown = one.scratch / "read-only";
    fs::create_directory(shown);
    REQUIRE(run_quietly({"mount", "--bind", one.base.c_str(), shown.c_str()}) == 0);
    REQUIRE(run_quietly({"mount", "-o", "remount,bind,ro", shown.c_str()}) == 0);
    const store records(shown, "directory", false);
    CHECK(records.read_only());
    CHECK(records.tags().size() == 1);
    CHECK(records.image(digest::of("image")) == "config");
    const auto refused = error_of([&] { static_cast<void>(records.lock(lock_kind::shared)); });
    CHECK(refused.code() == errc::unsupported_repository);
    CHECK(refused.subject() == shown.string());
    CHECK(refused.detail().find("read-only") != std::string::npos);
}

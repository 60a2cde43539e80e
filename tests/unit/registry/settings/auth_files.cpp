#include <overmount/registry/settings/auth_files.hpp>

#include "support/catch.hpp"
#include "support/open_descriptors.hpp"
#include "support/scratch.hpp"

#include <sys/fsuid.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace {

namespace fs = std::filesystem;
namespace registry = overmount::registry;
using overmount::errc;
using overmount::registry_credentials;
using overmount::test::scratch_directory;

void put(const fs::path& path, const std::string& text)
{
    std::ofstream(path) << text;
}

std::string content(const fs::path& path)
{
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}

unsigned mode_of(const fs::path& path)
{
    struct stat found{};
    REQUIRE(::stat(path.c_str(), &found) == 0);
    return found.st_mode & 07777;
}

registry::auth_lookup as_me(const std::string& password)
{
    return registry::auth_lookup(registry_credentials::password("me", password));
}

template <class Call>
boost::system::error_code code_of(const Call& call)
{
    try {
        (void)call();
    } catch (const overmount::error& failure) {
        return failure.code();
    }
    return {};
}

TEST_CASE("auth files: the first file that has anything for the repository answers")
{
    const scratch_directory scratch;
    registry::write_login(scratch / "first", "a", "me", "1");
    registry::write_login(scratch / "second", "a", "me", "2");
    registry::write_login(scratch / "second", "b", "me", "2");
    put(scratch / "third", R"({"credsStore": "pass"})");
    const std::vector<std::string> paths = {scratch / "missing", scratch / "first", scratch / "first/not/a/directory",
                                            scratch / "second", scratch / "third"};
    CHECK(registry::find_login(paths, "a", "x") == as_me("1"));
    CHECK(registry::find_login(paths, "b", "x") == as_me("2"));
    CHECK(registry::find_login(paths, "c", "x") == registry::auth_lookup(registry::named_helper("pass", "c")));
    CHECK_FALSE(registry::find_login({scratch / "missing", scratch / "first"}, "b", "x"));
    CHECK_FALSE(registry::find_login({}, "a", "x"));
}

TEST_CASE("auth files: a file that cannot be read or is malformed is an error that names it")
{
    const scratch_directory scratch;
    fs::create_directory(scratch / "directory");
    put(scratch / "bad", "s3cret");
    put(scratch / "large", std::string(registry::auth_file::max_bytes + 1, ' '));
    CHECK(code_of([&] { return registry::find_login({scratch / "directory"}, "a", "x"); }) == boost::system::errc::is_a_directory);
    CHECK(code_of([&] { return registry::find_login({scratch / "large"}, "a", "x"); }) == boost::system::errc::file_too_large);
    try {
        (void)registry::find_login({scratch / "bad"}, "a", "x");
        FAIL("nothing was thrown");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::invalid_settings);
        CHECK(failure.subject() == scratch / "bad");
        CHECK(std::string(failure.what()).find("s3cret") == std::string::npos);
    }
    // It is not replaced, either.
    CHECK(code_of([&] { return registry::write_login(scratch / "bad", "a", "me", "1"), 0; }) == errc::invalid_settings);
    CHECK(content(scratch / "bad") == "s3cret");
}

TEST_CASE("auth files: what lies in a directory of somebody else is passed over, unless it is the only file")
{
    if (::geteuid() != 0) {
        WARN("SKIPPED: needs root");
        return;
    }
    const scratch_directory scratch;
    fs::permissions(scratch.path(), fs::perms(0711));
    for (const std::string name : {"closed", "open"}) {
        fs::create_directory(scratch / name);
        registry::write_login(scratch / name / "auth.json", "a", "me", name);
    }
    fs::permissions(scratch / "closed", fs::perms(0700));
    fs::permissions(scratch / "open", fs::perms(0755));
    const std::string closed = scratch / "closed/auth.json", unreadable = scratch / "open/auth.json";
    ::setfsuid(65534); // of this thread; the checks come after it
    const auto passed_over = code_of([&] { return registry::find_login({closed, "/nonexistent"}, "a", "x"); });
    const auto only = code_of([&] { return registry::find_login({closed}, "a", "x"); });
    const auto not_ours = code_of([&] { return registry::find_login({unreadable, "/nonexistent"}, "a", "x"); });
    ::setfsuid(0);
    CHECK_FALSE(passed_over);
    CHECK(only == boost::system::errc::permission_denied);
    CHECK(not_ours == boost::system::errc::permission_denied);
}

TEST_CASE("auth files: a login makes the file and its directories for the owner alone")
{
    const scratch_directory scratch;
    const auto before = overmount::test::open_descriptors();
    const fs::path file = scratch / "a/b/auth.json";
    registry::write_login(file, "h", "me", "1");
    CHECK(mode_of(file) == 0600);
    CHECK(mode_of(scratch / "a") == 0700);
    CHECK(mode_of(scratch / "a/b") == 0700);
    fs::permissions(file, fs::perms(0644));
    registry::write_login(file, "k", "me", "2");
    CHECK(mode_of(file) == 0600);
    CHECK(registry::find_login({file}, "h", "x") == as_me("1"));
    CHECK(registry::find_login({file}, "k", "x") == as_me("2"));
    CHECK(std::distance(fs::directory_iterator(scratch / "a/b"), fs::directory_iterator()) == 1);
    CHECK(overmount::test::open_descriptors() == before);
}

TEST_CASE("auth files: the file is replaced, so that a reader never sees half of it")
{
    const scratch_directory scratch;
    const fs::path file = scratch / "auth.json";
    registry::write_login(file, "h", "me", "1");
    std::ifstream reader(file);
    const std::string old = content(file);
    registry::write_login(file, "h", "me", "2");
    CHECK(std::string(std::istreambuf_iterator<char>(reader), {}) == old);
    CHECK(content(file) != old);
}

TEST_CASE("auth files: a login that fails leaves everything as it was")
{
    const scratch_directory scratch;
    registry::write_login(scratch / "auth.json", "h", "me", "1");
    const std::string old = content(scratch / "auth.json");
    CHECK(code_of([&] { return registry::write_login(scratch / "auth.json", "h", "a:b", "2"), 0; }) == errc::login_refused);
    CHECK(content(scratch / "auth.json") == old);
    // No temporary file is left.
    fs::create_directory(scratch / "directory");
    CHECK(code_of([&] { return registry::write_login(scratch / "directory", "h", "me", "2"), 0; }));
    CHECK(std::distance(fs::directory_iterator(scratch.path()), fs::directory_iterator()) == 2);
}

TEST_CASE("auth files: a symbolic link is followed, also if its target is missing")
{
    const scratch_directory scratch;
    fs::create_directory(scratch / "real");
    fs::create_symlink("real/auth.json", scratch / "second");
    fs::create_symlink(scratch / "second", scratch / "first");
    registry::write_login(scratch / "first", "h", "me", "1");
    CHECK(fs::is_symlink(scratch / "first"));
    CHECK(fs::is_symlink(scratch / "second"));
    CHECK(fs::is_regular_file(fs::symlink_status(scratch / "real/auth.json")));
    registry::write_login(scratch / "first", "k", "me", "2");
    CHECK(registry::find_login({scratch / "real/auth.json"}, "h", "x") == as_me("1"));
    CHECK(registry::remove_login(scratch / "first", "h"));
    CHECK(fs::is_symlink(scratch / "first"));
    CHECK_FALSE(registry::find_login({scratch / "real/auth.json"}, "h", "x"));

    fs::create_symlink("loop", scratch / "loop");
    CHECK(code_of([&] { return registry::write_login(scratch / "loop", "h", "me", "1"), 0; }) ==
          boost::system::errc::too_many_symbolic_link_levels);
}

TEST_CASE("auth files: a logout says whether there was a login")
{
    const scratch_directory scratch;
    const std::string file = scratch / "auth.json";
    CHECK_FALSE(registry::remove_login(file, "h"));
    CHECK_FALSE(fs::exists(file));
    registry::write_login(file, "h", "me", "1");
    registry::write_login(file, "k", "me", "2");
    CHECK(registry::remove_login(file, "h"));
    CHECK_FALSE(registry::remove_login(file, "h"));
    CHECK(registry::find_login({file}, "k", "x") == as_me("2"));
    CHECK(mode_of(file) == 0600);
}

TEST_CASE("auth files: the places come from the environment of the process")
{
    const auto paths = registry::auth_file_paths_of_process("mine.json");
    CHECK(paths.front() == "mine.json");
    if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
        CHECK(paths.back() == std::string(home) + "/.dockercfg");
    if (std::getenv("XDG_RUNTIME_DIR") == nullptr)
        CHECK(std::find(paths.begin(), paths.end(), "/run/containers/" + std::to_string(::getuid()) + "/auth.json") != paths.end());
}

} // namespace

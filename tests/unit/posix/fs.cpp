#include <overmount/posix/fs.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <fcntl.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace fs = std::filesystem;
using overmount::detail::open_in_root;
using overmount::unique_fd;
using overmount::detail::walk_in_root;
using overmount::test::scratch_directory;

constexpr int parent = O_PATH | O_DIRECTORY;
constexpr int listed = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

// The inode that a call opened, or the negative errno of its failure.
long long outcome(const unique_fd& fd)
{
    struct stat status{};
    if (!fd)
        return -errno;
    REQUIRE(::fstat(fd.get(), &status) == 0);
    return static_cast<long long>(status.st_ino);
}

// A root with links of all kinds, and a sibling directory that no link may reach.
class rooted
{
public:
    rooted()
    {
        fs::create_directories(scratch_ / "root/a/b/c");
        fs::create_directories(scratch_ / "outside/a");
        std::ofstream(scratch_ / "root/file") << "text";
        const auto link = [this](const std::string& name, const std::string& target) {
            fs::create_symlink(target, scratch_ / ("root/" + name));
        };
        link("relative", "a/b");
        link("absolute", "/a/b");
        link("out", "../outside");
        link("far_out", (scratch_ / "outside").native());
        link("above", "../../../../a");
        link("a/b/up", "../../a/../relative/c");
        link("to_root", "/");
        link("to_file", "file");
        link("dangling", "nowhere/at/all");
        link("loop", "loop");
        link("ping", "pong");
        link("pong", "ping/x");
        link("slashes", "//a///./b//");
        link("magic", "/proc/self/root");
        for (int i = 0; i < 45; ++i)
            link("chain" + std::to_string(i), i == 0 ? "a" : "chain" + std::to_string(i - 1));
        root_.reset(::open((scratch_ / "root").c_str(), parent | O_CLOEXEC));
    }
    [[nodiscard]] int fd() const noexcept { return root_.get(); }
    [[nodiscard]] fs::path path(const std::string& name) const { return scratch_ / name; }

private:
    scratch_directory scratch_;
    unique_fd root_;
};

// Simulates a kernel without openat2.
class without_openat2
{
public:
    without_openat2() { overmount::detail::has_openat2 = false; }
    ~without_openat2() { overmount::detail::has_openat2 = true; }
};

} // namespace

TEST_CASE("without openat2 each path resolves, or fails, as with openat2", "[fs]")
{
    const rooted root;
    if (outcome(open_in_root(root.fd(), "", parent)) < 0 || !overmount::detail::has_openat2)
        FAIL("this kernel has no openat2");
    for (const std::string path : {"",           ".",
                                   "/",          "..",
                                   "../..",      "a",
                                   "/a",         "a/",
                                   "a//b/.",     "a/b/..",
                                   "a/../..",    "../a",
                                   "../outside", "file",
                                   "file/",      "file/x",
                                   "file/..",    "nothing",
                                   "nothing/..", "relative",
                                   "relative/",  "relative/c",
                                   "absolute/c", "out",
                                   "out/a",      "far_out",
                                   "far_out/a",  "above",
                                   "above/b",    "a/b/up",
                                   "a/b/up/..",  "to_root",
                                   "to_root/a",  "to_root/../a",
                                   "to_file",    "to_file/x",
                                   "dangling",   "dangling/x",
                                   "loop",       "loop/x",
                                   "ping",       "slashes",
                                   "slashes/c",  "magic",
                                   "magic/etc",  "chain0",
                                   "chain38",    "chain39",
                                   "chain40",    "chain44",
                                   "chain39/b",  "a/b/c/../../../relative/../b/c"}) {
        for (const int flags : {parent, listed, O_RDONLY | O_DIRECTORY}) {
            INFO(path << " " << flags);
            CHECK(outcome(walk_in_root(root.fd(), path, flags)) ==
                  outcome(open_in_root(root.fd(), path, flags)));
        }
    }
    const std::string long_name(256, 'n'), many(2000, '/');
    for (const std::string& path : {long_name, "a/" + long_name, "a" + many + "b"})
        CHECK(outcome(walk_in_root(root.fd(), path, parent)) ==
              outcome(open_in_root(root.fd(), path, parent)));
}

TEST_CASE("open_in_root walks when openat2 is missing", "[fs]")
{
    const rooted root;
    const auto expected = outcome(open_in_root(root.fd(), "a", parent));
    const without_openat2 missing;
    CHECK(outcome(open_in_root(root.fd(), "absolute/../../a", parent)) == expected);
    CHECK(outcome(open_in_root(root.fd(), "far_out/a", parent)) == -ENOENT);
}

TEST_CASE("walk_in_root stays on its file system", "[fs]")
{
    // In the root of the machine, /proc is another file system.
    const unique_fd root(::open("/", parent | O_CLOEXEC));
    CHECK(outcome(walk_in_root(root.get(), "proc", parent)) == -EXDEV);
    CHECK(outcome(walk_in_root(root.get(), "proc/self/root", parent)) == -EXDEV);
}

TEST_CASE("walk_in_root fails after very many steps and uses few descriptors", "[fs]")
{
    const rooted root;
    std::string down, up;
    fs::path deepest = root.path("root");
    for (int i = 0; i < 300; ++i) {
        down += "d/";
        deepest /= "d";
    }
    fs::create_directories(deepest);
    for (int i = 0; i < 600; ++i)
        up += "d/../";
    fs::create_symlink(up, deepest / "l0");
    for (int i = 1; i < 30; ++i)
        fs::create_symlink("l" + std::to_string(i - 1) + "/../" + up, deepest / ("l" + std::to_string(i)));
    fs::create_directory(deepest / "d");
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit few{40, before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
    const auto plain = outcome(walk_in_root(root.fd(), down, parent));
    const auto far = outcome(walk_in_root(root.fd(), down + "l29", parent));
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK(plain > 0);
    CHECK(far == -ELOOP);
}

TEST_CASE("a file gets its exact mode only if the thread has its own umask", "[fs]")
{
    const scratch_directory scratch;
    const auto mode_of_new = [&scratch](const char* name) {
        const unique_fd fd(::open((scratch / name).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
        struct stat status{};
        return ::fstat(fd.get(), &status) == 0 ? status.st_mode & 0777 : 0;
    };
    const mode_t before = ::umask(027);
    mode_t shared = 0, own = 0, nested = 0, behind = 0;
    bool on_shared = true, on_own = false;
    {
        const overmount::detail::exact_modes ignored;
        on_shared = overmount::detail::exact_modes::now();
        shared = mode_of_new("shared");
    }
    std::thread worker([&] {
        overmount::detail::own_fs_attributes();
        {
            const overmount::detail::exact_modes outer;
            {
                const overmount::detail::exact_modes inner;
            }
            on_own = overmount::detail::exact_modes::now();
            own = mode_of_new("own");
        }
        behind = mode_of_new("behind");
    });
    worker.join();
    nested = ::umask(before);
    CHECK_FALSE(on_shared);
    CHECK(shared == 0640);
    CHECK(on_own);
    CHECK(own == 0666);
    CHECK(behind == 0640);
    CHECK(nested == 027);
}

TEST_CASE("a relative path is resolved against the working directory of the process, also on a thread with its own", "[fs]")
{
    const scratch_directory scratch;
    const fs::path before = fs::current_path();
    std::string relative, absolute, empty;
    std::thread worker([&] {
        overmount::detail::own_fs_attributes();
        std::thread([&] { fs::current_path(scratch / "."); }).join(); // changes it for that thread and this one, not for the process
        relative = overmount::detail::from_working_directory("a/b");
        absolute = overmount::detail::from_working_directory("/a/b");
        empty = overmount::detail::from_working_directory("");
    });
    worker.join();
    CHECK(fs::current_path() == before);
    CHECK(relative == (before / "a/b").string());
    CHECK(absolute == "/a/b");
    CHECK(empty.empty());
}

TEST_CASE("a path relative to a removed working directory does not exist", "[fs]")
{
    const scratch_directory scratch;
    const fs::path before = fs::current_path();
    fs::create_directory(scratch / "gone");
    fs::create_directories(scratch / "gone (deleted)/sub");
    fs::current_path(scratch / "gone");
    fs::remove(scratch / "gone");
    const std::string path = overmount::detail::from_working_directory("sub");
    const bool there = fs::exists(path);
    fs::current_path(before);
    CHECK_FALSE(there);
    CHECK(path == "/proc/self/cwd/sub");
}

TEST_CASE("files outside of the repository get the umask of the process, also on a thread with its own", "[fs]")
{
    const mode_t before = ::umask(022);
    mode_t first = 0, second = 0;
    std::thread worker([&] {
        overmount::detail::own_fs_attributes();
        ::umask(0);
        first = overmount::detail::by_umask_of_process(0666);
    });
    worker.join();
    ::umask(027);
    second = overmount::detail::by_umask_of_process(0777);
    ::umask(before);
    CHECK(first == 0644);
    CHECK(second == 0750);
}

TEST_CASE("reserving descriptors keeps none open and accepts a count above the limit", "[fs]")
{
    const auto open_files = [] { return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()); };
    const auto table = [] {
        std::ifstream status("/proc/self/status");
        std::string word;
        while (status >> word && word != "FDSize:")
            ;
        long size = 0;
        status >> size;
        return size;
    };
    const auto before = open_files();
    overmount::detail::reserve_descriptors(500);
    CHECK(table() >= 500);
    overmount::detail::reserve_descriptors(1 << 30);
    CHECK(open_files() == before);
}

TEST_CASE("only a call that a signal interrupted is repeated", "[fs]")
{
    int calls = 0;
    const auto failing_with = [&calls](int number) {
        return [&calls, number] {
            errno = ++calls < 3 ? EINTR : number;
            return calls < 3 || number != 0 ? -1 : 7;
        };
    };
    CHECK(overmount::detail::uninterrupted(failing_with(0)) == 7);
    CHECK(calls == 3);
    calls = 0;
    CHECK(overmount::detail::uninterrupted(failing_with(EIO)) == -1);
    CHECK(errno == EIO);
    CHECK(calls == 3);
    // The result counts, whatever errno an earlier call left.
    errno = EINTR;
    CHECK(overmount::detail::uninterrupted([] { return 0; }) == 0);
}

TEST_CASE("a file is read from its current position and at an offset", "[fs]")
{
    const scratch_directory dir;
    std::ofstream(dir / "file") << "abcdef";
    const unique_fd fd(::open((dir / "file").c_str(), O_RDONLY));
    std::string into(4, '.');
    const auto bytes = std::as_writable_bytes(std::span(into));
    CHECK(overmount::detail::read_some_at(fd.get(), 4, bytes) == 2);
    CHECK(into == "ef..");
    CHECK(overmount::detail::read_some(fd.get(), bytes) == 4);
    CHECK(into == "abcd");
    CHECK(overmount::detail::read_some(fd.get(), bytes) == 2);
    CHECK(overmount::detail::read_some(fd.get(), bytes) == 0);
    CHECK(overmount::detail::read_some_at(fd.get(), 6, bytes) == 0);
    const unique_fd directory(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
    CHECK_THROWS_WITH(overmount::detail::read_some(directory.get(), bytes, "read it", "this"),
                      Catch::Matchers::ContainsSubstring("read it") && Catch::Matchers::ContainsSubstring("this"));
    CHECK_THROWS_AS(overmount::detail::read_some_at(directory.get(), 0, bytes), overmount::error);
}

TEST_CASE("list_small_directory lists only small directories", "[fs]")
{
    const scratch_directory scratch;
    fs::create_directories(scratch / "some/b");
    std::ofstream(scratch / "some/a") << "text";
    fs::create_symlink("some", scratch / "link");
    const unique_fd parent_fd(::open((scratch / ".").c_str(), parent | O_CLOEXEC));
    using overmount::detail::list_small_directory;
    auto names = list_small_directory(parent_fd.get(), "some", 2);
    REQUIRE(names);
    std::ranges::sort(*names);
    CHECK(*names == std::vector<std::string>{"a", "b"});
    CHECK_FALSE(list_small_directory(parent_fd.get(), "some", 1));
    CHECK_FALSE(list_small_directory(parent_fd.get(), "none", 1));
    CHECK_FALSE(list_small_directory(parent_fd.get(), "link", 5));
    CHECK(list_small_directory(parent_fd.get(), "", 5));
}

// Unpacks as root of a user namespace that maps the IDs 0 to 65535 to 100000 and up.
// See user_namespaces(7).
#include <overmount/storage/on_disk/extractor.hpp>

#include <overmount/posix/unique_fd.hpp>
#include <overmount/tar/framing.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>

namespace {

using overmount::unique_fd;
using overmount::test::scratch_directory;
using overmount::test::tar_writer;

constexpr unsigned first_id = 100000;
constexpr const char* capability = "security.capability";

// vfs_cap_data with CAP_NET_BIND_SERVICE; version 3 if it has the ID of a namespace's root.
std::string capability_bytes(std::optional<std::uint32_t> root = {})
{
    std::string out("\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    if (root) {
        out[3] = 3;
        for (unsigned shift = 0; shift < 32; shift += 8)
            out += static_cast<char>(*root >> shift & 0xff);
    }
    return out;
}

std::string read_all(int fd)
{
    std::string out;
    std::array<char, 1024> part;
    for (ssize_t got = 0; (got = ::read(fd, part.data(), part.size())) > 0;)
        out.append(part.data(), static_cast<std::size_t>(got));
    return out;
}

void unpack(int root, int trash, const std::string& bytes, bool& skipped_xattrs)
{
    namespace tar = overmount::tar;
    overmount::detail::extractor files(root, trash, {}, false);
    tar::framing frames{overmount::limits()};
    auto input = std::as_bytes(std::span(bytes));
    for (auto what = frames.next(input); what != tar::event::need_input; what = frames.next(input)) {
        if (what == tar::event::entry)
            files.begin(frames.entry());
        else if (what == tar::event::data)
            files.data(frames.data_offset(), frames.data());
        else if (what == tar::event::entry_end)
            files.end();
    }
    skipped_xattrs = files.finish().skipped_xattrs;
}

// Limits apply to a whole process, so only the child may call this.
void drop_set_file_capabilities()
{
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> sets{};
    if (::syscall(SYS_capget, &header, sets.data()) != 0)
        ::_exit(3);
    for (auto* set : {&sets[0].effective, &sets[0].permitted})
        *set &= ~(1u << CAP_SETFCAP);
    if (::syscall(SYS_capset, &header, sets.data()) != 0)
        ::_exit(3);
}

// A layer's root, into which the root of a user namespace unpacks an archive.
class mapped_layer
{
public:
    mapped_layer()
    {
        for (const char* name : {"root", "trash"}) {
            std::filesystem::create_directory(scratch_ / name);
            possible_ = possible_ && ::chown((scratch_ / name).c_str(), first_id, first_id) == 0;
        }
    }

    // The result: "all" or "not all attributes" were stored, or the error. Empty if there are no
    // user namespaces.
    std::optional<std::string> unpack(const tar_writer& archive,
                                      const std::function<void()>& before = [] {})
    {
        if (!possible_)
            return std::nullopt;
        const std::string bytes = archive.finish();
        const unique_fd root(::open((scratch_ / "root").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        const unique_fd trash(::open((scratch_ / "trash").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        std::array<int, 2> go{}, answer{};
        if (::pipe2(go.data(), O_CLOEXEC) != 0 || ::pipe2(answer.data(), O_CLOEXEC) != 0)
            throw std::system_error(errno, std::system_category(), "pipe");
        // Not fork(): a sanitizer starts a thread in its child, and threads share their namespace.
        const auto child = static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0));
        if (child == 0) {
            ::close(go[1]);
            char mapped = 0;
            if (::read(go[0], &mapped, 1) == 1 && ::setresgid(0, 0, 0) == 0 && ::setresuid(0, 0, 0) == 0) {
                before();
                const std::string said = attempt(root.get(), trash.get(), bytes);
                ::_exit(::write(answer[1], said.data(), said.size()) > 0 ? 0 : 1);
            }
            ::_exit(2);
        }
        const unique_fd go_read(go[0]), answer_read(answer[0]);
        unique_fd go_write(go[1]), answer_write(answer[1]);
        if (child < 0)
            return std::nullopt;
        bool allowed = true;
        for (const char* map : {"uid_map", "gid_map"}) {
            std::ofstream file("/proc/" + std::to_string(child) + "/" + map);
            file << "0 " << first_id << " 65536" << std::flush;
            allowed = allowed && file.good();
        }
        allowed = allowed && ::write(go_write.get(), "g", 1) == 1;
        go_write.reset();
        answer_write.reset();
        std::string said = read_all(answer_read.get());
        int status = 0;
        ::waitpid(child, &status, 0);
        if (!allowed)
            return std::nullopt;
        INFO("wait status " << status);
        CHECK(status == 0);
        return said;
    }

    [[nodiscard]] std::optional<std::string> xattr(const char* path) const
    {
        std::array<char, 64> value;
        const auto size =
            ::lgetxattr((scratch_ / "root" / path).c_str(), capability, value.data(), value.size());
        if (size < 0)
            return std::nullopt;
        return std::string(value.data(), static_cast<std::size_t>(size));
    }
    [[nodiscard]] std::pair<uid_t, gid_t> owner(const char* path) const
    {
        struct stat found{};
        REQUIRE(::lstat((scratch_ / "root" / path).c_str(), &found) == 0);
        return {found.st_uid, found.st_gid};
    }

private:
    static std::string attempt(int root, int trash, const std::string& bytes)
    {
        try {
            bool skipped = false;
            ::unpack(root, trash, bytes, skipped);
            return skipped ? "not all attributes" : "all";
        } catch (const std::exception& failed) {
            return failed.what();
        }
    }

    scratch_directory scratch_;
    bool possible_ = true; // false if the test itself runs in a namespace with fewer IDs
};

} // namespace

#define NEEDS_ROOT()                                                                                         \
    if (::geteuid() != 0)                                                                                    \
    OVERMOUNT_SKIP("needs root, to give a user namespace ids")
#define UNPACK_OR_SKIP(said, ...)                                                                            \
    const auto said = __VA_ARGS__;                                                                           \
    if (!said)                                                                                               \
    OVERMOUNT_SKIP("no user namespaces here")

TEST_CASE("root of a user namespace stores file capabilities that are valid only in that namespace")
{
    NEEDS_ROOT();
    mapped_layer made;
    const overmount::test::string_pairs plain{{capability, capability_bytes()}};
    UNPACK_OR_SKIP(said,
                   made.unpack(tar_writer()
                                   .file("root", "x", {.xattrs = plain})
                                   .file("user", "x", {.uid = 7, .gid = 8, .xattrs = plain})
                                   .file("nested", "x", {.xattrs = {{capability, capability_bytes(5)}}})));
    CHECK(*said == "all");
    CHECK(made.xattr("root") == capability_bytes(first_id));
    CHECK(made.xattr("user") == capability_bytes(first_id));
    CHECK(made.xattr("nested") == capability_bytes(first_id + 5));
    CHECK(made.owner("root") == std::pair(uid_t{first_id}, gid_t{first_id}));
    CHECK(made.owner("user") == std::pair(uid_t{first_id + 7}, gid_t{first_id + 8}));
}

TEST_CASE("a capability for a root whose ID the user namespace does not map is an error")
{
    NEEDS_ROOT();
    mapped_layer made;
    const overmount::test::string_pairs foreign{{capability, capability_bytes(70000)}};
    UNPACK_OR_SKIP(said, made.unpack(tar_writer().file("a", "x", {.xattrs = foreign})));
    CHECK_THAT(*said, Catch::Matchers::ContainsSubstring("setxattr") && Catch::Matchers::ContainsSubstring(capability) &&
                          Catch::Matchers::ContainsSubstring("Invalid argument"));
    CHECK(made.xattr("a") == std::nullopt);
}

TEST_CASE("file capabilities that a user namespace may not set are skipped, and that is recorded")
{
    NEEDS_ROOT();
    mapped_layer made;
    const overmount::test::string_pairs plain{{capability, capability_bytes()}};
    UNPACK_OR_SKIP(said, made.unpack(tar_writer().file("a", "x", {.uid = 7, .xattrs = plain}),
                                     drop_set_file_capabilities));
    CHECK(*said == "not all attributes");
    CHECK(made.xattr("a") == std::nullopt);
    CHECK(made.owner("a") == std::pair(uid_t{first_id + 7}, gid_t{first_id}));
}

TEST_CASE("an owner that the user namespace does not map is an error, not another owner")
{
    NEEDS_ROOT();
    for (const bool is_link : {false, true}) {
        mapped_layer made;
        const tar_writer archive = is_link ? tar_writer().symlink("a", "x", {.uid = 70000})
                                           : tar_writer().file("a", "x", {.gid = 70000});
        UNPACK_OR_SKIP(said, made.unpack(archive));
        CHECK_THAT(*said, Catch::Matchers::ContainsSubstring("chown") && Catch::Matchers::ContainsSubstring("Invalid argument"));
    }
}

TEST_CASE("a user namespace can create whiteouts, but no other devices")
{
    NEEDS_ROOT();
    mapped_layer made;
    UNPACK_OR_SKIP(said, made.unpack(tar_writer().file(".wh.gone", "").fifo("fifo")));
    CHECK(*said == "all");
    CHECK(made.owner("gone") == std::pair(uid_t{first_id}, gid_t{first_id}));
    UNPACK_OR_SKIP(refused, made.unpack(tar_writer().character_device("null", 1, 3)));
    CHECK_THAT(*refused, Catch::Matchers::ContainsSubstring("create") && Catch::Matchers::ContainsSubstring("not permitted"));
}

#include <overmount/mount/mount_lookup.hpp>

#include <overmount/posix/fs.hpp>

#include "support/catch.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

using overmount::mount_identity;
using overmount::mountinfo;
using overmount::unique_fd;

namespace {

unique_fd open_path(const char* path) { return unique_fd(::open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)); }

} // namespace

TEST_CASE("a descriptor tells the ID of its mount in mountinfo, and whether it is the root of that mount")
{
    const auto proc = open_path("/proc"), root = open_path("/");
    const auto now = mountinfo::read();
    const auto* entry = now.find_by_id(overmount::detail::mountinfo_id(proc.get()));
    REQUIRE(entry != nullptr);
    CHECK(entry->mount_point == "/proc");
    struct stat status;
    REQUIRE(::stat("/proc", &status) == 0);
    CHECK(entry->device == status.st_dev);
    CHECK(overmount::detail::is_mount_root(proc.get()));
    CHECK_FALSE(overmount::detail::is_mount_root(open_path("/proc/self").get()));
    CHECK(overmount::detail::mountinfo_id(-1) == 0);
}

TEST_CASE("a visible mount with another source proves that a device number was reused")
{
    mount_identity ours;
    ours.source = "overmount-1";
    ours.device = makedev(0, 77);
    const auto seen = [&](const char* text) { return overmount::detail::device_number_was_reused(mountinfo::parse(text), ours); };
    CHECK(seen("10 1 0:77 / /other rw - overlay overmount-2 rw\n"));
    CHECK(seen("10 1 0:77 / /other rw - tmpfs tmpfs rw\n"));
    CHECK_FALSE(seen("10 1 0:77 / /moved rw - overlay overmount-1 rw\n"));
    CHECK_FALSE(seen("10 1 0:78 / /other rw - overlay overmount-2 rw\n"));
    CHECK_FALSE(seen(""));
    ours.source.clear(); // unknown
    CHECK_FALSE(seen("10 1 0:77 / /other rw - overlay overmount-2 rw\n"));
}

TEST_CASE("new kernels provide a unique mount ID, old ones do not")
{
    const auto proc = open_path("/proc");
    const auto id = overmount::detail::unique_mount_id(proc.get());
    if (std::getenv("OVERMOUNT_TEST_OLD_KERNEL") != nullptr)
        CHECK(id == 0);
    else if (id != 0) {
        CHECK(id == overmount::detail::unique_mount_id(open_path("/proc/self").get()));
        CHECK(id != overmount::detail::unique_mount_id(open_path("/").get()));
    }
    CHECK(overmount::detail::unique_mount_id(-1) == 0);
}

TEST_CASE("an existing superblock is not gone, nor is one with a number that ustat cannot take")
{
    struct stat status;
    REQUIRE(::stat("/proc", &status) == 0);
    CHECK_FALSE(overmount::detail::superblock_is_gone(status.st_dev));
    CHECK_FALSE(overmount::detail::superblock_is_gone(0));
    CHECK_FALSE(overmount::detail::superblock_is_gone(~0ull));
}

TEST_CASE("a mount of another boot, or without a source, is not found")
{
    mount_identity wanted;
    CHECK_FALSE(overmount::detail::find_mount(wanted));
    wanted.source = "overmount-nowhere";
    wanted.boot = overmount::detail::boot_id();
    CHECK_FALSE(overmount::detail::find_mount(wanted));
    const auto proc = open_path("/proc");
    wanted = overmount::detail::identity_of(proc.get(), "proc");
    wanted.boot = "another";
    CHECK_FALSE(overmount::detail::find_mount(wanted));
}

TEST_CASE("mountinfo of a chroot does not list all mounts")
{
    CHECK(overmount::detail::lists_all_mounts(mountinfo::parse("4000000000 2 0:1 / / rw - ext4 disk rw\n")));
    SECTION("whose root is not a mount point")
    {
        CHECK_FALSE(overmount::detail::lists_all_mounts(mountinfo::parse("7 2 0:1 / /m rw - overlay another rw\n")));
    }
    SECTION("whose root is a mount that process 1 sees elsewhere")
    {
        std::ifstream in("/proc/1/mountinfo");
        const std::string text(std::istreambuf_iterator<char>(in), {});
        const auto first = mountinfo::parse(text);
        REQUIRE(first.entries().size() > 1);
        for (const auto& entry : first.entries()) {
            const auto line = std::to_string(entry.id) + " 2 0:1 / / rw - ext4 disk rw\n";
            CHECK(overmount::detail::lists_all_mounts(mountinfo::parse(line)) == (entry.mount_point == "/"));
        }
    }
}

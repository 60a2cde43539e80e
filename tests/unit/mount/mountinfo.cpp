#include <overmount/mount/mountinfo.hpp>

#include "support/catch.hpp"

#include <sys/sysmacros.h>

using overmount::mountinfo;
using strings = std::vector<std::string>;

TEST_CASE("a line of mountinfo gives all its fields")
{
    const auto info =
        mountinfo::parse("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/root "
                         "rw,errors=continue\n");
    REQUIRE(info.entries().size() == 1);
    const auto& entry = info.entries()[0];
    CHECK(entry.id == 36);
    CHECK(entry.parent_id == 35);
    CHECK(entry.device == makedev(98, 0));
    CHECK(info.find_by_id(36) == &entry);
    CHECK(info.find_by_id(35) == nullptr);
    CHECK(entry.root == "/mnt1");
    CHECK(entry.mount_point == "/mnt2");
    CHECK(entry.options == strings{"rw", "noatime"});
    CHECK(entry.fs_type == "ext3");
    CHECK(entry.source == "/dev/root");
    CHECK(entry.super_options == strings{"rw", "errors=continue"});
}

TEST_CASE("octal escapes are decoded after the options are split")
{
    const auto info = mountinfo::parse(
        "1 2 0:1 / /a\\040b\\134040\\011\\012 rw - overlay src\\040x rw,lowerdir+=/p\\054q,x\n");
    REQUIRE(info.entries().size() == 1);
    CHECK(info.entries()[0].mount_point == "/a b\\040\t\n");
    CHECK(info.entries()[0].source == "src x");
    CHECK(info.entries()[0].super_options == strings{"rw", "lowerdir+=/p,q", "x"});
}

TEST_CASE("a backslash that does not start an escape is kept")
{
    const auto info = mountinfo::parse("1 2 0:1 / /\\8\\40\\777\\ rw - t s rw");
    REQUIRE(info.entries().size() == 1);
    CHECK(info.entries()[0].mount_point == "/\\8\\40\\777\\");
}

TEST_CASE("an empty source is accepted")
{
    const auto info = mountinfo::parse("1 2 0:1 / /m rw - overlay  rw,x\n");
    REQUIRE(info.entries().size() == 1);
    CHECK(info.entries()[0].source.empty());
    CHECK(info.entries()[0].super_options == strings{"rw", "x"});
}

TEST_CASE("invalid lines are skipped and the others kept")
{
    const auto info = mountinfo::parse("\n"
                                       "x 2 0:1 / /m rw - t s rw\n"
                                       "1 -2 0:1 / /m rw - t s rw\n"
                                       "99999999999999999999999 2 0:1 / /m rw - t s rw\n"
                                       "1 2 0:1 / /no-hyphen rw shared:1 t s rw\n"
                                       "1 2\n"
                                       "1 2 0 / /m rw - t s rw\n"
                                       "1 2 x:1 / /m rw - t s rw\n"
                                       "1 2 0:1 / /m rw -\n"
                                       "7 2 0:1 / /good rw - t s rw\n"
                                       "8 2 0:1 / /cut rw -");
    REQUIRE(info.entries().size() == 1);
    CHECK(info.entries()[0].id == 7);
}

TEST_CASE("arbitrary bytes do no harm")
{
    std::string text = "1 2 0:1 / /\xff\x01";
    text.push_back('\0');
    text += " rw - t s rw\n";
    const auto info = mountinfo::parse(text);
    REQUIRE(info.entries().size() == 1);
    CHECK(info.entries()[0].mount_point == std::string("/\xff\x01\0", 4));
    CHECK(mountinfo::parse(std::string(100000, ' ')).entries().empty());
    CHECK(mountinfo::parse(std::string(100000, '\n')).entries().empty());
}

TEST_CASE("the latest of several mounts at one path is found")
{
    const auto info = mountinfo::parse("1 2 0:1 / /m rw - t one rw\n"
                                       "3 1 0:1 / /m rw - t two rw\n"
                                       "4 2 0:1 / /n rw - t one rw\n");
    REQUIRE(info.find_by_target("/m") != nullptr);
    CHECK(info.find_by_target("/m")->id == 3);
    CHECK(info.find_by_target("/m/") == nullptr);
}

TEST_CASE("the mounts of this process are listed")
{
    CHECK_FALSE(mountinfo::read().entries().empty());
}

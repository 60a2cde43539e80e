#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::tar_writer;

namespace {

HOSTILE("a file through an absolute link to the outside",
        "CVE-2014-6407: docker pull, links followed while unpacking")
{
    layer.refused(tar_writer().symlink("l", layer.canary()).file("l/bird", "dead"),
                  errc::entry_escapes_layer);
}

HOSTILE("a file through a link of two dots", "CVE-2014-9356: docker, `..` in link targets")
{
    for (const char* target : {"../canary", "../../canary", "../../../canary", "../../../../canary"})
        layer.refused(tar_writer().symlink("l", target).file("l/bird", "dead"), errc::entry_escapes_layer);
}

HOSTILE("the root of the machine by a link", "CVE-2015-3629: docker, a link in an image to the host's root")
{
    layer.becomes(tar_writer().symlink("host", "/").file("host/a", "inside").file("host/d/b", "inside"),
                  {"a f \"inside\"", "d d implied", "d/b f \"inside\"", "host l -> /"});
}

HOSTILE("a link above a link that leads out", "CVE-2021-32803: node-tar, a directory swapped for a link")
{
    layer.refused(
        tar_writer().directory("d").file("d/a", "").symlink("d", layer.canary()).file("d/bird", "dead"),
        errc::entry_escapes_layer);
}

HOSTILE("a link in two steps", "CVE-2025-45582: GNU tar, a link first and a file through it later")
{
    layer.refused(tar_writer().symlink("x", "../canary").symlink("y", "x").file("y/bird", "dead"),
                  errc::entry_escapes_layer);
}

HOSTILE("a link of many links, longer than a path",
        "CVE-2025-4517: Python tarfile, realpath gives up at PATH_MAX")
{
    // Each link goes down and up again, so that the text of all together is longer than any path may be.
    tar_writer archive;
    std::string path;
    for (const char* step : {"a", "b", "c", "d", "e"}) {
        const std::string name(200, 'd');
        archive.directory(path + name).symlink(path + step, name);
        path += std::string(step) + "/";
    }
    archive.symlink("out", path + "../../../../../../../canary").file("out/bird", "dead");
    layer.refused(archive, errc::entry_escapes_layer);
}

HOSTILE("a file in the place of a link", "CVE-2018-12015: Archive::Tar wrote through a link of the same name")
{
    layer.becomes(
        tar_writer().symlink("l", layer.canary() + "/bird").file("l", "new", {.mode = 0666, .uid = 9}),
        {"l f \"new\" 0666 9:0"});
}

HOSTILE("a directory in the place of a link", "CVE-2021-32760: containerd changed modes of files outside")
{
    layer.becomes(tar_writer()
                      .symlink("l", layer.canary())
                      .directory("l", {.mode = 0777, .uid = 9})
                      .file("l/bird", "new"),
                  {"l d 0777 9:0 opaque", "l/bird f \"new\""});
}

HOSTILE("attributes of a link are not its target's",
        "CVE-2021-31566, CVE-2021-23177: libarchive, modes and ACLs")
{
    layer.becomes(
        tar_writer().symlink("l", layer.canary() + "/bird",
                             {.mode = 0600, .uid = 9, .gid = 8, .mtime = 7, .xattrs = {{"user.a", "1"}}}),
        {"l l -> " + layer.canary() + "/bird 9:8 @7"});
}

HOSTILE("a hard link to the outside", "CVE-2014-6407, CVE-2021-32760: hard links to files of the host")
{
    layer.refused(tar_writer().hard_link("h", layer.canary() + "/bird"), errc::missing_hard_link_target);
    layer.refused(tar_writer().hard_link("h", "../canary/bird"), errc::entry_escapes_layer);
    layer.refused(tar_writer().hard_link("h", "/etc/passwd"), errc::missing_hard_link_target);
}

HOSTILE("a hard link through a link to the outside", "CVE-2025-48387: tar-fs, hard links through links")
{
    layer.refused(tar_writer().symlink("l", layer.canary()).hard_link("h", "l/bird"),
                  errc::missing_hard_link_target);
    layer.refused(tar_writer().symlink("l", "../canary").hard_link("h", "l/bird"),
                  errc::missing_hard_link_target);
}

HOSTILE("a hard link to a link, and a file over it",
        "CVE-2016-5418: libarchive wrote through a hard link to a link")
{
    layer.becomes(tar_writer().symlink("l", layer.canary() + "/bird").hard_link("h", "l").file("h", "new"),
                  {"h f \"new\"", "l l -> " + layer.canary() + "/bird"});
}

HOSTILE("a hard link to a link is that link", "fidelity 3: links to links link the link")
{
    layer.becomes(tar_writer().symlink("l", layer.canary()).hard_link("h", "l"),
                  {"h l -> " + layer.canary(), "l l = h"});
}

HOSTILE("a hard link with data",
        "CVE-2016-5418: data of a hard link; POSIX pax allows them, fidelity 1 does not")
{
    layer.refused(tar_writer().file("a", "old").pax({{"comment", "x"}}).entry('1', "h", "a", {}, "new"),
                  errc::tar_disagreement);
    layer.refused(tar_writer().file("a", "old").entry('1', "h", "a", {.pax = {{"size", "3"}}}).data("new"),
                  errc::tar_disagreement);
}

HOSTILE("hard links keep the file's own attributes", "fidelity 3: the link entry's own are best ignored")
{
    layer.becomes(tar_writer()
                      .file("a", "text", {.mode = 04755, .uid = 3, .mtime = 5})
                      .hard_link("b", "a", {.mode = 0600, .uid = 9, .mtime = 6})
                      .hard_link("d/c", "/./b"),
                  {"a f \"text\" 4755 3:0 @5", "b f = a", "d d implied", "d/c f = a"});
}

HOSTILE("hard links of all types", "fidelity 3: same inode, whatever the type")
{
    layer.becomes(tar_writer()
                      .fifo("p")
                      .hard_link("p2", "p")
                      .character_device("c", 1, 3)
                      .hard_link("c2", "c")
                      .symlink("s", "x")
                      .hard_link("s2", "s"),
                  {"c c 1:3", "c2 c = c", "p p", "p2 p = p", "s l -> x", "s2 l = s"});
}

HOSTILE("a hard link in front of its target", "fidelity 2: a missing target is an error")
{
    layer.refused(tar_writer().hard_link("b", "a").file("a", ""), errc::missing_hard_link_target);
}

HOSTILE("a hard link to itself", "GNU tar: a link to the name that it has")
{
    layer.refused(tar_writer().hard_link("a", "a"), errc::missing_hard_link_target);
    layer.becomes(tar_writer().file("a", "text").hard_link("a", "./a"), {"a f \"text\""});
}

HOSTILE("a hard link to a directory", "fidelity 3: directories cannot be linked")
{
    layer.refused(tar_writer().directory("d").hard_link("h", "d"), errc::missing_hard_link_target);
    layer.refused(tar_writer().directory("d").hard_link("d/h", "d"), errc::missing_hard_link_target);
    layer.refused(tar_writer().directory("d").hard_link("h", "."), errc::missing_hard_link_target);
    layer.refused(tar_writer().file("d/a", "").hard_link("h", "/"), errc::missing_hard_link_target);
}

HOSTILE("a hard link in the place of its target's directory",
        "fidelity 3: a hard link replaces what is there")
{
    layer.refused(tar_writer().file("d/a", "").hard_link("d", "d/a"), errc::missing_hard_link_target);
    layer.refused(tar_writer().file("d/e/a", "text").hard_link("d", "d/e/a"), errc::missing_hard_link_target);
    layer.becomes(tar_writer().file("a", "1").file("d/b", "").hard_link("d", "a"), {"a f \"1\"", "d f = a"});
}

HOSTILE("one of two hard links is replaced", "fidelity 2: never open what is there for writing")
{
    layer.becomes(tar_writer().file("a", "old").hard_link("b", "a").file("a", "new", {.mode = 0600}),
                  {"a f \"new\" 0600", "b f \"old\""});
}

HOSTILE("a hard link in a chain, its first name gone", "domain row 43: forward, chained, over a link")
{
    layer.becomes(tar_writer().file("a", "text").hard_link("b", "a").symlink("a", "b").hard_link("c", "b"),
                  {"a l -> b", "b f \"text\"", "c f = b"});
}

HOSTILE("a hard link to a file of a lower layer", "image-spec#1204: undefined; fidelity 3: may fail")
{
    layer.refused(tar_writer().hard_link("bin/h", "bin/busybox"), errc::missing_hard_link_target);
}

HOSTILE("links inside the layer are followed as directories", "fidelity 2: lib to usr/lib must keep working")
{
    layer.becomes(tar_writer()
                      .directory("usr/lib")
                      .symlink("lib", "usr/lib")
                      .symlink("abs", "/usr/lib")
                      .symlink("up", "../../../usr/lib")
                      .file("lib/a", "1")
                      .file("abs/b", "2")
                      .file("up/d/c", "3"),
                  {"abs l -> /usr/lib", "lib l -> usr/lib", "up l -> ../../../usr/lib", "usr d implied",
                   "usr/lib d", "usr/lib/a f \"1\"", "usr/lib/b f \"2\"", "usr/lib/d d implied",
                   "usr/lib/d/c f \"3\""});
}

HOSTILE("links as parents that loop or dangle", "fidelity 2: a dangling or looping link may be an error")
{
    layer.refused(tar_writer().symlink("l", "l").file("l/a", ""), errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("a", "b").symlink("b", "a").directory("a/d"),
                  errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("l", "nowhere").file("l/a", ""), errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("l", "nowhere").whiteout("l/a"), errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("l", "nowhere").opaque("l"), errc::entry_escapes_layer);
}

HOSTILE("more links in a row than are followed", "path_resolution(7): 40 links")
{
    tar_writer archive;
    archive.directory("l0");
    for (int i = 1; i <= 41; ++i)
        archive.symlink("l" + std::to_string(i), "l" + std::to_string(i - 1));
    layer.refused(archive.file("l41/a", ""), errc::entry_escapes_layer);
}

HOSTILE("links of /proc that are no links of text", "openat2(2), RESOLVE_NO_MAGICLINKS")
{
    layer.refused(tar_writer().symlink("l", "/proc/self/root").file("l/a", ""), errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("l", "/proc/self/cwd").directory("l/d"), errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("l", "/proc/1/root").hard_link("h", "l/etc/passwd"),
                  errc::missing_hard_link_target);
}

HOSTILE("a parent that a link replaces after it was used", "fidelity 2: caches of parents must be dropped")
{
    layer.becomes(tar_writer().file("a/x", "1").directory("b").symlink("a", "b").file("a/y", "2"),
                  {"a l -> b", "b d", "b/y f \"2\""});
}

HOSTILE("a link above that is pointed elsewhere", "CVE-2018-15664: docker cp, a link exchanged meanwhile")
{
    layer.becomes(tar_writer()
                      .directory("b")
                      .directory("c")
                      .symlink("l", "b")
                      .file("l/x", "1")
                      .symlink("l", "c")
                      .file("l/y", "2"),
                  {"b d", "b/x f \"1\"", "c d", "c/y f \"2\"", "l l -> c"});
}

HOSTILE("a directory whose attributes wait while a link takes its place",
        "fidelity 2: keyed to the inode, not the name")
{
    layer.becomes(tar_writer().directory("d", {.mode = 04777, .uid = 9}).symlink("d", layer.canary()),
                  {"d l -> " + layer.canary()});
    layer.becomes(
        tar_writer().directory("d/e", {.mode = 04777, .uid = 9}).symlink("d", layer.canary()).directory("x"),
        {"d l -> " + layer.canary(), "x d"});
}

HOSTILE("whiteouts in a directory that a link to the host replaces",
        "fidelity 2: no path without the root's descriptor")
{
    layer.becomes(tar_writer().whiteout("d/a").opaque("x").symlink("d", "/"),
                  {"d l -> /", "x d implied opaque"});
}

HOSTILE("link targets are bytes", "fidelity 1: values are bytes")
{
    layer.becomes(
        tar_writer().symlink("a", "\xff\n \\").symlink("b", "//../.").symlink("c", std::string(4095, 't')),
        {R"(a l -> \xff\n \\)", "b l -> //../.", "c l -> " + std::string(4095, 't')});
}

HOSTILE("link targets that are empty or too long", "symlink(2): ENOENT; fidelity 7: link target 4095")
{
    layer.refused(tar_writer().symlink("a", ""), errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("a", std::string(4096, 't')), errc::path_too_long);
    layer.refused(tar_writer().hard_link("a", ""), errc::tar_disagreement);
}

HOSTILE("a hard link to what a whiteout deletes", "OCI image spec, layer.md: a whiteout is no file")
{
    layer.refused(tar_writer().whiteout("a").hard_link("b", "a"), errc::missing_hard_link_target);
    layer.refused(tar_writer().whiteout("a").hard_link("b", ".wh.a"), errc::missing_hard_link_target);
}

} // namespace

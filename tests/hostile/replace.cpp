#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::tar_writer;

namespace {

HOSTILE("a path twice: the last wins, attributes and all", "fidelity 3; docker and skopeo refuse it")
{
    layer.becomes(
        tar_writer()
            .file("a", "first and longer", {.mode = 04755, .uid = 3, .mtime = 4, .xattrs = {{"user.a", "1"}}})
            .file("./a", "last"),
        {"a f \"last\""});
}

HOSTILE("a directory twice keeps its children", "fidelity 3: directory on directory")
{
    layer.becomes(tar_writer()
                      .directory("d", {.mode = 0700, .uid = 3, .xattrs = {{"user.a", "1"}, {"user.b", "2"}}})
                      .file("d/a", "1")
                      .directory("d", {.mode = 0711, .mtime = 5, .xattrs = {{"user.b", "3"}}}),
                  {"d d 0711 @5 user.b=\"3\"", "d/a f \"1\""});
}

HOSTILE("a file in the place of a tree", "fidelity 3: whole tree if need be")
{
    layer.becomes(tar_writer().file("d/e/f/g", "").symlink("d/l", "/").file("d", "text"), {"d f \"text\""});
}

HOSTILE("a tree with data is replaced", "fidelity 3: whole tree if need be; the recipe keeps its files")
{
    layer.becomes(tar_writer()
                      .file("d/e/f/g", "text")
                      .whiteout("d/w")
                      .directory("d/h", {.mode = 0})
                      .fifo("d/h/p")
                      .file("d/h/i", "more")
                      .symlink("d", "d/e/f")
                      .directory("d")
                      .file("d/e", "last"),
                  {"d d opaque", "d/e f \"last\""});
}

HOSTILE("a link in the place of a tree, and files through it", "fidelity 2: removing does not follow")
{
    layer.becomes(tar_writer()
                      .directory("real")
                      .file("real/kept", "")
                      .symlink("d/l", "/real")
                      .symlink("d/m", layer.canary())
                      .symlink("d", "real"),
                  {"d l -> real", "real d", "real/kept f \"\""});
}

HOSTILE("a directory in the place of a file hides what is below",
        "fidelity 3 and 6: last wins, including all the above")
{
    layer.becomes(tar_writer().file("a", "text").directory("a").file("a/b", ""),
                  {"a d opaque", "a/b f \"\""});
}

HOSTILE("a directory comes back without its old children", "fidelity 3: remove what is there")
{
    layer.becomes(tar_writer()
                      .directory("d", {.mode = 0700})
                      .file("d/old", "")
                      .symlink("d", "x")
                      .directory("d")
                      .file("d/new", ""),
                  {"d d opaque", "d/new f \"\""});
}

HOSTILE("each type in the place of each other", "domain row 47: type change over an existing entry")
{
    const auto put = [](tar_writer& archive, char type) {
        switch (type) {
        case 'f':
            archive.file("x", "text");
            break;
        case 'l':
            archive.symlink("x", "target");
            break;
        case 'h':
            archive.hard_link("x", "first");
            break;
        case 'c':
            archive.character_device("x", 1, 3);
            break;
        case 'b':
            archive.block_device("x", 7, 0);
            break;
        case 'p':
            archive.fifo("x");
            break;
        default:
            archive.directory("x");
        }
    };
    const std::map<char, std::string> lines = {
        {'f', "x f \"text\""}, {'l', "x l -> target"}, {'h', "x f = first"}, {'c', "x c 1:3"},
        {'b', "x b 7:0"},      {'p', "x p"},           {'d', "x d opaque"}};
    for (const char first : std::string("flhcbpd")) {
        for (const auto& [second, line] : lines) {
            if (first == second)
                continue;
            INFO(first << " then " << second);
            tar_writer archive;
            archive.file("first", "1");
            put(archive, first);
            put(archive, second);
            layer.becomes(archive, {"first f \"1\"", line});
        }
    }
}

HOSTILE("below a file of the layer", "fidelity 3: an error, or the directory takes over")
{
    layer.refused(tar_writer().file("a", "").file("a/b", ""), errc::entry_escapes_layer);
    layer.refused(tar_writer().fifo("a").directory("a/b"), errc::entry_escapes_layer);
    layer.refused(tar_writer().character_device("a", 1, 3).hard_link("a/b", "a"), errc::entry_escapes_layer);
    layer.refused(tar_writer().file("a", "").whiteout("a/b"), errc::entry_escapes_layer);
    layer.refused(tar_writer().file("a", "").opaque("a"), errc::entry_escapes_layer);
    layer.refused(tar_writer().file("a", "").hard_link("b", "a/c"), errc::missing_hard_link_target);
}

HOSTILE("children in front of their directory", "fidelity 6: a later explicit entry overrides")
{
    layer.becomes(
        tar_writer().file("d/e/a", "").directory("d/e", {.mode = 0700}).directory("d", {.mode = 0711}),
        {"d d 0711", "d/e d 0700", "d/e/a f \"\""});
}

HOSTILE("a tree with modes of nothing is replaced", "fidelity 7: modes 0000 inside")
{
    layer.becomes(tar_writer()
                      .directory("d", {.mode = 0})
                      .directory("d/e", {.mode = 0})
                      .file("d/e/a", "")
                      .file("d", ""),
                  {"d f \"\""});
}

HOSTILE("a very deep tree is replaced", "fidelity 2: iterate with descriptors, no recursion")
{
    std::string path;
    for (int i = 0; i < 300; ++i)
        path += "d/";
    layer.becomes(tar_writer().directory(path).symlink("d", "gone"), {"d l -> gone"});
}

HOSTILE("a file is a directory to later entries through a link to itself",
        "CVE-2024-12905: tar-fs, links and duplicates")
{
    layer.refused(
        tar_writer().symlink("root", ".").symlink("root/root", layer.canary()).file("root/bird", "dead"),
        errc::entry_escapes_layer);
    layer.becomes(tar_writer().symlink("self", ".").file("self/self/self/a", "1"),
                  {"a f \"1\"", "self l -> ."});
}

HOSTILE("the same inode in many places, replaced in one",
        "fidelity 3: a hard link on an existing name replaces it")
{
    layer.becomes(
        tar_writer().file("a", "1").file("b", "2").hard_link("c", "a").hard_link("c", "b").hard_link("a",
                                                                                                     "b"),
        {"a f \"2\"", "b f = a", "c f = a"});
}

HOSTILE("the parents in use change one after the other", "fidelity 2: caches of parents")
{
    tar_writer archive;
    std::vector<std::string> lines;
    for (int round = 0; round < 2; ++round)
        for (char name = 'a'; name <= 'l'; ++name)
            archive.file(std::string(1, name) + "/" + std::to_string(round), "");
    for (char name = 'a'; name <= 'l'; ++name)
        archive.file(std::string(1, name), "")
            .directory(std::string(1, name))
            .file(std::string(1, name) + "/2", "");
    for (char name = 'a'; name <= 'l'; ++name) {
        lines.push_back(std::string(1, name) + " d opaque");
        lines.push_back(std::string(1, name) + "/2 f \"\"");
    }
    layer.becomes(archive, lines);
}

} // namespace

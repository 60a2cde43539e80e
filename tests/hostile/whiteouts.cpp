#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::tar_writer;

namespace {

HOSTILE("a whiteout alone", "OCI image spec, layer.md, \"Whiteouts\"")
{
    layer.becomes(tar_writer().directory("d").whiteout("d/a").whiteout("b"), {"b w", "d d", "d/a w"});
}

HOSTILE("a whiteout in a directory without an entry", "fidelity 6: implied directories")
{
    layer.becomes(tar_writer().whiteout("d/e/a"), {"d d implied", "d/e d implied", "d/e/a w"});
}

HOSTILE("a whiteout in front of its name, for each type", "fidelity 6: in whatever order; no EEXIST")
{
    layer.becomes(tar_writer()
                      .whiteout("f")
                      .file("f", "text")
                      .whiteout("l")
                      .symlink("l", "x")
                      .whiteout("h")
                      .hard_link("h", "f")
                      .whiteout("p")
                      .fifo("p")
                      .whiteout("c")
                      .character_device("c", 1, 3)
                      .whiteout("d")
                      .directory("d")
                      .file("d/a", ""),
                  {"c c 1:3", "d d opaque", "d/a f \"\"", "f f \"text\"", "h f = f", "l l -> x", "p p"});
}

HOSTILE("a whiteout behind its name, for each type", "fidelity 6: do not delete this layer's files")
{
    layer.becomes(tar_writer()
                      .file("f", "text")
                      .whiteout("f")
                      .symlink("l", "x")
                      .whiteout("l")
                      .hard_link("h", "f")
                      .whiteout("h")
                      .fifo("p")
                      .whiteout("p")
                      .directory("d")
                      .file("d/a", "")
                      .whiteout("d"),
                  {"d d opaque", "d/a f \"\"", "f f \"text\"", "h f = f", "l l -> x", "p p"});
}

HOSTILE("a whiteout of a directory that is only implied", "fidelity 6: opaque, also if it is only implied")
{
    layer.becomes(tar_writer().whiteout("a").file("a/x", "").file("b/x", "").whiteout("b"),
                  {"a d @0 opaque", "a/x f \"\"", "b d @0 opaque", "b/x f \"\""});
}

HOSTILE("a whiteout of a directory, and an entry for it later", "fidelity 6: do not lose the opacity")
{
    layer.becomes(tar_writer()
                      .file("d/x", "")
                      .whiteout("d")
                      .directory("d", {.mode = 0700})
                      .directory("d", {.mode = 0711}),
                  {"d d 0711 opaque", "d/x f \"\""});
}

HOSTILE("a whiteout of a directory that a whiteout implied", "fidelity 6: both orders, one result")
{
    const std::vector<std::string> result = {"d d @0 opaque"};
    layer.becomes(tar_writer().whiteout("d").whiteout("d/x"), result);
    layer.becomes(tar_writer().whiteout("d/x").whiteout("d"), result);
}

HOSTILE("a whiteout twice", "domain row 47: duplicates")
{
    layer.becomes(tar_writer().whiteout("a").whiteout("a").whiteout("d/a").whiteout("./d//a"),
                  {"a w", "d d implied", "d/a w"});
}

HOSTILE("whiteouts of any type, with attributes and data",
        "fidelity 6: a whiteout whatever its type; skip its data")
{
    layer.becomes(
        tar_writer()
            .file(".wh.a", std::string(2000, 'x'), {.mode = 0600, .uid = 9, .xattrs = {{"user.a", "1"}}})
            .directory(".wh.b")
            .symlink(".wh.c", layer.canary())
            .hard_link(".wh.d", "nothing")
            .fifo(".wh.e")
            .character_device(".wh.f", 1, 3)
            .file("after", "text"),
        {"a w", "after f \"text\"", "b w", "c w", "d w", "e w", "f w"});
}

HOSTILE("a sparse whiteout", "fidelity 6 and 1: skip its data, stay in step")
{
    layer.becomes(tar_writer()
                      .file(".wh.a", "1234", {.pax = {{"GNU.sparse.map", "4,4"}, {"GNU.sparse.size", "8"}}})
                      .file("b", ""),
                  {"a w", "b f \"\""});
}

HOSTILE("names that only look like whiteouts", "fidelity 6: the prefix of the last component")
{
    layer.becomes(tar_writer()
                      .file(".wh", "1")
                      .file(".wha", "2")
                      .file("a.wh.b", "3")
                      .file(".WH.c", "4")
                      .file("wh.d", "5"),
                  {".WH.c f \"4\"", ".wh f \"1\"", ".wha f \"2\"", "a.wh.b f \"3\"", "wh.d f \"5\""});
}

HOSTILE("malformed whiteouts", "fidelity 6: `.wh.` alone, `.wh..` and `.wh...` are errors")
{
    for (const char* name : {".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."})
        layer.refused(tar_writer().file(name, ""), errc::invalid_whiteout);
}

HOSTILE("whiteouts of odd names", "domain row 54: `.wh.` names; fidelity 6")
{
    layer.becomes(
        tar_writer().file(".wh.....", "").file(".wh.a.wh.b", "").file(".wh.\xff\n", "").file(".wh. ", ""),
        {"  w", ".... w", "a.wh.b w", R"(\xff\n w)"});
}

HOSTILE("a whiteout of a name of 255 bytes", "fidelity 6: names up to 259 bytes, strip before NAME_MAX")
{
    const std::string name(255, 'n');
    layer.becomes(tar_writer().whiteout(name), {name + " w"});
    layer.refused(tar_writer().whiteout(name + "n"), errc::path_too_long);
}

HOSTILE("below a whiteout", "fidelity 8: names that start with `.wh.` cannot be stored")
{
    layer.refused(tar_writer().file(".wh.d/a", ""), errc::invalid_whiteout);
    layer.refused(tar_writer().directory(".wh.d").file(".wh.d/a", ""), errc::invalid_whiteout);
    layer.refused(tar_writer().whiteout(".wh.d/a"), errc::invalid_whiteout);
}

HOSTILE("what aufs left", "fidelity 6: other `.wh..wh.` names leave no trace")
{
    layer.becomes(tar_writer()
                      .directory(".wh..wh.plnk")
                      .file(".wh..wh.plnk/12.34", "data")
                      .file(".wh..wh.aufs", "data")
                      .directory(".wh..wh.orph")
                      .file("d/.wh..wh.x/y/z", "")
                      .symlink(".wh..wh.l", layer.canary())
                      .file("a", "text"),
                  {"a f \"text\""});
}

HOSTILE("a hard link to what aufs kept aside",
        "docker: aufs's plink directory held targets; fidelity 6: no trace")
{
    layer.refused(tar_writer().file(".wh..wh.plnk/1.2", "data").hard_link("a", ".wh..wh.plnk/1.2"),
                  errc::missing_hard_link_target);
}

HOSTILE("an opaque marker in front of, between and behind its siblings",
        "fidelity 6: a marker hides none of them")
{
    layer.becomes(
        tar_writer()
            .directory("a")
            .opaque("a")
            .file("a/x", "")
            .directory("b")
            .file("b/x", "")
            .opaque("b")
            .file("b/y", "")
            .directory("c")
            .file("c/x", "")
            .opaque("c"),
        {"a d opaque", "a/x f \"\"", "b d opaque", "b/x f \"\"", "b/y f \"\"", "c d opaque", "c/x f \"\""});
}

HOSTILE("an opaque marker in front of its directory",
        "fidelity 6: markers without an entry; a later entry overrides")
{
    layer.becomes(tar_writer().opaque("a").directory("a", {.mode = 0700}).opaque("b"),
                  {"a d 0700 opaque", "b d implied opaque"});
}

HOSTILE("an opaque marker of any type, with data", "fidelity 6: whatever its type")
{
    layer.becomes(tar_writer()
                      .directory("a/.wh..wh..opq")
                      .file("b/.wh..wh..opq", std::string(1000, 'x'))
                      .symlink("c/.wh..wh..opq", layer.canary())
                      .hard_link("d/.wh..wh..opq", "nothing"),
                  {"a d implied opaque", "b d implied opaque", "c d implied opaque", "d d implied opaque"});
}

HOSTILE("an opaque marker twice", "domain row 47: duplicates")
{
    layer.becomes(tar_writer().opaque("a").opaque("a").opaque("./a/"), {"a d implied opaque"});
}

HOSTILE("an opaque root", "fidelity 6: the kernel ignores the attribute on the root")
{
    layer.becomes(tar_writer().file("a", "").opaque("").directory("."), {". d opaque", "a f \"\""});
    layer.becomes(tar_writer().opaque(""), {". d implied opaque"});
}

HOSTILE("whiteouts in an opaque directory and below", "fuse-overlayfs#151: the kernel lists them; fidelity 6")
{
    layer.becomes(tar_writer()
                      .directory("d")
                      .whiteout("d/a")
                      .opaque("d")
                      .whiteout("d/b")
                      .whiteout("d/e/c")
                      .file("d/kept", "")
                      .whiteout("x"),
                  {"d d opaque", "d/e d implied", "d/kept f \"\"", "x w"});
}

HOSTILE("whiteouts below an opaque root", "fidelity 6: write none in its own opaque directories")
{
    layer.becomes(tar_writer().whiteout("a").whiteout("d/b").opaque("").file("c", ""),
                  {". d implied opaque", "c f \"\"", "d d implied"});
}

HOSTILE("whiteouts in a directory whose own whiteout made it opaque",
        "fidelity 6: in opaque directories and below them")
{
    layer.becomes(tar_writer().directory("d").whiteout("d/a").whiteout("d/e/b").whiteout("d"),
                  {"d d opaque", "d/e d implied"});
}

HOSTILE("an opaque directory is replaced, and comes back",
        "fidelity 3: the last wins, including all the above")
{
    layer.becomes(tar_writer().opaque("d").file("d", ""), {"d f \"\""});
    layer.becomes(tar_writer().opaque("d").file("d", "").directory("d").whiteout("d/x"), {"d d opaque"});
}

HOSTILE("a whiteout through a link of the layer", "fidelity 2: links inside the layer keep working")
{
    layer.becomes(tar_writer().directory("usr/lib").symlink("lib", "usr/lib").whiteout("lib/a").opaque("lib"),
                  {"lib l -> usr/lib", "usr d implied", "usr/lib d opaque"});
    layer.becomes(tar_writer().directory("usr/lib").symlink("lib", "usr/lib").whiteout("lib/a"),
                  {"lib l -> usr/lib", "usr d implied", "usr/lib d", "usr/lib/a w"});
}

HOSTILE("a whiteout of the outside", "CVE-2014-6407: docker, links followed while unpacking")
{
    layer.refused(tar_writer().symlink("l", layer.canary()).whiteout("l/bird"), errc::entry_escapes_layer);
    layer.refused(tar_writer().whiteout("../canary/bird"), errc::entry_escapes_layer);
    layer.refused(tar_writer().symlink("l", "../canary").opaque("l"), errc::entry_escapes_layer);
    layer.refused(tar_writer().opaque(".."), errc::entry_escapes_layer);
}

HOSTILE("a device 0:0 is no whiteout by the back door", "fidelity 6: refuse it, or let it be a whiteout")
{
    layer.refused(tar_writer().character_device("a", 0, 0), errc::unsupported_entry_type);
    layer.becomes(tar_writer().block_device("b", 0, 0).character_device("c", 0, 1), {"b b 0:0", "c c 0:1"});
}

HOSTILE("overlayfs's own whiteouts in attributes", "kernel overlayfs.rst, xwhiteouts: user.overlay.whiteout")
{
    layer.becomes(
        tar_writer()
            .directory("d", {.xattrs = {{"user.overlay.opaque", "x"}, {"trusted.overlay.opaque", "x"}}})
            .file("d/a", "", {.xattrs = {{"user.overlay.whiteout", ""}, {"trusted.overlay.whiteout", "y"}}}),
        {"d d", "d/a f \"\""});
}

HOSTILE("a name, its whiteout, and the name again", "fidelity 6: re-added names")
{
    layer.becomes(tar_writer()
                      .file("a", "1")
                      .whiteout("a")
                      .file("a", "2")
                      .directory("d")
                      .file("d/old", "")
                      .whiteout("d")
                      .directory("d")
                      .file("d/new", ""),
                  {"a f \"2\"", "d d opaque", "d/new f \"\"", "d/old f \"\""});
}

} // namespace

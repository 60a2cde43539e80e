#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::string_pairs;
using overmount::test::tar_writer;

namespace {

HOSTILE("a file above the root by two dots", "CVE-2001-1267: GNU tar, `..` in names")
{
    layer.refused(tar_writer().file("../canary/bird", "dead"), errc::entry_escapes_layer);
}

HOSTILE("two dots in the middle of a path", "CVE-2007-4559: Python tarfile, `a/../../b`")
{
    layer.refused(tar_writer().directory("d").file("d/../../canary/bird", "dead"), errc::entry_escapes_layer);
}

HOSTILE("two dots behind two slashes", "CVE-2007-4131: GNU tar missed `//..`")
{
    layer.refused(tar_writer().file("d//../../canary/bird", "dead"), errc::entry_escapes_layer);
}

HOSTILE("two dots in the last place", "CVE-2016-6321: GNU tar, names that its stripping left with `..`")
{
    layer.refused(tar_writer().directory("d/.."), errc::entry_escapes_layer);
}

HOSTILE("two dots that stay inside are refused as well", "fidelity 2: refused or clamped, no third way")
{
    layer.refused(tar_writer().directory("d").file("d/../a", "text"), errc::entry_escapes_layer);
}

HOSTILE("two dots in a long name of GNU", "fidelity 2, GNU tar manual, type L")
{
    layer.refused(tar_writer().gnu_long('L', "../canary/bird").file("a", "dead"), errc::entry_escapes_layer);
}

HOSTILE("two dots across prefix and name", "POSIX ustar: prefix and name are one path")
{
    layer.refused(tar_writer().file("bird", "dead",
                                    {.tweak =
                                         [](std::string& block) {
                                             put_field(block, overmount::test::tar_fields::prefix,
                                                       "../canary");
                                         }}),
                  errc::entry_escapes_layer);
}

HOSTILE("an absolute name lies below the root", "CVE-2021-32804: node-tar, absolute names; GNU tar -P")
{
    std::vector<std::string> lines;
    const std::string path = layer.canary().substr(1);
    for (std::size_t at = 0; at != std::string::npos;) {
        at = path.find('/', at + 1);
        lines.push_back(path.substr(0, at) + " d implied");
    }
    lines.push_back(path + "/bird f \"kept inside\"");
    layer.becomes(tar_writer().file(layer.canary() + "/bird", "kept inside"), lines);
}

HOSTILE("many leading slashes", "CVE-2021-32804: node-tar stripped one root of `////a`")
{
    layer.becomes(tar_writer().file("////a", "text"), {"a f \"text\""});
}

HOSTILE("dots and empty parts vanish", "fidelity 2: normalise a name")
{
    layer.becomes(tar_writer().file("./a", "1").file(".//d/./b", "2").directory("./d/././/"),
                  {"a f \"1\"", "d d", "d/b f \"2\""});
}

HOSTILE("names of dots that are ordinary", "fidelity 2: `...` and `a..` are ordinary")
{
    layer.becomes(
        tar_writer().file("...", "1").file("a..", "2").file("..b", "3").file(".c", "4").file("....", "5"),
        {"... f \"1\"", ".... f \"5\"", "..b f \"3\"", ".c f \"4\"", "a.. f \"2\""});
}

HOSTILE("backslashes, colons, quotes and drive letters are bytes",
        "CVE-2021-37713: node-tar, `C:` and backslashes")
{
    layer.becomes(
        tar_writer().file("..\\canary\\bird", "1").file("C:d", "2").file("a:b", "3").file("%2e%2e", "4"),
        {"%2e%2e f \"4\"", R"(..\\canary\\bird f "1")", "C:d f \"2\"", "a:b f \"3\""});
}

HOSTILE("control bytes in names", "fidelity 2: newlines are ordinary; terminal escapes in names")
{
    layer.becomes(tar_writer().file("a\nb", "1").file("\x1b[2J", "2").file(" ", "3").file("\t\r", "4"),
                  {R"(\x09\x0d f "4")", R"(\x1b[2J f "2")", "  f \"3\"", R"(a\nb f "1")"});
}

HOSTILE("names that are not UTF-8", "fidelity 1: values are bytes; libarchive warns of them")
{
    layer.becomes(tar_writer().file("\xff\xfe", "1").file("x", "2", {.pax = {{"path", "\xc0\xaf"}}}),
                  {R"(\xc0\xaf f "2")", R"(\xff\xfe f "1")"});
}

HOSTILE("overlong dots and slashes of UTF-8 are bytes", "CVE-2000-0884: overlong UTF-8 taken for a slash")
{
    layer.becomes(tar_writer().file("\xc0\xae\xc0\xae\xc0\xaf"
                                    "canary",
                                    "1"),
                  {R"(\xc0\xae\xc0\xae\xc0\xafcanary f "1")"});
}

HOSTILE("composed and decomposed names are two",
        "CVE-2021-37712: node-tar, Unicode normalisation; libarchive folds NFD")
{
    layer.becomes(tar_writer().file("caf\xc3\xa9", "1").file("cafe\xcc\x81", "2"),
                  {R"(cafe\xcc\x81 f "2")", R"(caf\xc3\xa9 f "1")"});
}

HOSTILE("upper and lower case are two names",
        "CVE-2021-21300: git, case folding; fidelity 1: no case folding")
{
    layer.becomes(tar_writer().file("A", "1").symlink("a", layer.canary()).file("A", "2"),
                  {"A f \"2\"", "a l -> " + layer.canary()});
}

HOSTILE("a name of 255 bytes, and one of 256", "fidelity 7: component 255")
{
    const std::string name(255, 'n');
    layer.becomes(tar_writer().file(name, "1").file("d/" + name, "2"),
                  {"d d implied", "d/" + name + " f \"2\"", name + " f \"1\""});
    layer.refused(tar_writer().file(name + "n", ""), errc::path_too_long);
    layer.refused(tar_writer().file("d/" + name + "n/a", ""), errc::path_too_long);
}

HOSTILE("a path of 4095 bytes, and one of 4096", "fidelity 7: path 4095; PATH_MAX")
{
    std::vector<std::string> lines;
    std::string path;
    for (int i = 0; i < 15; ++i) {
        path += std::string(255, 'd');
        lines.push_back(path + " d implied");
        path += "/";
    }
    path += std::string(255, 'f');
    lines.push_back(path + " f \"deep\"");
    layer.becomes(tar_writer().file(path, "deep"), lines);
    path.replace(path.size() - 255, 255, std::string(200, 'd') + "/" + std::string(55, 'f'));
    layer.refused(tar_writer().file(path, "deeper"), errc::path_too_long);
}

HOSTILE("as many directories in each other as may be, and one more", "fidelity 7: depth, here 300")
{
    layer.bounds.path_depth = 300;
    std::string path;
    std::vector<std::string> lines;
    for (int i = 0; i < 299; ++i) {
        path += "d";
        lines.push_back(path + " d implied");
        path += "/";
    }
    lines.push_back(path + "f f \"\"");
    layer.becomes(tar_writer().file(path + "f", ""), lines);
    layer.refused(tar_writer().file(path + "d/f", ""), errc::path_too_deep);
}

HOSTILE("an empty name is the root, which is no file", "fidelity 2: only a directory names the root")
{
    for (const char* name : {"", ".", "./", "/", "//./"})
        layer.refused(tar_writer().entry('0', "a", "",
                                         {.tweak =
                                              [name](std::string& block) {
                                                  put_field(block, overmount::test::tar_fields::name, name);
                                              }}),
                      name[0] != '\0' && std::string_view(name).ends_with('/') ? errc::tar_disagreement
                                                                               : errc::entry_escapes_layer);
}

HOSTILE("the root as a link", "CVE-2021-29136: umoci, a layer whose `.` is a symbolic link")
{
    for (const char* name : {".", "./.", "/"}) {
        layer.refused(tar_writer().symlink(name, layer.canary()), errc::entry_escapes_layer);
        layer.refused(tar_writer().hard_link(name, "a"), errc::entry_escapes_layer);
    }
    layer.refused(tar_writer().fifo("."), errc::entry_escapes_layer);
    layer.refused(tar_writer().character_device("/", 1, 3), errc::entry_escapes_layer);
}

HOSTILE("the root has attributes of its own", "fidelity 2: it changes at most attributes")
{
    layer.becomes(
        tar_writer()
            .directory("./", {.mode = 01711, .uid = 3, .gid = 4, .mtime = 5, .xattrs = {{"user.a", "1"}}})
            .file("a", ""),
        {". d 1711 3:4 @5 user.a=\"1\"", "a f \"\""});
}

HOSTILE("a NUL in a name of PAX", "fidelity 1: a NUL in a path is an error; libarchive cuts there")
{
    layer.refused(tar_writer().file("a", "", {.pax = {{"path", std::string("a\0../b", 6)}}}),
                  errc::malformed_tar);
    layer.refused(tar_writer().symlink("a", "b", {.pax = {{"linkpath", std::string("b\0c", 3)}}}),
                  errc::malformed_tar);
    layer.refused(
        tar_writer().file("a", "",
                          {.pax = {{"GNU.sparse.name", std::string("b\0c", 3)}, {"GNU.sparse.size", "0"}}}),
        errc::malformed_tar);
}

HOSTILE("a long name of GNU ends at its first NUL", "GNU tar manual, type L; fidelity 1")
{
    layer.becomes(tar_writer().gnu_long('L', std::string("kept\0/../cut", 12)).file("a", "text"),
                  {"kept f \"text\""});
}

HOSTILE("a slash behind a name that is no directory's", "POSIX: `a/` names a directory; readers differ")
{
    layer.becomes(tar_writer().symlink("l/", "target").fifo("p//"), {"l l -> target", "p p"});
    layer.refused(tar_writer().file("f/", "text"), errc::tar_disagreement);
}

HOSTILE("names that a shell or a log would act on", "fidelity 7: errors carry the name escaped")
{
    layer.becomes(tar_writer().file("-rf", "1").file("$(reboot)", "2").file("*", "3").file("\"'`", "4"),
                  {"\"'` f \"4\"", "$(reboot) f \"2\"", "* f \"3\"", "-rf f \"1\""});
}

} // namespace

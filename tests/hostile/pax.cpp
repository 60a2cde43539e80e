#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::string_pairs;
using overmount::test::tar_writer;
namespace at = overmount::test::tar_fields;

namespace {

overmount::test::tar_attributes with(string_pairs records)
{
    overmount::test::tar_attributes out;
    out.pax = std::move(records);
    return out;
}

HOSTILE("a size of PAX and another of the header", "CVE-2025-62518: tokio-tar, headers hidden in data")
{
    // Readers that believe the header's size of zero see an entry in the data.
    const std::string hidden = tar_writer().file("evil", "boo").bytes();
    layer.becomes(tar_writer()
                      .pax({{"size", std::to_string(hidden.size())}})
                      .entry('0', "a", "", {})
                      .raw(hidden)
                      .file("b", ""),
                  {"a f " + overmount::test::literal(hidden), "b f \"\""});
}

HOSTILE("a size of PAX that is zero", "fidelity 1: its size, also 0, replaces the header's")
{
    layer.becomes(tar_writer()
                      .file("a", "",
                            {.pax = {{"size", "0"}},
                             .tweak = [](std::string& block) { put_field(block, at::size, "00000001000"); }})
                      .file("b", "text"),
                  {"a f \"\"", "b f \"text\""});
}

HOSTILE("a size of PAX for a type without data",
        "fidelity 1: types 1 to 6 have no data; libarchive may think otherwise")
{
    layer.becomes(tar_writer().directory("d", with({{"size", "0"}})).file("a", ""), {"a f \"\"", "d d"});
    for (const char type : std::string("12345"))
        layer.refused(tar_writer().file("b", "x").entry(type, "a", "b", with({{"size", "512"}})).data("text"),
                      errc::tar_disagreement);
}

HOSTILE("sizes that are no sizes", "fidelity 1: negative sizes, and values that do not fit")
{
    for (const char* size : {"-1", "x", "1.5", " 1", "1 ", "0x10", "9223372036854775807",
                             "9223372036854775808", "18446744073709551616", "99999999999999999999999999"})
        layer.refused(tar_writer().file("a", "", with({{"size", size}})), errc::malformed_tar);
}

HOSTILE("a size that the archive does not hold", "fidelity 1: an end in file data is an error")
{
    layer.bytes_refused(
        tar_writer().pax({{"size", "1000000000000"}}).entry('0', "a", "", {}).data("x").bytes(),
        errc::truncated_stream);
}

HOSTILE("malformed records", "CVE-2006-0300: GNU tar, PAX headers; POSIX pax, \"Extended Header\"")
{
    for (const std::string body : {"5 a=b\n", "7 a=b\n", "6 a=b ", "6 ab1\n", "x a=b\n", "-6 a=b\n",
                                   "99999999999999999999999 a=b\n", "5 =b\n", "6  a=\n0", "11", " a=b\n",
                                   "0 a=b\n", "6 a=b\n\n", "6\ta=b\n", "+6 a=b\n", "06a=bb\n", "4 a\n"})
        layer.refused(tar_writer().extension('x', "x", body).file("a", ""), errc::malformed_tar);
    layer.refused(tar_writer().extension('x', "x", std::string("8 a\0b=c\n", 8)).file("a", ""),
                  errc::malformed_tar);
}

HOSTILE("a key of very many bytes", "CVE-2023-39804: GNU tar, long keywords of extended attributes")
{
    layer.becomes(tar_writer().file("a", "", with({{std::string(100'000, 'k'), "x"}})), {"a f \"\""});
    layer.refused(tar_writer().file("a", "", with({{"SCHILY.xattr." + std::string(100'000, 'k'), "x"}})),
                  errc::xattr_too_large);
}

HOSTILE("records that nobody knows, and a comment", "fidelity 1: an unknown key is not an error")
{
    layer.becomes(tar_writer().file("a", "",
                                    with({{"comment", "x"},
                                          {"VENDOR.key", std::string("\0\xff\n=", 4)},
                                          {"atime", "nonsense"},
                                          {"ctime", "1"},
                                          {"SCHILY.dev", "1"},
                                          {"LIBARCHIVE.creationtime", "1"}})),
                  {"a f \"\""});
}

HOSTILE("equal keys: the last wins", "POSIX pax: a later record overrides; fidelity 1")
{
    layer.becomes(tar_writer().file("a", "",
                                    with({{"path", "first"},
                                          {"uid", "1"},
                                          {"path", "second"},
                                          {"uid", "2"},
                                          {"SCHILY.xattr.user.a", "1"},
                                          {"SCHILY.xattr.user.a", "2"}})),
                  {"second f \"\" 2:0 user.a=\"2\""});
}

HOSTILE("empty values take back what was said", "POSIX pax: a record of zero length deletes")
{
    layer.becomes(
        tar_writer().file(
            "a", "text",
            {.uid = 5, .pax = {{"path", "b"}, {"path", ""}, {"uid", ""}, {"mtime", "1"}, {"mtime", ""}}}),
        {"a f \"text\" 5:0"});
    // An empty size is one that libarchive takes for zero.
    layer.refused(tar_writer().file("a", "text", with({{"size", ""}})).file("b", ""), errc::tar_disagreement);
}

HOSTILE("records for the entry behind GNU's own headers",
        "fidelity 1: an `x` header belongs to the next real entry")
{
    layer.becomes(tar_writer()
                      .pax({{"uid", "7"}})
                      .gnu_long('L', "long")
                      .gnu_long('K', "target")
                      .symlink("short", "no")
                      .file("next", ""),
                  {"long l -> target 7:0", "next f \"\""});
}

HOSTILE("a path of PAX and a long name of GNU", "GNU tar and Go: PAX wins, in either order")
{
    layer.becomes(tar_writer().pax({{"path", "pax"}}).gnu_long('L', "gnu").file("a", "1"), {"pax f \"1\""});
    layer.becomes(tar_writer().gnu_long('L', "gnu").pax({{"path", "pax"}}).file("a", "1"), {"pax f \"1\""});
}

HOSTILE("two extended headers for one entry", "libarchive lets the first win, GNU tar and Go the second")
{
    layer.refused(tar_writer().pax({{"path", "b"}}).pax({{"path", "c"}}).file("a", ""), errc::malformed_tar);
    layer.refused(tar_writer().gnu_long('L', "b").gnu_long('L', "c").file("a", ""), errc::malformed_tar);
    layer.refused(tar_writer().gnu_long('K', "b").gnu_long('K', "c").symlink("a", "x"), errc::malformed_tar);
}

HOSTILE("an extended header without an entry", "POSIX pax: it is followed by the file that it describes")
{
    layer.refused(tar_writer().file("a", "").pax({{"path", "b"}}), errc::malformed_tar);
    layer.refused(tar_writer().gnu_long('L', "b"), errc::malformed_tar);
    layer.bytes_refused(tar_writer().pax({{"path", "b"}}).bytes(), errc::truncated_stream);
}

HOSTILE("a global header", "fidelity 1: makes no file and no parents, and may be ignored")
{
    layer.becomes(
        tar_writer().pax({{"path", "../canary/bird"}, {"uid", "9"}, {"size", "4"}}, 'g').file("a", "text"),
        {"a f \"text\""});
    layer.becomes(tar_writer().pax({{"comment", "0123456789abcdef"}}, 'g'), {});
    layer.refused(tar_writer().extension('g', "g", "junk").file("a", ""), errc::malformed_tar);
}

HOSTILE("numbers that PAX makes good", "POSIX pax: a record replaces the field of the header")
{
    layer.becomes(tar_writer().file("a", "",
                                    {.pax = {{"uid", "1"}, {"gid", "2"}, {"mtime", "3.25"}},
                                     .tweak =
                                         [](std::string& block) {
                                             for (const auto field : {at::uid, at::gid, at::mtime})
                                                 put_field(block, field, "junk");
                                         }}),
                  {"a f \"\" 1:2 @3.250000000"});
}

HOSTILE("times that are no times", "fidelity 1: refuse anything else")
{
    for (const char* time : {"x", "1.x", "1e5", "--1", "+1", "1.-5", ".5", "-", "99999999999999999999", "1 "})
        layer.refused(tar_writer().file("a", "", with({{"mtime", time}})), errc::malformed_tar);
}

HOSTILE("times with many digits, or none behind the point", "fidelity 4: in nanoseconds")
{
    layer.becomes(tar_writer()
                      .file("a", "", with({{"mtime", "1.1234567899999999999999"}}))
                      .file("b", "", with({{"mtime", "2."}}))
                      .file("c", "", with({{"mtime", "-0.000000001"}}))
                      .file("d", "", with({{"mtime", "-0"}})),
                  {"a f \"\" @1.123456789", "b f \"\" @2", "c f \"\" @-1.999999999", "d f \"\" @0"});
}

HOSTILE("two spellings of one attribute", "libarchive tar(5) writes both; image tools read SCHILY's")
{
    layer.becomes(tar_writer().file("a", "",
                                    with({{"LIBARCHIVE.xattr.user.a", "YQ"},
                                          {"SCHILY.xattr.user.a", "b"},
                                          {"LIBARCHIVE.xattr.user.c", "Yw=="}})),
                  {"a f \"\" user.a=\"b\" user.c=\"c\""});
    layer.refused(tar_writer().file("a", "", with({{"LIBARCHIVE.xattr.user.a", "?"}})), errc::malformed_tar);
    layer.refused(tar_writer().file("a", "", with({{"LIBARCHIVE.xattr.user.%2", "YQ"}})),
                  errc::malformed_tar);
}

HOSTILE("an extended header whose type is old",
        "star and Solaris: type X; fidelity 3: unknown types are errors")
{
    layer.refused(tar_writer().extension('X', "x", "10 path=b\n").file("a", ""),
                  errc::unsupported_entry_type);
}

HOSTILE("charsets in records", "POSIX pax, hdrcharset; fidelity 1: no charset conversion")
{
    for (const char* charset : {"BINARY", "ISO-IR 10646 2000 UTF-8", "ISO-IR 8859 1 1998"})
        layer.becomes(tar_writer().pax({{"hdrcharset", charset}, {"path", "\xe9\xff"}}).file("a", ""),
                      {R"(\xe9\xff f "")"});
}

} // namespace

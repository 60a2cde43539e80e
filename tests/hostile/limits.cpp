#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::tar_writer;

namespace {

HOSTILE("as many entries as may be, and one more", "fidelity 7: entries")
{
    layer.bounds.entries = 3;
    layer.becomes(tar_writer().file("a", "").file("b", "").whiteout("c"), {"a f \"\"", "b f \"\"", "c w"});
    layer.refused(tar_writer().file("a", "").file("a", "").file("a", "").file("a", ""),
                  errc::too_many_entries);
}

HOSTILE("directories that nobody wrote",
        "a path of 1000 parts in each entry: implied directories count as entries")
{
    layer.bounds.entries = 10;
    layer.becomes(tar_writer().file("a/b/c", "").file("a/b/d", ""),
                  {"a d implied", "a/b d implied", "a/b/c f \"\"", "a/b/d f \"\""});
    layer.refused(tar_writer().file("1/2/3/4/5/6/7/8/9/10/11/x", ""), errc::too_many_entries);
}

HOSTILE("directories with very long paths", "fidelity 1: bounded memory")
{
    layer.bounds.directory_bytes = 2000;
    layer.becomes(tar_writer().directory(std::string(200, 'd')), {std::string(200, 'd') + " d"});
    tar_writer archive;
    for (char name = 'a'; name <= 'k'; ++name)
        archive.directory(std::string(200, name));
    layer.refused(archive, errc::too_many_entries);
}

HOSTILE("more bytes than may be", "fidelity 7: unpacked bytes, real sizes")
{
    layer.bounds.layer_bytes = 1000;
    layer.becomes(tar_writer().file("a", std::string(600, 'a')).file("b", std::string(400, 'b')),
                  {"a f \"a\"*600", "b f \"b\"*400"});
    layer.refused(tar_writer().file("a", std::string(600, 'a')).file("b", std::string(401, 'b')),
                  errc::layer_too_large);
    // What is replaced later has been written all the same.
    layer.refused(tar_writer().file("a", std::string(600, 'a')).file("a", std::string(600, 'b')),
                  errc::layer_too_large);
}

HOSTILE("a small archive of a large sparse file", "a bomb: fidelity 1, real sizes count")
{
    layer.bounds.layer_bytes = 1'000'000;
    layer.refused(
        tar_writer().file("a", "1", {.pax = {{"GNU.sparse.map", "0,1"}, {"GNU.sparse.size", "1000001"}}}),
        errc::layer_too_large);
}

HOSTILE("an extended header larger than may be",
        "CVE-2022-2879: Go, headers without a bound; fidelity 7: 1 MiB")
{
    layer.becomes(tar_writer().file("a", "", {.pax = {{"comment", std::string(1'000'000, 'c')}}}),
                  {"a f \"\""});
    layer.refused(tar_writer().file("a", "", {.pax = {{"comment", std::string(1'048'576, 'c')}}}),
                  errc::extension_too_large);
    layer.refused(tar_writer().gnu_long('L', std::string(1'048'576, 'n')).file("a", ""),
                  errc::extension_too_large);
}

HOSTILE("an extended header of a size that is not there",
        "CVE-2022-2879: Go; fidelity 1: grow as bytes arrive")
{
    tar_writer archive;
    std::string block(512, '\0');
    put_field(block, overmount::test::tar_fields::name, "x");
    put_field(block, overmount::test::tar_fields::size,
              std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12));
    put_field(block, overmount::test::tar_fields::type, "x");
    overmount::test::put_checksum(block);
    layer.refused(archive.raw(block), errc::extension_too_large);
}

HOSTILE("extended headers in a row", "fidelity 7: 32 in a row; libarchive recurses, and gives up at 32")
{
    tar_writer most, more;
    for (int i = 0; i < 31; ++i)
        most.pax({{"comment", "x"}}, 'g');
    for (int i = 0; i < 33; ++i)
        more.pax({{"comment", "x"}}, 'g');
    layer.becomes(most.file("a", ""), {"a f \"\""});
    layer.refused(more.file("a", ""), errc::extension_too_large);
}

HOSTILE("more attributes than any file system holds", "fidelity 1: bounded memory and time")
{
    overmount::test::string_pairs attributes;
    for (int i = 0; i < 1001; ++i)
        attributes.emplace_back("trusted.a" + std::to_string(i), "x");
    layer.refused(tar_writer().file("a", "", {.xattrs = attributes}), errc::xattr_too_large);
}

HOSTILE("one attribute very many times", "quadratic work: the last of equal keys wins")
{
    overmount::test::string_pairs records;
    for (int i = 0; i < 30'000; ++i)
        records.emplace_back("SCHILY.xattr.user.a", std::to_string(i));
    layer.becomes(tar_writer().file("a", "", {.pax = records}), {"a f \"\" user.a=\"29999\""});
}

HOSTILE("names and targets as long as they may be, by GNU's headers", "fidelity 7: path and link target 4095")
{
    const std::string name = std::string(200, 'n');
    std::string path;
    for (int i = 0; i < 20; ++i)
        path += "./" + std::string(200, '/') + "/";
    layer.becomes(tar_writer().gnu_long('L', path.substr(0, 3895) + name).file("a", ""), {name + " f \"\""});
    layer.refused(tar_writer().gnu_long('L', std::string(4200, '/') + "a").file("a", ""),
                  errc::path_too_long);
    layer.refused(tar_writer().gnu_long('K', std::string(4096, 't')).symlink("a", ""), errc::path_too_long);
}

} // namespace

#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::put_field;
using overmount::test::tar_field;
using overmount::test::tar_writer;
namespace at = overmount::test::tar_fields;

namespace {

overmount::test::tar_attributes with(tar_field field, std::string text)
{
    overmount::test::tar_attributes out;
    out.tweak = [field, text = std::move(text)](std::string& block) { put_field(block, field, text); };
    return out;
}

HOSTILE("a wrong checksum", "POSIX ustar: chksum; libarchive goes on after it")
{
    layer.refused(tar_writer().file("a", "", {.corrupt = [](std::string& block) { block[0] = 'b'; }}),
                  errc::malformed_tar);
    layer.refused(tar_writer().file("a", "1").raw(std::string(512, 'j')).file("b", "2"), errc::malformed_tar);
}

HOSTILE("a checksum of signed bytes", "GNU tar manual: some wrote signed sums; fidelity 1: both are valid")
{
    layer.becomes(tar_writer().file("\xe9\xff", "",
                                    {.corrupt =
                                         [](std::string& block) {
                                             block.replace(148, 8, 8, ' ');
                                             int sum = 0;
                                             for (const char c : block)
                                                 sum += static_cast<signed char>(c);
                                             char digits[16];
                                             std::snprintf(digits, sizeof digits, "%06o",
                                                           static_cast<unsigned>(sum));
                                             put_field(block, at::checksum, digits);
                                         }}),
                  {R"(\xe9\xff f "")"});
}

HOSTILE("a header of v7", "fidelity 1: headers: v7")
{
    layer.becomes(tar_writer()
                      .file("a", "text", with(at::magic, ""))
                      .entry('\0', "b", "", with(at::magic, ""), "more")
                      .entry('\0', "d/", "", with(at::magic, "")),
                  {"a f \"text\"", "b f \"more\"", "d d 0644"});
}

HOSTILE("a prefix with and without the magic that gives it a meaning",
        "fidelity 1: only with the POSIX magic")
{
    const auto prefixed = [](std::string magic) {
        overmount::test::tar_attributes out;
        out.tweak = [magic = std::move(magic)](std::string& block) {
            put_field(block, at::prefix, "dir");
            put_field(block, at::magic, magic);
        };
        return out;
    };
    layer.becomes(tar_writer().file("a", "", prefixed(std::string("ustar\00000", 8))),
                  {"dir d implied", "dir/a f \"\""});
    layer.becomes(tar_writer().file("a", "", prefixed(std::string("ustar  \0", 8))), {"a f \"\""});
    layer.becomes(tar_writer().file("a", "", prefixed("")), {"a f \"\""});
}

HOSTILE("numbers with blanks and NULs around them", "fidelity 1: octal with blanks or NUL around or neither")
{
    layer.becomes(tar_writer()
                      .file("a", "", with(at::uid, "     7 "))
                      .file("b", "", with(at::uid, "0000007 "))
                      .file("c", "", with(at::uid, "00000007"))
                      .file("d", "", with(at::uid, ""))
                      .file("e", "", with(at::mtime, " 14524746000 ")),
                  {"a f \"\" 7:0", "b f \"\" 7:0", "c f \"\" 7:0", "d f \"\"", "e f \"\" @1699990528"});
}

HOSTILE("numbers that are none", "fidelity 1: refuse anything else; CVE-2022-48303: GNU tar, base-256")
{
    for (const char* text : {"8", "-1", "+1", "0x1", "1 1", "1,", "z"})
        for (const tar_field field : {at::mode, at::uid, at::gid, at::size, at::mtime})
            layer.refused(tar_writer().file("a", "", with(field, text)), errc::malformed_tar);
}

HOSTILE("numbers of base 256", "GNU tar manual; fidelity 1: base-256, signed")
{
    layer.becomes(
        tar_writer()
            .file("a", "", with(at::uid, std::string("\x80\0\0\0\0\x01\x11\x70", 8)))
            .file("b", "",
                  with(at::mtime, std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12)))
            .file("c", "", with(at::mtime, std::string("\x80\0\0\0\0\0\0\x02\x54\x0b\xe4\0", 12))),
        {"a f \"\" 70000:0", "b f \"\" @-1", "c f \"\" @10000000000"});
}

HOSTILE("numbers of base 256 that are negative or do not fit", "CVE-2022-48303: GNU tar; fidelity 1")
{
    for (const tar_field field : {at::mode, at::uid, at::gid, at::size})
        layer.refused(tar_writer().file("a", "", with(field, std::string(field.size, '\xff'))),
                      errc::malformed_tar);
    for (const tar_field field : {at::size, at::mtime})
        layer.refused(tar_writer().file("a", "", with(field, "\x80" + std::string(11, '\x7f'))),
                      errc::malformed_tar);
    layer.refused(tar_writer().file("a", "", with(at::uid, std::string("\x80\0\0\0\xff\xff\xff\xff", 8))),
                  errc::malformed_tar);
}

HOSTILE("a size without end", "fidelity 1: values that do not fit; sizes near 2^63")
{
    layer.refused(tar_writer().file(
                      "a", "", with(at::size, std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12))),
                  errc::malformed_tar);
    layer.refused(tar_writer().file(
                      "a", "", with(at::size, std::string("\x80\0\0\0\x3f\xff\xff\xff\xff\xff\xff\xff", 12))),
                  errc::layer_too_large);
    layer.bytes_refused(tar_writer().file("a", "", with(at::size, "77777777777")).bytes(),
                        errc::truncated_stream);
}

HOSTILE("types without data that say they have some", "fidelity 1: types 1 to 6 have no data")
{
    tar_writer archive;
    archive.file("first", "");
    for (const char type : std::string("23456"))
        archive.entry(type, std::string("type") + type, "to", with(at::size, "00000001000"), {}, 1, 2);
    layer.becomes(archive.file("last", "text"), {"first f \"\"", "last f \"text\"", "type2 l -> to",
                                                 "type3 c 1:2", "type4 b 1:2", "type5 d", "type6 p"});
}

HOSTILE("types that nobody knows", "fidelity 3: an error, or a regular file; CVE-2006-6097: GNU tar, type N")
{
    for (const char type : std::string("89AVMDNXIz\x01\xff "))
        layer.refused(tar_writer().entry(type, "a", "../canary", {}), errc::unsupported_entry_type);
}

HOSTILE("a contiguous file", "POSIX ustar: type 7 is a regular file to those that know no better")
{
    layer.becomes(tar_writer().entry('7', "a", "", {}, "text"), {"a f \"text\""});
}

HOSTILE("fields without an end", "POSIX ustar: name and linkname may fill their fields")
{
    const std::string name(100, 'n'), target(100, 't');
    layer.becomes(tar_writer().symlink(name, target), {name + " l -> " + target});
}

HOSTILE("no end marker", "fidelity 1: a missing marker at the end of the stream is fine")
{
    layer.bytes_become(tar_writer().file("a", "text").bytes(), {"a f \"text\""});
    layer.bytes_become(tar_writer().file("a", "text").bytes() + std::string(512, '\0'), {"a f \"text\""});
    layer.bytes_become("", {});
    layer.bytes_become(std::string(1024, '\0'), {});
    layer.bytes_become(std::string(10240, '\0'), {});
}

HOSTILE("an archive that ends inside something",
        "fidelity 1: an end inside a header, data or an extension header")
{
    const std::string whole =
        tar_writer().file("a", std::string(600, 'x'), {.xattrs = {{"user.a", "1"}}}).bytes();
    for (const std::size_t size : {1u, 511u, 512u, 513u, 1024u, 1500u, 1536u, 1537u, 2100u, 2136u})
        layer.bytes_refused(whole.substr(0, size), errc::truncated_stream);
}

HOSTILE("entries behind the end marker", "fidelity 1: never look for entries behind the marker")
{
    layer.bytes_become(tar_writer().file("a", "").finish() + tar_writer().file("../evil", "").finish() +
                           "junk",
                       {"a f \"\""});
}

HOSTILE("an entry behind one zero block", "GNU tar and libarchive stop there, others read on: a hidden entry")
{
    layer.refused(tar_writer().file("a", "").raw(std::string(512, '\0')).file("evil", ""),
                  errc::malformed_tar);
    layer.refused(tar_writer().raw(std::string(512, '\0')).file("evil", ""), errc::malformed_tar);
}

HOSTILE("padding that is not zero", "kernel.md: padding leaks by mmap of EROFS; POSIX: it is undefined")
{
    layer.bytes_become(tar_writer().file("a", "").bytes() +
                           tar_writer().file("b", "text").bytes().substr(0, 516) + std::string(508, 'p') +
                           tar_writer().file("c", "").finish(),
                       {"a f \"\"", "b f \"text\"", "c f \"\""});
}

HOSTILE("bytes behind the fields of a header",
        "POSIX ustar: 12 bytes of no meaning; star's and GNU's own fields")
{
    layer.becomes(tar_writer().file("a", "text", with({500, 12}, "tar\0evil....")), {"a f \"text\""});
    layer.becomes(tar_writer().file("a", "text",
                                    {.tweak =
                                         [](std::string& block) {
                                             put_field(block, at::magic, std::string("ustar  \0", 8));
                                             put_field(block, {345, 12}, "14524746000"); // atime of GNU
                                             put_field(block, {482, 1}, "\x01");
                                         }}),
                  {"a f \"text\""});
}

} // namespace

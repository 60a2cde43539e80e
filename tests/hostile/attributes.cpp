#include "hostile/battery.hpp"

#include "support/tree.hpp"

using overmount::errc;
using overmount::test::literal;
using overmount::test::string_pairs;
using overmount::test::tar_writer;

namespace {

std::string bytes(const char* text, std::size_t size)
{
    return {text, size};
}

// user::rw-, user 9:r--, group::r--, mask::r--, other::---
const std::string acl = bytes("\x02\0\0\0"
                              "\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x09\0\0\0\x04\0\x04\0\xff\xff\xff\xff"
                              "\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff",
                              44);
const std::string capability_v2 = bytes("\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
const std::string capability_v3 = bytes("\x01\0\0\x03\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xe8\x03\0\0", 24);

HOSTILE("set-id and sticky bits of each type", "fidelity 4: mode 07777 by an explicit chmod, after the owner")
{
    layer.becomes(tar_writer()
                      .file("f", "text", {.mode = 06755, .uid = 7, .gid = 8})
                      .file("s", "", {.mode = 01644})
                      .directory("d", {.mode = 07777, .uid = 7, .gid = 8})
                      .file("d/a", "")
                      .directory("d/e")
                      .fifo("p", {.mode = 06666, .gid = 8})
                      .character_device("c", 1, 3, {.mode = 04000}),
                  {"c c 1:3 4000", "d d 7777 7:8", "d/a f \"\"", "d/e d", "f f \"text\" 6755 7:8",
                   "p p 6666 0:8", "s f \"\" 1644"});
}

HOSTILE("modes of nothing", "fidelity 4: until then keep directories open to yourself")
{
    layer.becomes(tar_writer()
                      .directory("d", {.mode = 0})
                      .file("d/a", "text", {.mode = 0})
                      .directory("d/e/f", {.mode = 0}),
                  {"d d 0000", "d/a f \"text\" 0000", "d/e d implied", "d/e/f d 0000"});
}

HOSTILE("bits of a mode beyond 07777", "fidelity 1: mode counts with 07777 only")
{
    layer.becomes(tar_writer().file("a", "",
                                    {.tweak =
                                         [](std::string& block) {
                                             put_field(block, overmount::test::tar_fields::mode, "0120755");
                                         }}),
                  {"a f \"\" 0755"});
}

HOSTILE("owners up to the largest", "fidelity 1: above 2^32-2 is an error")
{
    layer.becomes(tar_writer()
                      .file("a", "", {.uid = 4294967294, .gid = 4294967294})
                      .symlink("l", "x", {.uid = 4294967294, .gid = 1})
                      .directory("d", {.uid = 65536, .gid = 2147483648}),
                  {"a f \"\" 4294967294:4294967294", "d d 65536:2147483648", "l l -> x 4294967294:1"});
}

HOSTILE("owners that 32 bits cut to root or to nobody", "fidelity 1: -1 means leave alone to chown")
{
    for (const std::uint64_t id : {4294967295ull, 4294967296ull, 18446744073709551615ull}) {
        layer.refused(tar_writer().file("a", "", {.uid = id}), errc::malformed_tar);
        layer.refused(tar_writer().directory("a", {.gid = id}), errc::malformed_tar);
    }
    for (const char* text : {"-1", "-0", "+1", "0x0", " 0", "1.0"})
        layer.refused(tar_writer().file("a", "", {.pax = {{"uid", text}}}), errc::malformed_tar);
}

HOSTILE("names of owners mean nothing", "fidelity 4: by number, always")
{
    layer.becomes(tar_writer().file("a", "",
                                    {.uid = 7,
                                     .pax = {{"uname", "root"}, {"gname", "root"}},
                                     .tweak =
                                         [](std::string& block) {
                                             put_field(block, overmount::test::tar_fields::user, "root");
                                             put_field(block, overmount::test::tar_fields::group, "root");
                                         }}),
                  {"a f \"\" 7:0"});
}

HOSTILE("times before 1970, of every type",
        "fidelity 4; skopeo, podman, containerd and docker clamp them to 0")
{
    layer.becomes(tar_writer()
                      .file("f", "", {.mtime = -1})
                      .directory("d", {.mtime = -86401, .mtime_ns = 877'000'000})
                      .symlink("l", "x", {.mtime = -1, .mtime_ns = 500'000'000})
                      .fifo("p", {.mtime = -2'000'000'000})
                      .character_device("c", 1, 3, {.mtime = -1}),
                  {"c c 1:3 @-1", "d d @-86401.877000000", "f f \"\" @-1", "l l -> x @-1.500000000",
                   "p p @-2000000000"});
}

HOSTILE("times after 2038 and 2106", "fidelity 4: after 2038 too")
{
    layer.becomes(tar_writer()
                      .file("f", "", {.mtime = 2'147'483'648, .mtime_ns = 1})
                      .directory("d", {.mtime = 4'294'967'296, .mtime_ns = 999'999'999})
                      .symlink("l", "x", {.mtime = 10'000'000'000}),
                  {"d d @4294967296.999999999", "f f \"\" @2147483648.000000001", "l l -> x @10000000000"});
}

HOSTILE("the time of a directory outlives its children",
        "fidelity 4: directories in a last pass, children first")
{
    layer.becomes(
        tar_writer()
            .directory("d", {.mtime = 1, .mtime_ns = 2})
            .directory("d/e", {.mtime = 3})
            .file("d/e/a", "")
            .whiteout("d/b")
            .symlink("d/c", "x")
            .hard_link("d/h", "d/e/a")
            .file("d/c", "", {.mtime = 4}),
        {"d d @1.000000002", "d/b w", "d/c f \"\" @4", "d/e d @3", "d/e/a f \"\"", "d/h f = d/e/a"});
}

HOSTILE("user attributes, binary and empty", "fidelity 5: user.* on files and directories; values are binary")
{
    const std::string value("a\0=\n\xff", 5);
    layer.becomes(tar_writer()
                      .file("f", "", {.xattrs = {{"user.a", value}, {"user.empty", ""}, {"user.\xff ", "1"}}})
                      .directory("d", {.xattrs = {{"user.d", "2"}}})
                      .hard_link("h", "f"),
                  {"d d user.d=\"2\"",
                   "f f \"\" user.a=" + literal(value) + " user.empty=\"\" " +
                       overmount::escape("user.\xff ") + "=\"1\"",
                   "h f = f"});
}

HOSTILE("user attributes of links, pipes and devices are left out", "fidelity 5: left out on other types")
{
    const string_pairs attributes{{"user.a", "1"}};
    layer.becomes(tar_writer()
                      .symlink("l", layer.canary() + "/bird", {.xattrs = attributes})
                      .fifo("p", {.xattrs = attributes})
                      .character_device("c", 1, 3, {.xattrs = attributes}),
                  {"c c 1:3", "l l -> " + layer.canary() + "/bird", "p p"});
}

HOSTILE("file capabilities of both kinds, last", "fidelity 4 and 5; umoci#261: v3 capabilities")
{
    layer.becomes(
        tar_writer()
            .file("a", "text", {.mode = 0755, .uid = 7, .xattrs = {{"security.capability", capability_v2}}})
            .hard_link("b", "a")
            .file("c", "text", {.xattrs = {{"security.capability", capability_v3}}}),
        {"a f \"text\" 0755 7:0 security.capability=" + literal(capability_v2), "b f = a",
         "c f \"text\" security.capability=" + literal(capability_v3)});
}

HOSTILE("a capability in libarchive's spelling", "libarchive tar(5): LIBARCHIVE.xattr, written by bsdtar")
{
    layer.becomes(
        tar_writer().file("a", "",
                          {.pax = {{"LIBARCHIVE.xattr.security.capability", "AQAAAgAEAAAAAAAAAAAAAAAAAAA"},
                                   {"LIBARCHIVE.xattr.user.%41%3d", "Ynk="}}}),
        {"a f \"\" security.capability=" + literal(capability_v2) + " user.A==\"by\""});
}

HOSTILE("capabilities on what is no file", "capabilities(7): regular files only")
{
    layer.becomes(tar_writer()
                      .directory("d", {.xattrs = {{"security.capability", capability_v2}}})
                      .symlink("l", "x", {.xattrs = {{"security.capability", capability_v2}}}),
                  {"d d", "l l -> x"});
}

HOSTILE("overlayfs's own attributes", "CVE-2023-0386, CVE-2023-2640: overlayfs; fidelity 5: never as is")
{
    const string_pairs attributes{
        {"trusted.overlay.opaque", "y"},    {"trusted.overlay.redirect", "/etc"},
        {"trusted.overlay.metacopy", ""},   {"trusted.overlay.origin", "x"},
        {"trusted.overlay.impure", "y"},    {"trusted.overlay.overlay.opaque", "y"},
        {"user.overlay.opaque", "y"},       {"user.overlay.redirect", "/etc"},
        {"user.overlay.metacopy", "x"},     {"user.overlay.overlay.whiteout", "y"},
        {"user.fuseoverlayfs.opaque", "y"}, {"user.containers.override_stat", "0:0:0755"},
        {"user.rootlesscontainers", "x"}};
    layer.becomes(tar_writer()
                      .directory("d", {.xattrs = attributes})
                      .file("f", "", {.xattrs = attributes})
                      .directory(".", {.xattrs = attributes}),
                  {". d", "d d", "f f \"\""});
}

HOSTILE("labels that only the host may give",
        "fidelity 5: selinux, ima, evm, other security.*, other system.*")
{
    layer.becomes(
        tar_writer().file("f", "",
                          {.xattrs = {{"security.selinux", "system_u:object_r:etc_t:s0"},
                                      {"security.ima", "x"},
                                      {"security.evm", "x"},
                                      {"security.other", "x"},
                                      {"system.nfs4_acl", "x"},
                                      {"system.data", "x"},
                                      {"trusted.other", "x"},
                                      {"noname", "x"},
                                      {"unknown.space", "x"},
                                      {"user", "x"},
                                      {"btrfs.compression", "zlib"}},
                           .pax = {{"RHT.security.selinux", "x"}, {"SCHILY.acl.access", "user::rwx"}}}),
        {"f f \"\""});
}

HOSTILE("POSIX ACLs of files and directories", "fidelity 4: access first, default ones in the last pass")
{
    layer.becomes(tar_writer()
                      .directory("d", {.mode = 0750, .xattrs = {{"system.posix_acl_default", acl}}})
                      .file("d/a", "", {.mode = 0600})
                      .file("b", "", {.mode = 0640, .xattrs = {{"system.posix_acl_access", acl}}}),
                  {"b f \"\" 0640 system.posix_acl_access=" + literal(acl),
                   "d d 0750 system.posix_acl_default=" + literal(acl), "d/a f \"\" 0600"});
}

HOSTILE("ACLs where none can be, and empty ones",
        "fidelity 5: empty values never fail: real images have them")
{
    layer.becomes(
        tar_writer()
            .symlink("l", "x", {.xattrs = {{"system.posix_acl_access", acl}}})
            .file("f", "", {.xattrs = {{"system.posix_acl_default", acl}, {"system.posix_acl_access", ""}}})
            .directory("d", {.xattrs = {{"system.posix_acl_default", ""}}}),
        {"d d", "f f \"\"", "l l -> x"});
}

HOSTILE("an attribute larger than may be", "fidelity 5: over 64 KiB is an error, not a silent loss")
{
    layer.refused(tar_writer().file("a", "", {.xattrs = {{"user.a", std::string(65537, 'x')}}}),
                  errc::xattr_too_large);
    layer.refused(tar_writer().file("a", "", {.xattrs = {{"user." + std::string(251, 'n'), "x"}}}),
                  errc::xattr_too_large);
    layer.refused(tar_writer().file("a", "", {.xattrs = {{"", "x"}}}), errc::malformed_tar);
}

HOSTILE("devices at the ends of their numbers", "fidelity 1: major 12, minor 20 bits")
{
    layer.becomes(tar_writer().character_device("c", 4095, 1048575).block_device("b", 4095, 0),
                  {"b b 4095:0", "c c 4095:1048575"});
    layer.refused(tar_writer().character_device("c", 4096, 0), errc::malformed_tar);
    layer.refused(tar_writer().block_device("b", 0, 1048576), errc::malformed_tar);
}

HOSTILE("a pipe and a device are never opened", "fidelity 3: no fifo, device or link is ever opened")
{
    // To open the pipe for writing would wait for ever.
    layer.becomes(tar_writer()
                      .fifo("p")
                      .file("p", "text")
                      .character_device("tty", 5, 0)
                      .file("tty", "text")
                      .fifo("q")
                      .hard_link("r", "q"),
                  {"p f \"text\"", "q p", "r p = q", "tty f \"text\""});
}

} // namespace

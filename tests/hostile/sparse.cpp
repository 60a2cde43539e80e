#include "hostile/battery.hpp"

using overmount::errc;
using overmount::test::put_field;
using overmount::test::string_pairs;
using overmount::test::tar_writer;
namespace at = overmount::test::tar_fields;

namespace {

tar_writer pax_01(const std::string& map, const std::string& size, std::string_view data)
{
    return tar_writer().file(
        "short", data,
        {.pax = {{"GNU.sparse.name", "a"}, {"GNU.sparse.size", size}, {"GNU.sparse.map", map}}});
}

tar_writer pax_10(const std::string& map, const std::string& size, std::string_view data)
{
    std::string text = map;
    text.append((512 - text.size() % 512) % 512, '\0');
    return tar_writer().file("short", text + std::string(data),
                             {.pax = {{"GNU.sparse.major", "1"},
                                      {"GNU.sparse.minor", "0"},
                                      {"GNU.sparse.name", "a"},
                                      {"GNU.sparse.realsize", size}}});
}

std::string octal(std::uint64_t value)
{
    char text[32];
    std::snprintf(text, sizeof text, "%011llo", static_cast<unsigned long long>(value));
    return text;
}

// An old GNU sparse file: up to four segments in its header, the rest in a block of 21.
tar_writer old_gnu(const std::vector<std::pair<std::uint64_t, std::uint64_t>>& map, std::uint64_t size,
                   std::string_view data)
{
    const auto put = [&](std::string& block, std::size_t offset, std::size_t begin, std::size_t count) {
        for (std::size_t i = begin; i < std::min(begin + count, map.size()); ++i) {
            put_field(block, {offset + (i - begin) * 24, 12}, octal(map[i].first));
            put_field(block, {offset + (i - begin) * 24 + 12, 12}, octal(map[i].second));
        }
    };
    std::string header(512, '\0');
    put_field(header, at::name, "a");
    put_field(header, at::mode, "0000644");
    put_field(header, at::uid, "0000000");
    put_field(header, at::gid, "0000000");
    put_field(header, at::size, octal(data.size()));
    put_field(header, at::mtime, octal(1'700'000'000));
    put_field(header, at::type, "S");
    put_field(header, at::magic, std::string("ustar  \0", 8));
    put(header, 386, 0, 4);
    put_field(header, {482, 1}, map.size() > 4 ? "\x01" : "");
    put_field(header, {483, 12}, octal(size));
    overmount::test::put_checksum(header);
    tar_writer out;
    out.raw(header);
    for (std::size_t begin = 4; begin < map.size(); begin += 21) {
        std::string block(512, '\0');
        put(block, 0, begin, 21);
        put_field(block, {504, 1}, map.size() > begin + 21 ? "\x01" : "");
        out.raw(block);
    }
    return out.data(data);
}

HOSTILE("a sparse file of each kind",
        "GNU tar manual, \"Storing Sparse Files\"; Go's readers refuse the old one")
{
    const std::vector<std::string> lines = {
        R"(a f "\x00"*65536 "0123" "\x00"*65532 "4567" "\x00"*8188 holes)"};
    layer.becomes(pax_01("65536,4,131072,4", "139264", "01234567"), lines);
    layer.becomes(pax_10("2\n65536\n4\n131072\n4\n", "139264", "01234567"), lines);
    layer.becomes(old_gnu({{65536, 4}, {131072, 4}}, 139264, "01234567"), lines);
    layer.becomes(tar_writer().file("short", "01234567",
                                    {.pax = {{"GNU.sparse.size", "139264"},
                                             {"GNU.sparse.numblocks", "2"},
                                             {"GNU.sparse.offset", "65536"},
                                             {"GNU.sparse.numbytes", "4"},
                                             {"GNU.sparse.offset", "131072"},
                                             {"GNU.sparse.numbytes", "4"},
                                             {"GNU.sparse.name", "a"}}}),
                  lines);
}

HOSTILE("a file of nothing but a hole", "GNU tar writes a segment of no bytes at the end")
{
    layer.becomes(pax_01("1048576,0", "1048576", ""), {R"(a f "\x00"*1048576 holes)"});
    layer.becomes(pax_10("1\n1048576\n0\n", "1048576", ""), {R"(a f "\x00"*1048576 holes)"});
    layer.becomes(old_gnu({{1048576, 0}}, 1048576, ""), {R"(a f "\x00"*1048576 holes)"});
}

HOSTILE("a sparse file that is empty", "GNU tar manual: a size of zero")
{
    layer.becomes(pax_01("0,0", "0", ""), {"a f \"\""});
    layer.becomes(pax_10("0\n", "0", ""), {"a f \"\""});
}

HOSTILE("very many small segments",
        "CVE-2025-58183: Go, allocations by a sparse map; fidelity 1: grow as bytes arrive")
{
    std::vector<std::pair<std::uint64_t, std::uint64_t>> map;
    std::string data, text = "500\n", expected;
    for (std::uint64_t i = 0; i < 500; ++i) {
        map.emplace_back(i * 4, 1);
        text += std::to_string(i * 4) + "\n1\n";
        data += 'x';
        expected += std::string("x\0\0\0", 4);
    }
    const std::vector<std::string> lines = {"a f " + overmount::test::literal(expected)};
    layer.becomes(old_gnu(map, 2000, data), lines);
    layer.becomes(pax_10(text, "2000", data), lines);
}

HOSTILE("more segments than may be", "CVE-2025-58183: Go; fidelity 7: sparse segments 1 000 000, here 3")
{
    layer.bounds.segments = 3;
    layer.refused(pax_01("0,1,2,1,4,1,6,1", "8", "0123"), errc::too_many_segments);
    layer.refused(old_gnu({{0, 1}, {2, 1}, {4, 1}, {6, 1}}, 8, "0123"), errc::too_many_segments);
    layer.refused(pax_10("4\n0\n1\n2\n1\n4\n1\n6\n1\n", "8", "0123"), errc::too_many_segments);
    layer.refused(pax_10("4000000000\n", "8", "0123"), errc::too_many_segments);
}

HOSTILE("segments that overlap or go backwards", "fidelity 1: segments ascend, do not overlap")
{
    for (const char* map : {"0,4,2,4", "4,4,0,4", "0,4,3,4"}) {
        layer.refused(pax_01(map, "16", "01234567"), errc::malformed_tar);
    }
    layer.refused(pax_10("2\n4\n4\n0\n4\n", "16", "01234567"), errc::malformed_tar);
    layer.refused(old_gnu({{4, 4}, {0, 4}}, 16, "01234567"), errc::malformed_tar);
}

HOSTILE("segments behind the end of the file", "fidelity 1: stay within the real size")
{
    layer.refused(pax_01("0,4,13,4", "16", "01234567"), errc::malformed_tar);
    layer.refused(pax_10("1\n9\n8\n", "16", "01234567"), errc::malformed_tar);
    layer.refused(old_gnu({{9, 8}}, 16, "01234567"), errc::malformed_tar);
}

HOSTILE("segments whose sums overflow", "fidelity 1: the sums must not overflow")
{
    for (const char* map :
         {"18446744073709551615,8", "9223372036854775807,8", "0,9223372036854775807,9223372036854775807,1",
          "4611686018427387904,4611686018427387904", "0,-1", "-1,8"})
        layer.refused(pax_01(map, "9223372036854775807", "01234567"), errc::malformed_tar);
}

HOSTILE("segments that do not add up to the data",
        "fidelity 1; CVE-2018-20482: GNU tar, an endless loop on sparse files")
{
    for (const char* map : {"0,4", "0,4,8,5", "0,0"})
        layer.refused(pax_01(map, "16", "01234567"), errc::malformed_tar);
    layer.refused(pax_10("1\n0\n4\n", "16", "01234567"), errc::malformed_tar);
    layer.refused(old_gnu({{0, 4}}, 16, "01234567"), errc::malformed_tar);
}

HOSTILE("maps that are no numbers", "CVE-2019-9923: GNU tar, malformed sparse headers; fidelity 1")
{
    for (const char* map : {"a,8", "0,8,", ",0,8", "0", "0,,8", "0 ,8", "0,8\n", "0;8"})
        layer.refused(pax_01(map, "16", "01234567"), errc::malformed_tar);
    for (const char* map : {"x\n", "1\n0\nx\n", "1\n\n0\n8\n", "-1\n", "1 \n0\n8\n"})
        layer.refused(pax_10(map, "16", "01234567"), errc::malformed_tar);
    layer.refused(old_gnu({{0, 8}}, 16, "01234567").raw("x"), errc::malformed_tar);
}

HOSTILE("a map without an end", "fidelity 1: never size a buffer by a number from the archive")
{
    layer.refused(pax_10("100\n0\n1\n", "16", ""), errc::malformed_tar);
    layer.refused(pax_10(std::string(2000, '1'), "16", ""), errc::malformed_tar);
    layer.bytes_refused(old_gnu({{0, 1}, {2, 1}, {4, 1}, {6, 1}, {8, 1}}, 16, "").bytes().substr(0, 512),
                        errc::truncated_stream);
}

HOSTILE("half a segment", "GNU tar manual, format 0.0: offset and numbytes come in pairs")
{
    const auto sparse = [](string_pairs records) {
        records.insert(records.begin(), {"GNU.sparse.size", "8"});
        return tar_writer().file("a", "1234", {.pax = std::move(records)});
    };
    layer.refused(sparse({{"GNU.sparse.offset", "0"}}), errc::malformed_tar);
    layer.refused(sparse({{"GNU.sparse.numbytes", "4"}}), errc::malformed_tar);
    layer.refused(
        sparse({{"GNU.sparse.offset", "0"}, {"GNU.sparse.offset", "0"}, {"GNU.sparse.numbytes", "4"}}),
        errc::malformed_tar);
}

HOSTILE("a sparse file without its size, of an unknown kind, or of two", "CVE-2019-9923: GNU tar; fidelity 1")
{
    layer.refused(tar_writer().file("a", "1234", {.pax = {{"GNU.sparse.map", "0,4"}}}), errc::malformed_tar);
    layer.refused(
        tar_writer().file("a", "1234", {.pax = {{"GNU.sparse.major", "2"}, {"GNU.sparse.size", "4"}}}),
        errc::malformed_tar);
    layer.refused(tar_writer()
                      .pax({{"GNU.sparse.map", "0,4"}, {"GNU.sparse.size", "8"}})
                      .raw(old_gnu({{0, 4}}, 8, "1234").bytes()),
                  errc::malformed_tar);
    layer.refused(tar_writer().directory("d", {.pax = {{"GNU.sparse.size", "8"}, {"GNU.sparse.map", "0,0"}}}),
                  errc::malformed_tar);
}

HOSTILE("a sparse file of immense size", "fidelity 1: count the real size against caps")
{
    layer.refused(pax_01("0,4", "4611686018427387904", "1234"), errc::layer_too_large);
}

HOSTILE("a sparse file through a name of two dots", "GNU tar manual: GNU.sparse.name is the name that counts")
{
    layer.refused(tar_writer().file("fine", "",
                                    {.pax = {{"GNU.sparse.name", "../canary/bird"},
                                             {"GNU.sparse.size", "0"},
                                             {"GNU.sparse.map", "0,0"}}}),
                  errc::entry_escapes_layer);
}

} // namespace

// The tar reader on any bytes: what it says must hold together, and pieces of any size must read the same.
// The first byte is the size of the pieces.
#include <overmount/tar/comparer.hpp>
#include <overmount/tar/framing.hpp>

#include "fuzz/checksums.hpp"

#include <cstdlib>
#include <string>

namespace {

namespace detail = overmount::detail;
namespace tar = overmount::tar;

void require(bool holds)
{
    if (!holds)
        std::abort();
}

// All that is read, as text; an error ends it.
std::string read(std::span<const std::byte> bytes, std::size_t piece)
{
    overmount::limits bounds;
    bounds.entries = 1000;
    bounds.layer_bytes = 1 << 30;
    bounds.segments = 10'000;
    tar::framing frames(bounds);
    std::string out;
    std::uint64_t data = 0;
    try {
        for (std::size_t at = 0; at < bytes.size(); at += piece) {
            auto input = bytes.subspan(at, std::min(piece, bytes.size() - at));
            for (;;) {
                const tar::event event = frames.next(input);
                if (event == tar::event::need_input)
                    break;
                const tar::entry& entry = frames.entry();
                if (event == tar::event::entry) {
                    require(frames.header_blocks().size() % tar::block_size == 0);
                    require(frames.skippable() % tar::block_size == 0);
                    require(entry.mtime.nanoseconds < 1'000'000'000 && entry.mode <= 07777);
                    std::uint64_t end = 0, sum = 0;
                    for (const tar::segment& one : entry.segments) {
                        require(one.offset >= end);
                        end = one.offset + one.size;
                        sum += one.size;
                    }
                    require(!entry.sparse || (end <= entry.size && sum == entry.stored_size));
                    require(entry.sparse || entry.size == entry.stored_size);
                    data = 0;
                    out += "entry " + entry.path + "\n" + entry.link_target + "\n";
                    for (const tar::xattr& one : entry.xattrs)
                        out += one.name + "=" + one.value + "\n";
                } else if (event == tar::event::data) {
                    require(frames.data_offset() + frames.data().size() <= entry.size);
                    data += frames.data().size();
                } else if (event == tar::event::entry_end) {
                    require(data == entry.stored_size);
                    out += "end\n";
                }
            }
            require(input.empty());
        }
        require(frames.stream_offset() == bytes.size());
        frames.finish();
    } catch (const overmount::error& failed) {
        out += failed.code().message();
    }
    return out;
}

// libarchive is asked about each entry; it may disagree, but neither may do worse.
void check(std::span<const std::byte> bytes)
{
    tar::framing frames({});
    detail::comparer comparer;
    try {
        for (auto event = frames.next(bytes); event != tar::event::need_input; event = frames.next(bytes))
            if (event == tar::event::entry)
                comparer.compare(frames.entry(), frames.header_blocks(), frames.skippable());
    } catch (const overmount::error&) {
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    if (size == 0)
        return 0;
    const std::string archive = overmount::test::with_checksums(data + 1, size - 1);
    const auto bytes = std::as_bytes(std::span(archive));
    require(read(bytes, 1 + data[0]) == read(bytes, size));
    check(bytes);
    return 0;
}

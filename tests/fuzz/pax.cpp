// The records of a PAX header: the input is the data of an `x` header in front of a sound entry.
#include <overmount/tar/framing.hpp>

#include "support/tar_writer.hpp"

#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    namespace tar = overmount::tar;
    const std::string_view records(reinterpret_cast<const char*>(data), size);
    const std::string bytes =
        overmount::test::tar_writer().extension('x', "x", records).file("name", "content").finish();
    tar::framing frames({});
    auto input = std::as_bytes(std::span(bytes));
    try {
        for (auto event = frames.next(input); event != tar::event::need_input; event = frames.next(input)) {
            if (event != tar::event::entry)
                continue;
            const tar::entry& entry = frames.entry();
            // A path is never emptied by a record, and names of attributes are ones that a kernel takes.
            if (entry.path.empty() || entry.path.find('\0') != std::string::npos ||
                entry.xattrs.size() > 1000)
                std::abort();
            for (const tar::xattr& one : entry.xattrs)
                if (one.name.empty() || one.name.size() > 255 || one.name.find('\0') != std::string::npos)
                    std::abort();
        }
    } catch (const overmount::error&) {
    }
    return 0;
}

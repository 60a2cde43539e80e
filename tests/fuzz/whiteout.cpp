// Names: what a whiteout deletes is a name, and a normalised path stays below its root.
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace {

void require(bool holds)
{
    if (!holds)
        std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    namespace tar = overmount::tar;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    overmount::limits bounds;
    std::string path;
    try {
        path = tar::normalise(text, bounds);
    } catch (const overmount::error&) {
        return 0;
    }
    require(path.size() <= bounds.path_bytes && path.size() <= text.size());
    require(tar::normalise(path, bounds) == path);
    for (std::string_view rest = path; !rest.empty(); rest = tar::parent_of(rest)) {
        const std::string_view name = tar::name_of(rest);
        require(!name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos);
        const auto what = tar::whiteout::of(name);
        require((what.kind == tar::whiteout_kind::none) == !name.starts_with(".wh."));
        require((what.kind == tar::whiteout_kind::whiteout) == !what.name.empty());
        require(what.name.empty() ||
                (what.name != "." && what.name != ".." && what.name.size() <= bounds.name_bytes));
    }
    return 0;
}

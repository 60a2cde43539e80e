#ifndef OVERMOUNT_TAR_WHITEOUT_HPP
#define OVERMOUNT_TAR_WHITEOUT_HPP

#include <overmount/core/config.hpp>

#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::tar {

enum class whiteout_kind : unsigned char
{
    none,      ///< an ordinary name
    whiteout,  ///< `.wh.NAME` deletes NAME of the layers below
    opaque,    ///< `.wh..wh..opq` hides all that its directory has below
    leftover,  ///< another `.wh..wh.` name, of aufs: to be ignored
    malformed, ///< `.wh.` alone, or in front of `.` or `..`
};

/// What the last component of a path makes of its entry.
struct whiteout
{
    whiteout_kind kind = whiteout_kind::none;
    std::string_view name; ///< what a whiteout deletes

    /// See OCI image spec, layer.md, "Whiteouts".
    [[nodiscard]] static constexpr whiteout of(std::string_view name) noexcept
    {
        if (!name.starts_with(".wh."))
            return {};
        if (name == ".wh..wh..opq")
            return {whiteout_kind::opaque, {}};
        if (name.starts_with(".wh..wh."))
            return {whiteout_kind::leftover, {}};
        name.remove_prefix(4);
        if (name.empty() || name == "." || name == "..")
            return {whiteout_kind::malformed, {}};
        return {whiteout_kind::whiteout, name};
    }
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#endif

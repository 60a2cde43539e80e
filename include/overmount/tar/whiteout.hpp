#ifndef OVERMOUNT_TAR_WHITEOUT_HPP
#define OVERMOUNT_TAR_WHITEOUT_HPP

#include <overmount/core/config.hpp>

#include <cstddef>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::tar {

enum class whiteout_kind : unsigned char
{
    none,      ///< an ordinary name
    whiteout,  ///< `.wh.NAME` deletes NAME of the layers below
    opaque,    ///< `.wh..wh..opq` hides everything that its directory has in the layers below
    leftover,  ///< another `.wh..wh.` name, metadata of aufs: to be ignored
    malformed, ///< `.wh.` followed by nothing, by `.` or by `..`
};

/// Classifies an entry by its name or path: an ordinary entry or a kind of whiteout.
struct whiteout
{
    whiteout_kind kind = whiteout_kind::none;
    std::string_view name; ///< the name that a whiteout deletes

    /// Classifies a single name. See OCI image spec, layer.md, "Whiteouts".
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

    /// Classifies a whole path. Everything below an opaque marker or an aufs name is `leftover`, everything below a whiteout
    /// is `malformed`; the topmost such directory decides.
    ///
    /// \param path as returned by `tar::normalise`
    [[nodiscard]] static constexpr whiteout of_path(std::string_view path) noexcept
    {
        const whiteout own = of(path.substr(path.rfind('/') + 1));
        if (own.kind == whiteout_kind::malformed || own.kind == whiteout_kind::leftover)
            return own;
        for (std::size_t begin = 0, end; (end = path.find('/', begin)) != std::string_view::npos; begin = end + 1) {
            const whiteout_kind above = of(path.substr(begin, end - begin)).kind;
            if (above == whiteout_kind::opaque || above == whiteout_kind::leftover)
                return {whiteout_kind::leftover, {}};
            if (above != whiteout_kind::none)
                return {whiteout_kind::malformed, {}};
        }
        return own;
    }
};

} // namespace overmount::OVERMOUNT_ABI::tar

#endif

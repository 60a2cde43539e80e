#ifndef OVERMOUNT_TAR_FRAMING_HPP
#define OVERMOUNT_TAR_FRAMING_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/tar/entry.hpp>
#include <overmount/tar/header.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::tar {

/// What `framing::next` came upon.
enum class event : unsigned char
{
    need_input, ///< all input is consumed
    entry,      ///< the headers of an entry are read: `entry()`
    data,       ///< a piece of the entry's file: `data()`, `data_offset()`
    entry_end,  ///< the entry and its padding are over
    end,        ///< the end marker; what follows is consumed in silence
};

/// Reads the bytes of an uncompressed tar strictly: v7, ustar, GNU and PAX, sparse files of all four kinds. It
/// does no input, allocates as bytes arrive and never by a number from the archive. After an error it can only
/// be destroyed. Where readers are known to differ (a header behind a single zero block, two extension headers of
/// one kind for one entry) it refuses the archive.
///
/// Throws `error` with `malformed_tar`, `unsupported_entry_type`, or the code of the limit that was reached.
/// See POSIX pax, "pax Interchange Format"; GNU tar manual, "Storing Sparse Files".
class framing
{
public:
    explicit framing(const limits& bounds) : bounds_(bounds) {}

    /// Consumes from the front of `input` until something is known. Call it again with the rest.
    OVERMOUNT_LAZY [[nodiscard]] event next(std::span<const std::byte>& input);

    /// The entry whose headers were read last; valid until the next `event::entry`.
    [[nodiscard]] const tar::entry& entry() const noexcept { return entry_; }
    /// The piece of `event::data`: a part of the caller's input.
    [[nodiscard]] std::span<const std::byte> data() const noexcept { return data_; }
    /// Where in the file that piece belongs, in bytes.
    [[nodiscard]] std::uint64_t data_offset() const noexcept { return data_offset_; }
    /// All blocks in front of the entry's data: extension headers, header, sparse maps.
    [[nodiscard]] std::span<const std::byte> header_blocks() const noexcept { return blocks_; }

    /// Bytes of data and padding still to come of this entry. The caller may leave out some of them.
    [[nodiscard]] std::uint64_t skippable() const noexcept { return stored_left_ + padding_left_; }
    /// The next `count` bytes will not be given; no more than `skippable()`.
    OVERMOUNT_LAZY void skip(std::uint64_t count);

    /// Bytes of the tar so far, left out ones as well.
    [[nodiscard]] std::uint64_t stream_offset() const noexcept { return offset_; }
    [[nodiscard]] std::uint64_t entries() const noexcept { return entries_; }

    /// The input is over. A missing end marker is fine; `truncated_stream` inside a header or data.
    OVERMOUNT_LAZY void finish() const;

private:
    enum class state : unsigned char
    {
        header,
        extension,     // data of an x, g, L or K header
        sparse_blocks, // old GNU: more of the map
        sparse_map,    // PAX 1.0: the map in front of the data
        announce,      // the entry is known
        data,
        padding,
        marker, // between two zero blocks
        rest,
    };
    using record = std::pair<std::string, std::string>;
    // What PAX records say in place of the fields of the header. An empty value takes back an earlier one.
    struct replacements
    {
        std::optional<std::string> path, link_target, sparse_name;
        std::optional<std::uint64_t> size;
        std::optional<std::uint32_t> uid, gid;
        std::optional<timestamp> mtime;
    };

    OVERMOUNT_LAZY [[noreturn]] void fail(errc code, std::string_view words = {}) const;
    OVERMOUNT_LAZY bool take_block(std::span<const std::byte>& input);
    OVERMOUNT_LAZY void read_header();
    OVERMOUNT_LAZY void begin_extension(const header& block, char type);
    OVERMOUNT_LAZY bool read_extension(std::span<const std::byte>& input);
    OVERMOUNT_LAZY void end_extension();
    OVERMOUNT_LAZY void read_records(bool global);
    OVERMOUNT_LAZY void read_entry(const header& block);
    OVERMOUNT_LAZY void read_numbers(const header& block);
    OVERMOUNT_LAZY void read_type(const header& block);
    OVERMOUNT_LAZY void apply(const record& item);
    OVERMOUNT_LAZY void apply_sparse(const std::string& key, const std::string& value);
    OVERMOUNT_LAZY void add_xattr(std::string name, std::string value);
    OVERMOUNT_LAZY void add_libarchive_xattr(std::string_view name, std::string_view value);
    OVERMOUNT_LAZY void merge_xattrs();
    OVERMOUNT_LAZY [[nodiscard]] std::uint32_t id_value(const std::string& text) const;
    OVERMOUNT_LAZY [[nodiscard]] timestamp time_value(const std::string& text) const;
    OVERMOUNT_LAZY void read_sparse_01(const std::string& map);
    OVERMOUNT_LAZY void read_gnu_map(const header& block, std::size_t begin, std::size_t count);
    OVERMOUNT_LAZY void read_sparse_blocks();
    OVERMOUNT_LAZY void read_sparse_map();
    OVERMOUNT_LAZY void add_segment(std::uint64_t offset, std::uint64_t size);
    OVERMOUNT_LAZY void check_entry();
    OVERMOUNT_LAZY event read_data(std::span<const std::byte>& input);
    OVERMOUNT_LAZY void advance(std::uint64_t count);
    // An extension header waits for its entry.
    [[nodiscard]] bool waiting() const noexcept { return has_records_ || has_long_name_ || has_long_link_; }
    OVERMOUNT_LAZY [[nodiscard]] std::uint64_t unsigned_value(const std::string& text) const;

    limits bounds_;
    state state_ = state::header;
    std::uint64_t offset_ = 0, entries_ = 0, layer_bytes_ = 0;

    std::vector<std::byte> partial_;       // of a block that came in pieces
    std::span<const std::byte> block_;     // the block at hand
    std::vector<std::byte> blocks_;        // header blocks of the entry
    bool fresh_ = true;                    // the next header block begins a new entry

    char extension_type_ = 0;
    unsigned extensions_ = 0;
    std::uint64_t extension_left_ = 0, extension_padding_ = 0;
    std::string extension_;

    std::vector<record> records_; // of the x header that waits for its entry
    std::string long_name_, long_link_;
    bool has_records_ = false, has_long_name_ = false, has_long_link_ = false;
    replacements said_;
    std::vector<xattr> libarchive_xattrs_;

    tar::entry entry_;
    std::uint64_t stored_left_ = 0, padding_left_ = 0;
    std::optional<std::uint64_t> sparse_major_, real_size_, pending_offset_;
    std::string map_text_;
    std::vector<std::uint64_t> map_numbers_;
    std::size_t segment_ = 0;
    std::uint64_t segment_done_ = 0;
    std::uint64_t file_offset_ = 0;

    std::span<const std::byte> data_;
    std::uint64_t data_offset_ = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/framing.ipp>
#endif

#endif

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

namespace overmount::OVERMOUNT_ABI::tar {

/// What `framing::next` found.
enum class event : unsigned char
{
    need_input, ///< all input is consumed
    entry,      ///< the headers of an entry were read: see `entry()`
    data,       ///< a piece of the entry's file: see `data()`, `data_offset()`
    entry_end,  ///< the entry ends, after its padding
    end,        ///< the end marker; everything after it is consumed and ignored
};

/// Strict parser for uncompressed tar: v7, ustar, GNU and PAX, sparse files of all four kinds. It performs no I/O.
/// It allocates as bytes arrive, never by a number from the archive. It refuses archives that readers are known to
/// read differently (a header after a single zero block, two extension headers of one kind for one entry). After an
/// error it can only be destroyed.
///
/// Throws `error` with `malformed_tar`, `unsupported_entry_type`, or the code of the limit that was exceeded.
/// See POSIX pax, "pax Interchange Format"; GNU tar manual, "Storing Sparse Files".
class framing
{
public:
    explicit framing(const limits& bounds) : bounds_(bounds) {}

    /// Consumes from the front of `input` until there is an event to report. Call it again with the remaining input.
    [[nodiscard]] event next(std::span<const std::byte>& input);

    /// The entry of the last `event::entry`; valid until the next one.
    [[nodiscard]] const tar::entry& entry() const noexcept { return entry_; }
    /// The piece of `event::data`: a view into the caller's input.
    [[nodiscard]] std::span<const std::byte> data() const noexcept { return data_; }
    /// Offset of that piece in the file, in bytes.
    [[nodiscard]] std::uint64_t data_offset() const noexcept { return data_offset_; }
    /// All blocks before the entry's data: extension headers, header, sparse maps.
    [[nodiscard]] std::span<const std::byte> header_blocks() const noexcept { return blocks_; }

    /// Bytes of data and padding that remain of this entry. The caller may `skip` any number of them.
    [[nodiscard]] std::uint64_t skippable() const noexcept { return stored_left_ + padding_left_; }
    /// Declares that the caller will not pass the next `count` bytes; at most `skippable()`.
    void skip(std::uint64_t count);

    /// Bytes of the tar so far, skipped ones included.
    [[nodiscard]] std::uint64_t stream_offset() const noexcept { return offset_; }
    [[nodiscard]] std::uint64_t entries() const noexcept { return entries_; }

    /// To be called at the end of the input. A missing end marker is accepted; throws `truncated_stream` inside a header
    /// or data.
    void finish() const;

private:
    enum class state : unsigned char
    {
        header,
        extension,     // data of an x, g, L or K header
        sparse_blocks, // old GNU: further blocks of the map
        sparse_map,    // PAX 1.0: the map before the data
        entry_ready,   // all headers are read
        data,
        padding,
        zero_block, // after the first of the two zero blocks that end a tar
        after_end,
    };
    using record = std::pair<std::string, std::string>;
    // Values of PAX records, which override the fields of the header. An empty value cancels an earlier one.
    struct header_overrides
    {
        std::optional<std::string> path, link_target, sparse_name;
        std::optional<std::uint64_t> size;
        std::optional<std::uint32_t> uid, gid;
        std::optional<timestamp> mtime;
    };

    [[noreturn]] void fail(errc code, std::string_view detail = {}) const;
    bool take_block(std::span<const std::byte>& input);
    void read_header();
    void begin_extension(const header& block, char type);
    bool read_extension(std::span<const std::byte>& input);
    void end_extension();
    void read_records(bool global);
    void read_entry(const header& block);
    void read_numbers(const header& block);
    void read_type(const header& block);
    void apply(const record& item);
    void apply_sparse(const std::string& key, const std::string& value);
    void add_xattr(std::string name, std::string value);
    void add_libarchive_xattr(std::string_view name, std::string_view value);
    void merge_xattrs();
    [[nodiscard]] std::uint32_t id_value(const std::string& text) const;
    [[nodiscard]] timestamp time_value(const std::string& text) const;
    void read_sparse_01(const std::string& map);
    void read_gnu_map(const header& block, std::size_t begin, std::size_t count);
    void read_sparse_blocks();
    void read_sparse_map();
    void add_segment(std::uint64_t offset, std::uint64_t size);
    void check_entry();
    event read_data(std::span<const std::byte>& input);
    void advance(std::uint64_t count);
    // Whether an extension header was read whose entry has not followed yet.
    [[nodiscard]] bool has_pending_extension() const noexcept { return has_records_ || has_long_name_ || has_long_link_; }
    [[nodiscard]] std::uint64_t unsigned_value(const std::string& text) const;

    limits bounds_;
    state state_ = state::header;
    std::uint64_t offset_ = 0, entries_ = 0, layer_bytes_ = 0;

    std::vector<std::byte> partial_;       // a block that arrived in pieces
    std::span<const std::byte> block_;     // the current block
    std::vector<std::byte> blocks_;        // header blocks of the entry
    bool starts_entry_ = true;             // the next header block begins a new entry

    char extension_type_ = 0;
    unsigned extensions_ = 0;
    std::uint64_t extension_left_ = 0, extension_padding_ = 0;
    std::string extension_;

    std::vector<record> records_; // of the x header whose entry has not followed yet
    std::string long_name_, long_link_;
    bool has_records_ = false, has_long_name_ = false, has_long_link_ = false;
    header_overrides overrides_;
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

} // namespace overmount::OVERMOUNT_ABI::tar

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/tar/impl/framing.ipp>
#endif

#endif

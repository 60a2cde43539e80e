#ifndef OVERMOUNT_CORE_DIGEST_HPP
#define OVERMOUNT_CORE_DIGEST_HPP

#include <overmount/core/error.hpp>

#include <algorithm>
#include <array>
#include <compare>
#include <cstddef>
#include <functional>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace overmount::inline OVERMOUNT_ABI {

/// The algorithms that the OCI image spec registers and that are in use.
enum class digest_algorithm : unsigned char
{
    sha256,
    sha512,
};

/// The name in front of the colon: `sha256` or `sha512`.
OVERMOUNT_LAZY [[nodiscard]] std::string_view to_string(digest_algorithm algorithm) noexcept;

/// The checksum of some bytes: an algorithm and 32 or 64 bytes. Always a valid one: there is no empty digest.
/// See OCI image spec, descriptor.md, "Digests".
class digest
{
public:
    /// \param bytes 32 bytes for sha256, 64 for sha512.
    OVERMOUNT_LAZY digest(digest_algorithm algorithm, std::span<const std::byte> bytes) noexcept;

    /// Reads `sha256:<64 lower-case hex digits>` or `sha512:<128 ...>`; nothing for any other text.
    OVERMOUNT_LAZY [[nodiscard]] static std::optional<digest> try_parse(std::string_view text) noexcept;
    /// The same, but throws `error` with `errc::invalid_digest`.
    OVERMOUNT_LAZY [[nodiscard]] static digest parse(std::string_view text);
    /// The digest of bytes in memory.
    OVERMOUNT_LAZY [[nodiscard]] static digest of(std::span<const std::byte> bytes,
                                                  digest_algorithm algorithm = digest_algorithm::sha256);
    OVERMOUNT_LAZY [[nodiscard]] static digest of(std::string_view text,
                                                  digest_algorithm algorithm = digest_algorithm::sha256);

    [[nodiscard]] digest_algorithm algorithm() const noexcept { return algorithm_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept
    {
        return std::span(bytes_).first(algorithm_ == digest_algorithm::sha256 ? 32 : 64);
    }
    /// The hex digits alone.
    OVERMOUNT_LAZY [[nodiscard]] std::string hex() const;
    /// Algorithm, colon, hex digits.
    OVERMOUNT_LAZY [[nodiscard]] std::string string() const;

    friend bool operator==(const digest&, const digest&) noexcept = default;
    friend std::strong_ordering operator<=>(const digest&, const digest&) noexcept = default;
    /// Writes what `string` gives.
    template <class Traits>
    friend std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& to, const digest& value)
    {
        return to << value.string();
    }

private:
    digest_algorithm algorithm_;
    std::array<std::byte, 64> bytes_{};
};

/// The digest of a layer's uncompressed tar, to its last byte. Names the content of a layer.
class diff_id
{
public:
    explicit diff_id(const digest& value) noexcept : value_(value) {}
    [[nodiscard]] static diff_id parse(std::string_view text) { return diff_id(digest::parse(text)); }

    [[nodiscard]] const digest& value() const noexcept { return value_; }
    [[nodiscard]] std::string string() const { return value_.string(); }

    friend bool operator==(const diff_id&, const diff_id&) noexcept = default;
    friend std::strong_ordering operator<=>(const diff_id&, const diff_id&) noexcept = default;
    /// Writes what `string` gives.
    template <class Traits>
    friend std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& to, const diff_id& value)
    {
        return to << value.string();
    }

private:
    digest value_;
};

/// Names a layer: a diff and all that lies below it.
/// See OCI image spec, config.md, "Layer ChainID".
class chain_id
{
public:
    explicit chain_id(const digest& value) noexcept : value_(value) {}
    [[nodiscard]] static chain_id parse(std::string_view text) { return chain_id(digest::parse(text)); }
    /// The chain of a lowest layer: its diff ID.
    [[nodiscard]] static chain_id of(const diff_id& lowest) noexcept { return chain_id(lowest.value()); }
    /// The chain of `diff` on top of `parent`.
    OVERMOUNT_LAZY [[nodiscard]] static chain_id of(const chain_id& parent, const diff_id& diff);
    /// The chain of a whole stack, lowest first. \pre `!stack.empty()`
    OVERMOUNT_LAZY [[nodiscard]] static chain_id of(std::span<const diff_id> stack);

    [[nodiscard]] const digest& value() const noexcept { return value_; }
    [[nodiscard]] std::string string() const { return value_.string(); }

    friend bool operator==(const chain_id&, const chain_id&) noexcept = default;
    friend std::strong_ordering operator<=>(const chain_id&, const chain_id&) noexcept = default;
    /// Writes what `string` gives.
    template <class Traits>
    friend std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& to, const chain_id& value)
    {
        return to << value.string();
    }

private:
    digest value_;
};

} // namespace overmount::inline OVERMOUNT_ABI

template <>
struct std::hash<overmount::digest>
{
    std::size_t operator()(const overmount::digest& value) const noexcept
    {
        // The bytes are a checksum: any eight of them are a good hash.
        std::size_t out = 0;
        const auto bytes = value.bytes();
        for (std::size_t i = 0; i < sizeof out; ++i)
            out = (out << 8) | std::to_integer<std::size_t>(bytes[i]);
        return out;
    }
};
template <>
struct std::hash<overmount::diff_id>
{
    std::size_t operator()(const overmount::diff_id& id) const noexcept
    {
        return std::hash<overmount::digest>()(id.value());
    }
};
template <>
struct std::hash<overmount::chain_id>
{
    std::size_t operator()(const overmount::chain_id& id) const noexcept
    {
        return std::hash<overmount::digest>()(id.value());
    }
};

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/core/impl/digest.ipp>
#endif

#endif

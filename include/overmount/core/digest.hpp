#ifndef OVERMOUNT_CORE_DIGEST_HPP
#define OVERMOUNT_CORE_DIGEST_HPP

#include <overmount/core/error.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstring>
#include <functional>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace overmount::OVERMOUNT_ABI {

/// The digest algorithms that the OCI image spec registers and that images use.
enum class digest_algorithm : unsigned char
{
    sha256,
    sha512,
};

/// The algorithm's name in a digest, before the colon: `sha256` or `sha512`.
[[nodiscard]] std::string_view to_string(digest_algorithm algorithm) noexcept;

/// A cryptographic hash of some content: an algorithm and 32 or 64 bytes. It is always valid: there is no empty digest.
/// See OCI image spec, descriptor.md, "Digests".
class digest
{
public:
    /// \param bytes 32 bytes for sha256, 64 for sha512.
    digest(digest_algorithm algorithm, std::span<const std::byte> bytes) noexcept;

    /// Parses `sha256:<64 lower-case hex digits>` or `sha512:<128 ...>`. Returns nullopt for any other text.
    [[nodiscard]] static std::optional<digest> try_parse(std::string_view text) noexcept;
    /// Like `try_parse`, but throws `error` with `errc::invalid_digest`.
    [[nodiscard]] static digest parse(std::string_view text);
    /// The digest of bytes in memory.
    [[nodiscard]] static digest of(std::span<const std::byte> bytes,
                                                  digest_algorithm algorithm = digest_algorithm::sha256);
    [[nodiscard]] static digest of(std::string_view text,
                                                  digest_algorithm algorithm = digest_algorithm::sha256);

    [[nodiscard]] digest_algorithm algorithm() const noexcept { return algorithm_; }
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept
    {
        return std::span(bytes_).first(algorithm_ == digest_algorithm::sha256 ? 32 : 64);
    }
    /// The hex digits without the algorithm.
    [[nodiscard]] std::string hex() const;
    /// Algorithm, colon, hex digits.
    [[nodiscard]] std::string string() const;

    friend bool operator==(const digest& a, const digest& b) noexcept { return (a <=> b) == 0; }
    friend std::strong_ordering operator<=>(const digest& a, const digest& b) noexcept
    {
        if (a.algorithm_ != b.algorithm_)
            return a.algorithm_ <=> b.algorithm_;
        return std::memcmp(a.bytes_.data(), b.bytes_.data(), a.bytes_.size()) <=> 0;
    }
    /// Writes `value.string()`.
    template <class Traits>
    friend std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& to, const digest& value)
    {
        return to << value.string();
    }

private:
    digest_algorithm algorithm_;
    std::array<std::byte, 64> bytes_{};
};

/// The digest of a layer's complete uncompressed tar. It identifies the content of a layer.
class diff_id
{
public:
    explicit diff_id(const digest& value) noexcept : value_(value) {}
    [[nodiscard]] static diff_id parse(std::string_view text) { return diff_id(digest::parse(text)); }

    [[nodiscard]] const digest& value() const noexcept { return value_; }
    [[nodiscard]] std::string string() const { return value_.string(); }

    friend bool operator==(const diff_id&, const diff_id&) noexcept = default;
    friend std::strong_ordering operator<=>(const diff_id&, const diff_id&) noexcept = default;
    /// Writes `value.string()`.
    template <class Traits>
    friend std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& to, const diff_id& value)
    {
        return to << value.string();
    }

private:
    digest value_;
};

/// Identifies a layer: a diff together with all layers below it.
/// See OCI image spec, config.md, "Layer ChainID".
class chain_id
{
public:
    explicit chain_id(const digest& value) noexcept : value_(value) {}
    [[nodiscard]] static chain_id parse(std::string_view text) { return chain_id(digest::parse(text)); }
    /// The chain ID of a layer without a parent: its diff ID.
    [[nodiscard]] static chain_id of(const diff_id& lowest) noexcept { return chain_id(lowest.value()); }
    /// The chain ID of `diff` on top of `parent`. Without a parent it equals the diff ID.
    [[nodiscard]] static chain_id of(const std::optional<chain_id>& parent, const diff_id& diff);
    /// The chain ID of a whole stack, lowest layer first. \pre `!stack.empty()`
    [[nodiscard]] static chain_id of(std::span<const diff_id> stack);

    [[nodiscard]] const digest& value() const noexcept { return value_; }
    [[nodiscard]] std::string string() const { return value_.string(); }

    friend bool operator==(const chain_id&, const chain_id&) noexcept = default;
    friend std::strong_ordering operator<=>(const chain_id&, const chain_id&) noexcept = default;
    /// Writes `value.string()`.
    template <class Traits>
    friend std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& to, const chain_id& value)
    {
        return to << value.string();
    }

private:
    digest value_;
};

} // namespace overmount::OVERMOUNT_ABI

template <>
struct std::hash<overmount::digest>
{
    std::size_t operator()(const overmount::digest& value) const noexcept
    {
        // The bytes are uniformly distributed: any eight of them are a good hash.
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

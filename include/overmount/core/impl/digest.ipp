#ifndef OVERMOUNT_CORE_IMPL_DIGEST_IPP
#define OVERMOUNT_CORE_IMPL_DIGEST_IPP

#include <overmount/core/digest.hpp>
#include <overmount/core/hasher.hpp>

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <new>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

inline int hex_value(char digit) noexcept
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

OVERMOUNT_DECL void hasher::release::operator()(evp_md_ctx_st* context) const noexcept
{
    ::EVP_MD_CTX_free(context);
}

OVERMOUNT_DECL hasher::hasher(digest_algorithm algorithm)
    : algorithm_(algorithm), context_(::EVP_MD_CTX_new())
{
    const EVP_MD* method = algorithm == digest_algorithm::sha256 ? ::EVP_sha256() : ::EVP_sha512();
    if (!context_ || ::EVP_DigestInit_ex(context_.get(), method, nullptr) != 1)
        throw std::bad_alloc();
}

OVERMOUNT_DECL void hasher::update(std::span<const std::byte> bytes)
{
    if (::EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1)
        throw std::bad_alloc();
}

OVERMOUNT_DECL digest hasher::finish()
{
    std::array<std::byte, EVP_MAX_MD_SIZE> out;
    unsigned size = 0;
    if (::EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(out.data()), &size) != 1)
        throw std::bad_alloc();
    return digest(algorithm_, std::span(out).first(size));
}

} // namespace detail

OVERMOUNT_DECL std::string_view to_string(digest_algorithm algorithm) noexcept
{
    return algorithm == digest_algorithm::sha256 ? "sha256" : "sha512";
}

OVERMOUNT_DECL digest::digest(digest_algorithm algorithm, std::span<const std::byte> bytes) noexcept
    : algorithm_(algorithm)
{
    std::copy_n(bytes.begin(), std::min(bytes.size(), bytes_.size()), bytes_.begin());
}

OVERMOUNT_DECL std::optional<digest> digest::try_parse(std::string_view text) noexcept
{
    digest_algorithm algorithm{};
    std::size_t size = 0;
    if (text.starts_with("sha256:")) {
        size = 32;
    } else if (text.starts_with("sha512:")) {
        algorithm = digest_algorithm::sha512;
        size = 64;
    } else {
        return std::nullopt;
    }
    text.remove_prefix(7);
    if (text.size() != 2 * size)
        return std::nullopt;
    std::array<std::byte, 64> bytes{};
    for (std::size_t i = 0; i < size; ++i) {
        const int high = detail::hex_value(text[2 * i]), low = detail::hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return std::nullopt;
        bytes[i] = static_cast<std::byte>(high * 16 + low);
    }
    return digest(algorithm, std::span(bytes).first(size));
}

OVERMOUNT_DECL digest digest::parse(std::string_view text)
{
    if (auto value = try_parse(text))
        return *value;
    throw error(errc::invalid_digest).subject(text);
}

OVERMOUNT_DECL digest digest::of(std::span<const std::byte> bytes, digest_algorithm algorithm)
{
    detail::hasher hash(algorithm);
    hash.update(bytes);
    return hash.finish();
}

OVERMOUNT_DECL digest digest::of(std::string_view text, digest_algorithm algorithm)
{
    return of(std::as_bytes(std::span(text)), algorithm);
}

OVERMOUNT_DECL std::string digest::hex() const
{
    static constexpr char digits[] = "0123456789abcdef";
    std::string out;
    out.reserve(2 * bytes().size());
    for (const std::byte byte : bytes()) {
        out += digits[std::to_integer<unsigned>(byte >> 4)];
        out += digits[std::to_integer<unsigned>(byte & std::byte{15})];
    }
    return out;
}

OVERMOUNT_DECL std::string digest::string() const
{
    return std::string(to_string(algorithm_)) + ":" + hex();
}

OVERMOUNT_DECL chain_id chain_id::of(const std::optional<chain_id>& parent, const diff_id& diff)
{
    if (!parent)
        return of(diff);
    return chain_id(digest::of(parent->string() + " " + diff.string(), diff.value().algorithm()));
}

OVERMOUNT_DECL chain_id chain_id::of(std::span<const diff_id> stack)
{
    chain_id chain = of(stack.front());
    for (const diff_id& diff : stack.subspan(1))
        chain = of(chain, diff);
    return chain;
}

} // namespace overmount::OVERMOUNT_ABI

#endif

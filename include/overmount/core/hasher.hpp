#ifndef OVERMOUNT_CORE_HASHER_HPP
#define OVERMOUNT_CORE_HASHER_HPP

#include <overmount/core/config.hpp>

#include <cstddef>
#include <memory>
#include <span>

struct evp_md_ctx_st;

namespace overmount::OVERMOUNT_ABI {

enum class digest_algorithm : unsigned char;
class digest;

namespace detail {

// Computes a digest incrementally.
class hasher
{
public:
    explicit hasher(digest_algorithm algorithm);

    void update(std::span<const std::byte> bytes);
    // Returns the digest of all bytes. Call it once, at the end.
    [[nodiscard]] digest finish();

private:
    struct release
    {
        void operator()(evp_md_ctx_st* context) const noexcept;
    };
    digest_algorithm algorithm_;
    std::unique_ptr<evp_md_ctx_st, release> context_;
};

} // namespace detail
} // namespace overmount::OVERMOUNT_ABI

// Included here, after the class: the bodies of `digest` need a complete `hasher`.
#include <overmount/core/digest.hpp>

#endif

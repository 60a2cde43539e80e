#ifndef OVERMOUNT_CORE_HASHER_HPP
#define OVERMOUNT_CORE_HASHER_HPP

#include <overmount/core/config.hpp>

#include <cstddef>
#include <memory>
#include <span>

struct evp_md_ctx_st;

namespace overmount::inline OVERMOUNT_ABI {

enum class digest_algorithm : unsigned char;
class digest;

namespace detail {

// A digest over bytes that come in pieces.
class hasher
{
public:
    OVERMOUNT_LAZY explicit hasher(digest_algorithm algorithm);

    OVERMOUNT_LAZY void update(std::span<const std::byte> bytes);
    // The digest of all bytes so far. To be called once, at the end.
    OVERMOUNT_LAZY [[nodiscard]] digest finish();

private:
    struct release
    {
        void operator()(evp_md_ctx_st* context) const noexcept;
    };
    digest_algorithm algorithm_;
    std::unique_ptr<evp_md_ctx_st, release> context_;
};

} // namespace detail
} // namespace overmount::inline OVERMOUNT_ABI

// The class above is complete here, as the bodies of both need it.
#include <overmount/core/digest.hpp>

#endif

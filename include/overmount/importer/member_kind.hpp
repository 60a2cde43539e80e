#ifndef OVERMOUNT_IMPORTER_MEMBER_KIND_HPP
#define OVERMOUNT_IMPORTER_MEMBER_KIND_HPP

#include <overmount/codec/decoder.hpp>
#include <overmount/tar/header.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace overmount::OVERMOUNT_ABI::detail {

// What a member of an image archive may be, judged by its first bytes. In a stream it must be processed before the documents
// that refer to it are read.
enum class member_kind : unsigned char
{
    document, // JSON
    layer,    // a tar, compressed or not
    other,
};

// `head` is the first 512 bytes of the member, or all if it is shorter.
[[nodiscard]] inline member_kind classify_member(std::span<const std::byte> head)
{
    if (detect_compression(head) != compression::none)
        return member_kind::layer;
    // The shortest tar has no bytes, or only an end marker.
    if (head.empty())
        return member_kind::layer;
    if (head.size() == tar::block_size) {
        const tar::header block(head);
        if (block.zero() || block.checksum_matches())
            return member_kind::layer;
    }
    const auto first = std::find_if(head.begin(), head.end(), [](std::byte byte) {
        return byte != std::byte{' '} && byte != std::byte{'\n'} && byte != std::byte{'\r'} &&
               byte != std::byte{'\t'};
    });
    if (first != head.end() && (*first == std::byte{'{'} || *first == std::byte{'['}))
        return member_kind::document;
    return member_kind::other;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_IMPORTER_IMPL_ARCHIVE_IPP
#define OVERMOUNT_IMPORTER_IMPL_ARCHIVE_IPP

#include <overmount/codec/decoder.hpp>
#include <overmount/importer/archive.hpp>
#include <overmount/importer/image_files.hpp>

#include <cstddef>
#include <span>

namespace overmount::OVERMOUNT_ABI {

OVERMOUNT_LAZY_BODY bool is_compressed(const std::string& path)
{
    std::byte head[16];
    const std::size_t size = detail::whole_file(path).read(0, head);
    return detail::detect_compression(std::span(head).first(size)) != compression::none;
}

} // namespace overmount::OVERMOUNT_ABI

#endif

#ifndef OVERMOUNT_IMPORTER_ARCHIVE_HPP
#define OVERMOUNT_IMPORTER_ARCHIVE_HPP

#include <overmount/io/byte_stream.hpp>

#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

/// The images of an archive that arrives as a stream: a docker archive or an OCI layout, with its members in any order,
/// uncompressed or compressed as a whole with gzip, zstd, xz or bzip2. The archive is read once, in bounded memory; members
/// that may be layers are unpacked as they arrive.
class archive_stream
{
public:
    /// \param bytes the archive; read to its end
    /// \param name  tag or reference name of the image to import; empty for all images
    explicit archive_stream(byte_stream bytes, std::string name = {})
        : bytes_(std::move(bytes)), name_(std::move(name))
    {}
    [[nodiscard]] const byte_stream& bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    byte_stream bytes_;
    std::string name_;
};

/// The same from a file, for archives that are compressed as a whole. For an uncompressed archive use `docker_archive` or
/// `oci_layout`: they read it in place, several layers in parallel, and only layers that the repository lacks.
class archive_file
{
public:
    explicit archive_file(std::string path, std::string name = {})
        : path_(std::move(path)), name_(std::move(name))
    {}
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    std::string path_, name_;
};

/// Whether a file is compressed as a whole and must be read as `archive_file`. *Errors*: errno values, stage source.
OVERMOUNT_LAZY [[nodiscard]] bool is_compressed(const std::string& path);

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/archive.ipp>
#endif

#endif

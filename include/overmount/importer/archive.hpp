#ifndef OVERMOUNT_IMPORTER_ARCHIVE_HPP
#define OVERMOUNT_IMPORTER_ARCHIVE_HPP

#include <overmount/io/byte_stream.hpp>

#include <string>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI {

/// Images of an archive that comes as a stream: of docker's form or an OCI layout, its members in any order,
/// compressed as a whole by gzip, zstd, xz or bzip2, or not. It is read once, in bounded memory; what may be
/// a layer is unpacked as it comes.
class archive_stream
{
public:
    /// \param bytes read to its end
    /// \param name  a tag, or a reference name; all images when empty
    explicit archive_stream(byte_stream bytes, std::string name = {})
        : bytes_(std::move(bytes)), name_(std::move(name))
    {}
    [[nodiscard]] const byte_stream& bytes() const noexcept { return bytes_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    byte_stream bytes_;
    std::string name_;
};

/// The same from a file: for archives that are compressed as a whole. One that is not is better read in
/// place, as `docker_archive` and `oci_layout` do: side by side, and only what is not there yet.
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

/// Whether a file is compressed as a whole, so that it takes an `archive_file`. *Errors*: errno values of stage source.
OVERMOUNT_LAZY [[nodiscard]] bool is_compressed(const std::string& path);

} // namespace overmount::inline OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/archive.ipp>
#endif

#endif

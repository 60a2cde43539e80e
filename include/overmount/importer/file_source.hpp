#ifndef OVERMOUNT_IMPORTER_FILE_SOURCE_HPP
#define OVERMOUNT_IMPORTER_FILE_SOURCE_HPP

#include <overmount/posix/file_range.hpp>
#include <overmount/runtime/step.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// An archive in a file, as the source of an archive reader.
class file_source
{
public:
    explicit file_source(file_range bytes) : bytes_(std::move(bytes)) {}
    void wakes(const std::weak_ptr<step>&) noexcept {} // it never lacks anything
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::span<const std::byte>> front()
    {
        if (front_.empty()) {
            const std::size_t count = bytes_.read(position_, {buffer_.get(), size});
            position_ += count;
            front_ = {buffer_.get(), count};
        }
        return front_;
    }
    void consume(std::size_t count) noexcept { front_ = front_.subspan(count); }

private:
    static constexpr std::size_t size = 256 << 10;
    file_range bytes_;
    std::uint64_t position_ = 0;
    std::unique_ptr<std::byte[]> buffer_ = std::make_unique_for_overwrite<std::byte[]>(size);
    std::span<const std::byte> front_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

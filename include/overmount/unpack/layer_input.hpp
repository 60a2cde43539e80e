#ifndef OVERMOUNT_UNPACK_LAYER_INPUT_HPP
#define OVERMOUNT_UNPACK_LAYER_INPUT_HPP

#include <overmount/posix/file_range.hpp>
#include <overmount/runtime/step.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// The bytes of a layer's blob, as the decode step asks for them: one virtual call a piece.
class layer_input
{
public:
    virtual ~layer_input() = default;
    layer_input(const layer_input&) = delete;
    layer_input& operator=(const layer_input&) = delete;

    // The number of bytes read, 0 at the end; nothing where there are none yet: it is asked again after a `notify` of the step
    // that `set_reader` named. Blocks on the disk alone.
    [[nodiscard]] virtual std::optional<std::size_t> read(std::span<std::byte> into) = 0;
    // Who reads. For inputs that lack bytes at times.
    virtual void set_reader(const std::weak_ptr<step>&) {}

protected:
    layer_input() = default;
};

// A blob in a file, read by offset.
class file_input final : public layer_input
{
public:
    explicit file_input(file_range bytes) : bytes_(std::move(bytes)) {}
    [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) override
    {
        const std::size_t count = bytes_.read(position_, into);
        position_ += count;
        return count;
    }

private:
    file_range bytes_;
    std::uint64_t position_ = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

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

namespace overmount::OVERMOUNT_ABI::detail {

// The input of the decode step: the bytes of a layer's blob, with one virtual call for each piece.
class layer_input
{
public:
    virtual ~layer_input() = default;
    layer_input(const layer_input&) = delete;
    layer_input& operator=(const layer_input&) = delete;

    // Returns the number of bytes read, or 0 at the end. nullopt if no bytes are available yet: the input then notifies the step that
    // `set_reader` named. Blocks only on the disk.
    [[nodiscard]] virtual std::optional<std::size_t> read(std::span<std::byte> into) = 0;
    // Sets the step to notify when bytes become available. Inputs that always have bytes ignore it.
    virtual void set_reader(const std::weak_ptr<step>&) {}

protected:
    layer_input() = default;
};

// The bytes of a blob in a file, read by offset.
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

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

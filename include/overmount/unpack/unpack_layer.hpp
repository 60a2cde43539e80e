#ifndef OVERMOUNT_UNPACK_UNPACK_LAYER_HPP
#define OVERMOUNT_UNPACK_UNPACK_LAYER_HPP

#include <overmount/concepts/importer.hpp>
#include <overmount/concepts/storage_policy.hpp>
#include <overmount/detail/hasher.hpp>
#include <overmount/detail/run_on.hpp>
#include <overmount/unpack/decoder.hpp>

#include <memory>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Reads a layer once, in bounded pieces, and passes the bytes of its tar to `sink`; checks what the manifest
// promised of the blob, and the diff ID. `tick` is called after every piece.
template <class Sink, class Tick>
void read_layer(const found_layer& layer, const limits& bounds, const stop_flag& stop, Sink sink, Tick tick)
{
    constexpr std::size_t piece_size = 256 << 10;
    const auto input = std::make_unique<std::byte[]>(piece_size);
    const auto output = std::make_unique<std::byte[]>(2 * piece_size);
    const std::span<std::byte> room(output.get(), 2 * piece_size);

    std::size_t size = layer.bytes.read(0, {input.get(), piece_size});
    const compression kind = detect_compression({input.get(), size});
    if (layer.promised && *layer.promised != kind)
        throw error(errc::unsupported_media_type)
            .at(stage::decode)
            .detail("it promises " + std::string(to_string(*layer.promised)) + ", the bytes are " +
                    std::string(to_string(kind)));
    decoder decode(kind, bounds);
    hasher diff(layer.diff.value().algorithm());
    std::optional<hasher> blob;
    // An uncompressed blob has one digest, not two.
    if (layer.blob && (kind != compression::none || layer.blob->algorithm() != layer.diff.value().algorithm()))
        blob.emplace(layer.blob->algorithm());

    std::uint64_t position = 0, produced = 0;
    const auto pass = [&](std::span<const std::byte> bytes) {
        produced += bytes.size();
        if (produced > bounds.stream_bytes)
            throw error(errc::layer_too_large).at(stage::decode);
        diff.update(bytes);
        sink(bytes);
        tick(position, produced);
        stop.throw_if_stopped();
    };
    while (size != 0) {
        std::span<const std::byte> rest(input.get(), size);
        position += size;
        if (blob)
            blob->update(rest);
        if (decode.passthrough()) {
            pass(rest);
        } else {
            for (bool full = true; full || !rest.empty();) {
                const auto step = decode.step(rest, room);
                rest = rest.subspan(step.consumed);
                full = step.produced == room.size();
                if (step.produced != 0)
                    pass(room.first(step.produced));
            }
        }
        size = layer.bytes.read(position, {input.get(), piece_size});
    }
    if (!decode.passthrough())
        decode.finish();
    const digest found = diff.finish();
    if ((blob ? blob->finish() : found) != layer.blob.value_or(found))
        throw error(errc::digest_mismatch).at(stage::decode);
    if (found != layer.diff.value())
        throw error(errc::diff_id_mismatch).at(stage::decode).detail("the tar has " + found.string());
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

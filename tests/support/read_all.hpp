// All bytes of a layer's file or tar.
#ifndef OVERMOUNT_TESTS_SUPPORT_READ_ALL_HPP
#define OVERMOUNT_TESTS_SUPPORT_READ_ALL_HPP

#include <overmount/io/asset_stream.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>

namespace overmount::test {

// At most `piece` at a time; throws where there are other than as many as the stream says.
inline boost::asio::awaitable<std::string> read_all(asset_stream stream, std::size_t piece = 777)
{
    std::string out, buffer(piece, '\0');
    for (;;) {
        const auto room = std::as_writable_bytes(std::span(buffer));
        const std::size_t count = co_await stream.read_some(room);
        if (count == 0)
            break;
        out.append(buffer, 0, count);
    }
    if (out.size() != stream.size())
        throw std::runtime_error("there are " + std::to_string(out.size()) + " bytes");
    co_return out;
}

} // namespace overmount::test

#endif

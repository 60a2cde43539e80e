// Boost.Asio as `overmount::asio`, and its coroutine type.
#ifndef OVERMOUNT_RUNTIME_ASIO_HPP
#define OVERMOUNT_RUNTIME_ASIO_HPP

#include <overmount/core/config.hpp>

#include <boost/asio/awaitable.hpp>

namespace overmount::OVERMOUNT_ABI {

namespace asio = boost::asio;

} // namespace overmount::OVERMOUNT_ABI

#endif

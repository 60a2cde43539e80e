// What every operation is made of.
#ifndef OVERMOUNT_RUNTIME_ASIO_HPP
#define OVERMOUNT_RUNTIME_ASIO_HPP

#include <overmount/core/config.hpp>

#include <boost/asio/awaitable.hpp>

namespace overmount::inline OVERMOUNT_ABI {

namespace asio = boost::asio;

} // namespace overmount::inline OVERMOUNT_ABI

#endif

// What every operation is made of.
#ifndef OVERMOUNT_DETAIL_ASIO_HPP
#define OVERMOUNT_DETAIL_ASIO_HPP

#include <overmount/detail/config.hpp>

#include <boost/asio/awaitable.hpp>

namespace overmount::inline OVERMOUNT_ABI {

namespace asio = boost::asio;

} // namespace overmount::inline OVERMOUNT_ABI

#endif

#ifndef OVERMOUNT_TESTS_SUPPORT_ERROR_OF_HPP
#define OVERMOUNT_TESTS_SUPPORT_ERROR_OF_HPP

#include <overmount/core/error.hpp>

namespace overmount::test {

// The error that a call throws, or one without a code.
template <class Function>
error error_of(Function function)
{
    try {
        (void)function();
    } catch (const error& failure) {
        return failure;
    }
    return error(boost::system::error_code());
}

} // namespace overmount::test

#endif

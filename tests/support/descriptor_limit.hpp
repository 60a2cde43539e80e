#ifndef OVERMOUNT_TEST_DESCRIPTOR_LIMIT_HPP
#define OVERMOUNT_TEST_DESCRIPTOR_LIMIT_HPP

#include "support/catch.hpp"

#include <sys/resource.h>

namespace overmount::test {

// How many descriptors the process may have, for as long as this lives.
class descriptor_limit
{
public:
    explicit descriptor_limit(rlim_t soft)
    {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        const rlimit now{soft, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &now) == 0);
    }
    descriptor_limit(const descriptor_limit&) = delete;
    descriptor_limit& operator=(const descriptor_limit&) = delete;
    ~descriptor_limit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
    rlimit before_{};
};

} // namespace overmount::test

#endif

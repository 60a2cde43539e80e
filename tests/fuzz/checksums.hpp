// Makes the checksums of all header blocks right: few changes of a fuzzer would get past them.
#ifndef OVERMOUNT_TESTS_FUZZ_CHECKSUMS_HPP
#define OVERMOUNT_TESTS_FUZZ_CHECKSUMS_HPP

#include "support/tar_writer.hpp"

#include <cstddef>
#include <string>

namespace overmount::test {

// Of each 512 bytes that have a magic where a header has it.
inline std::string with_checksums(const std::uint8_t* data, std::size_t size)
{
    std::string out(reinterpret_cast<const char*>(data), size);
    for (std::size_t at = 0; at + 512 <= size; at += 512) {
        std::string block = out.substr(at, 512);
        if (block.compare(257, 5, "ustar") != 0)
            continue;
        put_checksum(block);
        out.replace(at, 512, block);
    }
    return out;
}

} // namespace overmount::test

#endif

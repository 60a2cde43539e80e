// Numbers of superblocks. The kernel gives a new one the lowest number that is free, and tests run side by side: the number
// of a mount that has gone may be another's at once.
#ifndef OVERMOUNT_TESTS_SUPPORT_DEVICE_NUMBERS_HPP
#define OVERMOUNT_TESTS_SUPPORT_DEVICE_NUMBERS_HPP

#include <overmount/posix/unique_fd.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace overmount::test {

inline std::pair<unique_fd, std::uint64_t> new_superblock()
{
    const unique_fd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
    if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0)
        return {};
    unique_fd made(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
    struct stat status{};
    static_cast<void>(::fstat(made.get(), &status));
    return {std::move(made), status.st_dev};
}

// A number of this process that no other test process on the machine has while it lives: the lowest that is free.
inline std::size_t own_band()
{
    static constexpr std::size_t bands = 8;
    static std::size_t band = bands;
    static const unique_fd held = [] {
        for (band = 0; band < bands; ++band) {
            unique_fd name(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
            sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
            const std::string abstract = "overmount-test-band-" + std::to_string(band);
            abstract.copy(address.sun_path + 1, sizeof(address.sun_path) - 1);
            const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + abstract.size());
            if (::bind(name.get(), reinterpret_cast<const sockaddr*>(&address), length) == 0)
                return name;
        }
        return unique_fd();
    }();
    return band;
}

// Holds low numbers until it is told to let go: what was mounted meanwhile has a higher one, which others do not get as
// long as a low one is free. Two processes that did so alike would get each other's higher ones: each has a band of its
// own, and one at a time holds what is below its band.
class low_device_numbers
{
public:
    low_device_numbers() : turn_(::open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC))
    {
        static_cast<void>(::flock(turn_.get(), LOCK_EX));
        const std::size_t below = 64 + 32 * own_band();
        for (std::size_t i = 0; i < below; ++i)
            held_.push_back(new_superblock().first);
    }
    void let_go()
    {
        held_.clear();
        turn_.reset();
    }

private:
    unique_fd turn_;
    std::vector<unique_fd> held_;
};

// Superblocks until one has the number; they live as long as the result.
inline std::vector<unique_fd> take_device_number(std::uint64_t wanted)
{
    std::vector<unique_fd> out;
    for (int i = 0; i < 1000; ++i) {
        auto [made, number] = new_superblock();
        out.push_back(std::move(made));
        if (number == wanted)
            return out;
    }
    return {};
}

} // namespace overmount::test

#endif

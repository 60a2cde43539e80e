// The calls that make something last or show it, as the process makes them: this file stands in for the C library's functions.
// One file of a program includes it.
#ifndef OVERMOUNT_TESTS_SUPPORT_WATCHED_CALLS_HPP
#define OVERMOUNT_TESTS_SUPPORT_WATCHED_CALLS_HPP

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace overmount::test {

// `fsync PATH`, `syncfs PATH`, `rename PATH`, in their order, of all threads; paths are relative to `top`, where they lie below it.
class watched_calls
{
public:
    explicit watched_calls(const std::filesystem::path& top) : top_(top.string() + "/")
    {
        const std::lock_guard guard(mutex());
        current() = this;
    }
    watched_calls(const watched_calls&) = delete;
    watched_calls& operator=(const watched_calls&) = delete;
    ~watched_calls()
    {
        const std::lock_guard guard(mutex());
        current() = nullptr;
    }

    [[nodiscard]] std::vector<std::string> calls() const
    {
        const std::lock_guard guard(mutex());
        return calls_;
    }
    [[nodiscard]] std::ptrdiff_t count(const std::string& call) const
    {
        const auto all = calls();
        return std::count(all.begin(), all.end(), call);
    }

    static void note(const char* what, int fd, const char* name = nullptr)
    {
        const std::lock_guard guard(mutex());
        if (current() == nullptr)
            return;
        std::error_code none;
        std::string path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), none).string();
        if (name != nullptr)
            path += std::string("/") + name;
        if (path.starts_with(current()->top_))
            path.erase(0, current()->top_.size());
        current()->calls_.push_back(std::string(what) + " " + path);
    }

private:
    static std::mutex& mutex()
    {
        static std::mutex one;
        return one;
    }
    static watched_calls*& current()
    {
        static watched_calls* one = nullptr;
        return one;
    }
    std::string top_;
    std::vector<std::string> calls_;
};

} // namespace overmount::test

extern "C" int fsync(int fd)
{
    overmount::test::watched_calls::note("fsync", fd);
    return static_cast<int>(::syscall(SYS_fsync, fd));
}
extern "C" int syncfs(int fd) noexcept
{
    overmount::test::watched_calls::note("syncfs", fd);
    return static_cast<int>(::syscall(SYS_syncfs, fd));
}
extern "C" int renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) noexcept
{
    overmount::test::watched_calls::note("rename", to, new_name);
    return static_cast<int>(::syscall(SYS_renameat2, from, name, to, new_name, flags));
}
extern "C" int renameat(int from, const char* name, int to, const char* new_name) noexcept
{
    overmount::test::watched_calls::note("rename", to, new_name);
    return static_cast<int>(::syscall(SYS_renameat2, from, name, to, new_name, 0));
}

#endif

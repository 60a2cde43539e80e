// A directory for one test, gone at its end with all that was mounted below it.
#ifndef OVERMOUNT_TESTS_SUPPORT_SCRATCH_HPP
#define OVERMOUNT_TESTS_SUPPORT_SCRATCH_HPP

#include <fcntl.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace overmount::test {

// Runs a program from PATH, quietly, and waits; its exit status, or -1.
inline int run_quietly(std::initializer_list<const char*> words)
{
    std::vector<char*> arguments;
    for (const char* word : words)
        arguments.push_back(const_cast<char*>(word));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    pid_t child = 0;
    const int failed = ::posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed != 0)
        return -1;
    int status = 0;
    while (::waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// What is mounted at `top` and below it, in the order of mounting.
inline std::vector<std::string> mounts_below(const std::filesystem::path& top)
{
    std::vector<std::string> out;
    std::ifstream table("/proc/self/mountinfo");
    for (std::string line; std::getline(table, line);) {
        std::istringstream fields(line);
        std::string field;
        for (int i = 0; i < 5; ++i) // the fifth is the place
            fields >> field;
        std::string place;
        for (std::size_t i = 0; i < field.size(); ++i) { // blanks and the like are \ooo there
            if (field[i] == '\\' && i + 3 < field.size()) {
                place += static_cast<char>(std::stoi(field.substr(i + 1, 3), nullptr, 8));
                i += 3;
            } else {
                place += field[i];
            }
        }
        if (place == top.native() || place.starts_with(top.native() + "/"))
            out.push_back(place);
    }
    return out;
}

// Lies below $OVERMOUNT_SCRATCH, or else where temporary files do.
class scratch_directory
{
public:
    scratch_directory()
    {
        const char* wanted = std::getenv("OVERMOUNT_SCRATCH");
        const std::filesystem::path base =
            wanted != nullptr && *wanted != '\0' ? wanted : std::filesystem::temp_directory_path();
        std::filesystem::create_directories(base);
        std::string name = (std::filesystem::canonical(base) / "overmount-test-XXXXXX").native();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::system_error(errno, std::system_category(), "mkdtemp");
        path_ = name;
    }

    scratch_directory(const scratch_directory&) = delete;
    scratch_directory& operator=(const scratch_directory&) = delete;

    ~scratch_directory()
    {
        // The last mount first: that is the deepest, or the topmost of several at one place.
        const auto mounts = mounts_below(path_);
        for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount)
            ::syscall(SYS_umount2, mount->c_str(), 2 | 8); // MNT_DETACH | UMOUNT_NOFOLLOW
        if (::geteuid() != 0)
            run_quietly({"chmod", "-R", "u+rwX", "--", path_.c_str()});
        // rm knows how to remove a tree of any depth, and stays out of what is mounted still.
        run_quietly({"rm", "-rf", "--one-file-system", "--", path_.c_str()});
    }

    [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }
    [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

} // namespace overmount::test

#endif

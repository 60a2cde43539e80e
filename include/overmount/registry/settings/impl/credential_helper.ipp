#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_CREDENTIAL_HELPER_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_CREDENTIAL_HELPER_IPP

#include <overmount/core/error.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/registry/settings/credential_helper.hpp>
#include <overmount/runtime/operation.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

inline constexpr std::size_t max_helper_output = 64 << 10, max_helper_server = 4096, max_helper_input = 16 << 10;

inline error helper_error(const std::string& name, std::string_view why)
{
    return error(errc::credential_helper_failed)
        .at(stage::source)
        .operation("run")
        .subject("docker-credential-" + name)
        .detail(why);
}

// The path of the helper. Relative directories of $PATH are passed over: the working directory may be somebody else's.
inline std::string find_helper(const std::string& name)
{
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    if (name.empty() || name.find_first_not_of(allowed) != std::string::npos)
        throw helper_error(name, "the name of a helper consists of letters, digits and . _ -");
    const char* variable = std::getenv("PATH");
    std::string_view rest = variable != nullptr ? variable : "";
    while (!rest.empty()) {
        const auto end = std::min(rest.find(':'), rest.size());
        const std::string path = std::string(rest.substr(0, end)) + "/docker-credential-" + name;
        struct stat found;
        if (path.front() == '/' && end > 0 && ::stat(path.c_str(), &found) == 0 && S_ISREG(found.st_mode) &&
            ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0)
            return path;
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    throw helper_error(name, "it is not in PATH");
}

// Both ends of a pipe, above the standard descriptors even if this process has closed those: in the helper they are replaced.
struct helper_pipe
{
    helper_pipe()
    {
        namespace posix = overmount::detail;
        std::array<int, 2> ends;
        posix::checked(::pipe2(ends.data(), O_CLOEXEC), "pipe");
        const unique_fd lower_read(ends[0]), lower_write(ends[1]);
        read.reset(posix::checked(::fcntl(ends[0], F_DUPFD_CLOEXEC, 3), "pipe"));
        write.reset(posix::checked(::fcntl(ends[1], F_DUPFD_CLOEXEC, 3), "pipe"));
    }
    unique_fd read, write;
};

// A running helper. The destructor kills it, and waits for it, unless it has been reaped.
class helper_process
{
public:
    // `input` has to fit into a pipe: it is written before the helper runs, so that neither side waits for the other, and that it
    // does not matter whether the helper reads it.
    helper_process(const std::string& name, const std::string& action, std::string_view input)
    {
        namespace posix = overmount::detail;
        const std::string path = find_helper(name);
        helper_pipe in, out;
        posix::checked(::fcntl(in.write.get(), F_SETFL, O_NONBLOCK), "pipe");
        posix::checked(::fcntl(out.read.get(), F_SETFL, O_NONBLOCK), "pipe");
        posix::write_all(in.write.get(), std::as_bytes(std::span(input)));

        std::array<std::string, 2> words = {path, action};
        std::array<char*, 3> arguments = {words[0].data(), words[1].data(), nullptr};
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        // Those of glibc and musl can only fail if there is no memory, and then the spawn fails as well.
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, in.read.get(), 0);
        ::posix_spawn_file_actions_adddup2(&actions, out.write.get(), 1);
        ::posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        ::posix_spawnattr_init(&attributes);
        ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        ::posix_spawnattr_setpgroup(&attributes, 0);
        ::posix_spawnattr_setsigmask(&attributes, &none);
        ::posix_spawnattr_setsigdefault(&attributes, &all);
        const int failure = ::posix_spawn(&pid_, path.c_str(), &actions, &attributes, arguments.data(), environ);
        ::posix_spawnattr_destroy(&attributes);
        ::posix_spawn_file_actions_destroy(&actions);
        if (failure != 0)
            throw helper_error(name, "it cannot be started: " + boost::system::system_category().message(failure));
        running_ = true;
        output_ = std::move(out.read);
    }
    helper_process(const helper_process&) = delete;
    helper_process& operator=(const helper_process&) = delete;
    ~helper_process()
    {
        if (!running_)
            return;
        send_kill();
        overmount::detail::uninterrupted([this] { return ::waitpid(pid_, nullptr, 0); });
    }

    // A descriptor that is readable while the helper's output is, after its end, and after `limit`. Call it once.
    [[nodiscard]] unique_fd events(std::chrono::milliseconds limit)
    {
        namespace posix = overmount::detail;
        limit = std::max(limit, std::chrono::milliseconds(1)); // 0 would mean never
        itimerspec time{};
        time.it_value.tv_sec = limit.count() / 1000;
        time.it_value.tv_nsec = limit.count() % 1000 * 1'000'000;
        timer_.reset(posix::checked(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC), "timerfd_create"));
        posix::checked(::timerfd_settime(timer_.get(), 0, &time, nullptr), "timerfd_settime");
        end_.reset(posix::checked(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)), "pidfd_open"));
        unique_fd all(posix::checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create"));
        for (const unique_fd* one : {&output_, &timer_, &end_}) {
            epoll_event wanted{};
            wanted.events = EPOLLIN;
            posix::checked(::epoll_ctl(all.get(), EPOLL_CTL_ADD, one->get(), &wanted), "epoll_ctl");
        }
        events_ = all.get();
        return all;
    }

    // Reaps the helper if it has ended. Returns whether it has; then do not call it again.
    bool has_ended()
    {
        int status = 0;
        const pid_t ended = overmount::detail::uninterrupted([&] { return ::waitpid(pid_, &status, WNOHANG); });
        if (ended == 0)
            return false;
        running_ = false; // also if somebody else has reaped it
        if (ended > 0 && WIFEXITED(status))
            exit_code_ = WEXITSTATUS(status);
        return true;
    }
    // Empty while it runs, and if it did not exit by itself.
    [[nodiscard]] std::optional<int> exit_code() const noexcept { return exit_code_; }

    [[nodiscard]] bool is_late() const
    {
        std::uint64_t times = 0;
        return ::read(timer_.get(), &times, sizeof times) > 0;
    }

    // Appends what the helper has written by now. False if that is too much.
    bool read_output(std::string& into)
    {
        std::array<char, 4096> piece;
        while (output_) {
            const ssize_t count =
                overmount::detail::uninterrupted([&] { return ::read(output_.get(), piece.data(), piece.size()); });
            if (count < 0 && errno == EAGAIN)
                break;
            if (count <= 0)
                stop_reading();
            else if (into.append(piece.data(), static_cast<std::size_t>(count)).size() > max_helper_output)
                return false;
        }
        return true;
    }

    // Kills the helper and what it started, unless that left the process group. It has to be reaped still.
    void kill() noexcept
    {
        send_kill();
        stop_reading();
    }

private:
    void send_kill() noexcept
    {
        ::kill(-pid_, SIGKILL);
        ::kill(pid_, SIGKILL); // it may have moved to another group
    }
    // An end of file, or output that nobody reads, would be an event for ever.
    void stop_reading() noexcept
    {
        if (output_)
            ::epoll_ctl(events_, EPOLL_CTL_DEL, output_.get(), nullptr);
        output_.reset();
    }

    pid_t pid_ = -1;
    bool running_ = false;
    std::optional<int> exit_code_;
    unique_fd output_, timer_, end_;
    int events_ = -1; // owned by the caller of events()
};

class helper_answer
{
public:
    helper_answer(int code, std::string text) : exit_code(code), output(std::move(text)) {}
    [[nodiscard]] bool is_not_found() const
    {
        const auto begin = std::min(output.find_first_not_of(" \t\r\n"), output.size());
        return exit_code != 0 && std::string_view(output).substr(begin).starts_with("credentials not found");
    }

    int exit_code;
    std::string output;
};

inline asio::awaitable<helper_answer> wait_for_helper(std::string name, std::string action, std::string input,
                                                      std::chrono::milliseconds limit)
{
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none)
        throw error(asio::error::operation_aborted);
    helper_process process(name, action, input);
    unique_fd owned = process.events(limit);
    asio::posix::stream_descriptor events(co_await asio::this_coro::executor, owned.get());
    [[maybe_unused]] const int owned_by_stream = owned.release();
    std::string output;
    std::exception_ptr failure; // the helper has been killed
    for (;;) {
        const bool ended = process.has_ended(); // before the last read: by now everything is in the pipe
        if (!process.read_output(output) && !failure)
            failure = std::make_exception_ptr(helper_error(name, "it wrote more than 64 KiB"));
        if (ended)
            break;
        if (process.is_late() && !failure)
            failure = std::make_exception_ptr(helper_error(name, "it took longer than its time limit"));
        if (state.cancelled() != asio::cancellation_type::none)
            failure = std::make_exception_ptr(error(asio::error::operation_aborted));
        if (failure)
            process.kill();
        boost::system::error_code ignored; // a cancellation shows in the state
        co_await events.async_wait(asio::posix::stream_descriptor::wait_read,
                                   asio::redirect_error(asio::use_awaitable, ignored));
    }
    if (failure)
        std::rethrow_exception(failure);
    if (!process.exit_code())
        throw helper_error(name, "it did not exit by itself");
    co_return helper_answer(*process.exit_code(), std::move(output));
}

// Runs a helper to its end, which a cancellation only hastens.
inline asio::awaitable<helper_answer> run_helper(std::string name, std::string action, std::string input,
                                                 std::chrono::milliseconds limit)
{
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    co_await asio::this_coro::throw_if_cancelled(false); // the helper has to be reaped after a cancellation
    std::optional<helper_answer> answer;
    std::exception_ptr failure;
    try {
        answer.emplace(co_await wait_for_helper(std::move(name), std::move(action), std::move(input), limit));
    } catch (...) {
        failure = std::current_exception();
    }
    co_await asio::this_coro::throw_if_cancelled(throws);
    if (failure)
        std::rethrow_exception(failure);
    co_return std::move(*answer);
}

inline void check_helper_server(const std::string& name, const std::string& server)
{
    if (server.empty() || server.size() > max_helper_server)
        throw helper_error(name, "the name of the server is empty, or longer than 4096 bytes");
}

// nullopt if the text is not what a helper answers.
inline std::optional<registry_credentials> parse_helper_output(std::string_view text)
{
    const nlohmann::json answer = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
    if (!answer.is_object())
        return std::nullopt;
    const auto user = answer.find("Username"), password = answer.find("Secret");
    if (user == answer.end() || password == answer.end() || !user->is_string() || !password->is_string())
        return std::nullopt;
    try {
        return registry_credentials::password(user->get<std::string>(), password->get<std::string>());
    } catch (const error&) { // a colon in the user, or control characters
        return std::nullopt;
    }
}

inline asio::awaitable<registry_credentials> ask_helper(std::string name, std::string server, std::chrono::milliseconds limit)
{
    check_helper_server(name, server);
    const helper_answer answer = co_await run_helper(name, "get", std::move(server), limit);
    if (answer.is_not_found())
        co_return registry_credentials();
    if (answer.exit_code != 0)
        throw helper_error(name, "it ended with exit status " + std::to_string(answer.exit_code));
    std::optional<registry_credentials> found = parse_helper_output(answer.output);
    if (!found)
        throw helper_error(name, "its answer is not in the form of a helper's");
    co_return std::move(*found);
}

inline asio::awaitable<void> change_helper(std::string name, std::string action, std::string input,
                                           std::chrono::milliseconds limit)
{
    const bool erases = action == "erase";
    const helper_answer answer = co_await run_helper(name, std::move(action), std::move(input), limit);
    if (answer.exit_code != 0 && !(erases && answer.is_not_found()))
        throw helper_error(name, "it ended with exit status " + std::to_string(answer.exit_code));
}

inline asio::awaitable<void> store_login(std::string name, std::string server, std::string user, std::string password,
                                         std::chrono::milliseconds limit)
{
    check_helper_server(name, server);
    std::string input;
    try {
        input = nlohmann::json({{"ServerURL", server}, {"Username", user}, {"Secret", password}}).dump();
    } catch (const nlohmann::json::exception&) { // its text quotes the bytes
    }
    if (input.empty() || input.size() > max_helper_input)
        throw helper_error(name, "the login is not UTF-8, or longer than 16 KiB");
    co_await change_helper(name, "store", std::move(input), limit);
}

inline asio::awaitable<void> erase_login(std::string name, std::string server, std::chrono::milliseconds limit)
{
    check_helper_server(name, server);
    co_await change_helper(name, "erase", std::move(server), limit);
}

} // namespace detail

OVERMOUNT_DECL asio::awaitable<registry_credentials> ask_credential_helper(std::string name, std::string server,
                                                                           std::chrono::milliseconds limit)
{
    return overmount::detail::operation(detail::ask_helper(std::move(name), std::move(server), limit));
}

OVERMOUNT_DECL asio::awaitable<void> store_in_helper(std::string name, std::string server, std::string user,
                                                     std::string password, std::chrono::milliseconds limit)
{
    return overmount::detail::operation(
        detail::store_login(std::move(name), std::move(server), std::move(user), std::move(password), limit));
}

OVERMOUNT_DECL asio::awaitable<void> erase_from_helper(std::string name, std::string server, std::chrono::milliseconds limit)
{
    return overmount::detail::operation(detail::erase_login(std::move(name), std::move(server), limit));
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif

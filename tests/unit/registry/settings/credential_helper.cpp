#include <overmount/registry/settings/credential_helper.hpp>

#include <overmount/core/error.hpp>
#include <overmount/posix/unique_fd.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;
using overmount::errc;
using overmount::registry_credentials;
using overmount::unique_fd;
using overmount::registry::ask_credential_helper;
using overmount::registry::erase_from_helper;
using overmount::registry::store_in_helper;

constexpr const char* answers = R"(printf '{"ServerURL":"h","Username":"me","Secret":"pw"}')";
const registry_credentials me = registry_credentials::password("me", "pw");

// A directory of helpers, which is the first one in PATH. Scripts find it as $HERE.
class helpers
{
public:
    helpers() : path_(std::getenv("PATH"))
    {
        path(scratch_.path().native() + ":" + path_);
        ::setenv("HERE", scratch_.path().c_str(), 1);
    }
    helpers(const helpers&) = delete;
    helpers& operator=(const helpers&) = delete;
    ~helpers() { path(path_); }

    static void path(const std::string& value) { ::setenv("PATH", value.c_str(), 1); }

    [[nodiscard]] fs::path operator/(const std::string& name) const { return scratch_ / name; }
    // Makes `docker-credential-test`.
    void make(const std::string& script, const std::string& interpreter = "/bin/sh", const std::string& name = "test") const
    {
        const fs::path file = scratch_ / ("docker-credential-" + name);
        std::ofstream(file) << "#!" << interpreter << "\n" << script << "\n";
        fs::permissions(file, fs::perms(0755));
    }
    [[nodiscard]] std::string content(const std::string& name) const
    {
        std::ifstream in(scratch_ / name);
        return {std::istreambuf_iterator<char>(in), {}};
    }

private:
    std::string path_;
    overmount::test::scratch_directory scratch_;
};

// A named pipe that a helper opens for writing: it tells whether the helper, and all that it started, has ended.
class lifeline
{
public:
    explicit lifeline(const fs::path& path)
    {
        fs::remove(path);
        REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
        fd_.reset(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    }
    // Whether a helper writes a byte, or closes it, within a minute.
    [[nodiscard]] bool started() const { return read() == 1; }
    [[nodiscard]] bool ended() const { return read() == 0; }

private:
    [[nodiscard]] ssize_t read() const
    {
        pollfd wanted{fd_.get(), POLLIN, 0};
        if (::poll(&wanted, 1, 60'000) != 1)
            return -1;
        char byte = 0;
        return ::read(fd_.get(), &byte, 1);
    }
    unique_fd fd_;
};
// Scripts that hang begin like this: a child inherits the lifeline.
const std::string hangs = "exec 9> $HERE/life; printf x >&9; sleep 1000 & wait";

bool has_no_child()
{
    siginfo_t ended{};
    const bool has_any = ::waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) == 0;
#ifdef __has_feature
#if __has_feature(thread_sanitizer) // has a child of its own, for the names in its reports
    return !has_any || ended.si_pid == 0;
#endif
#endif
    return !has_any && errno == ECHILD;
}

std::size_t all_descriptors()
{
    return static_cast<std::size_t>(std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

registry_credentials ask(std::chrono::milliseconds limit = 60s, const std::string& name = "test", const std::string& server = "h")
{
    return test::get(ask_credential_helper(name, server, limit));
}

// The detail of the error of a helper; empty if there is no such error.
template <class Call>
std::string failure_of(const Call& call, const std::string& name = "test")
{
    try {
        (void)call();
    } catch (const overmount::error& failure) {
        CHECK(std::string(failure.what()).find("s3cret") == std::string::npos);
        CHECK(failure.subject() == "docker-credential-" + name);
        return failure.code() == errc::credential_helper_failed ? failure.detail() : "";
    }
    return "";
}

TEST_CASE("credential helper: it gets the action as its argument and the server on its standard input")
{
    const helpers all;
    all.make(std::string("echo \"$#\" \"$1\" > $HERE/arguments; cat > $HERE/input; ") + answers);
    CHECK(ask(60s, "test", "https://index.docker.io/v1/") == me);
    CHECK(all.content("arguments") == "1 get\n");
    CHECK(all.content("input") == "https://index.docker.io/v1/");
    CHECK(has_no_child());
}

TEST_CASE("credential helper: what it answers becomes credentials")
{
    const helpers all;
    const std::pair<std::string, registry_credentials> rows[] = {
        {R"({"ServerURL":"h","Username":"me","Secret":"pw"})", me},
        {R"({"Username":"<token>","Secret":"id"})", registry_credentials::identity_token("id")},
        {R"({"Username":"me","Secret":"p:w","Other":[{}]})", registry_credentials::password("me", "p:w")},
        {R"({"Username":"","Secret":""})", registry_credentials()},
    };
    for (const auto& [answer, wanted] : rows) {
        INFO(answer);
        all.make("cat << END\n" + answer + "\nEND");
        CHECK(ask() == wanted);
    }
}

TEST_CASE("credential helper: credentials that are not found mean anonymous")
{
    const helpers all;
    for (const std::string script : {"echo credentials not found in native keychain; exit 1",
                                     "printf '\\n credentials not found in native keychain\\n'; exit 2"}) {
        INFO(script);
        all.make(script);
        CHECK_FALSE(ask());
    }
    all.make("echo credentials not found in native keychain >&2; exit 1");
    CHECK(failure_of([] { return ask(); }) == "it ended with exit status 1");
    all.make("echo credentials not found in native keychain");
    CHECK(failure_of([] { return ask(); }) == "its answer is not in the form of a helper's");
}

TEST_CASE("credential helper: any other failure is an error that does not show what it wrote")
{
    const helpers all;
    all.make("echo s3cret; echo s3cret >&2; exit 3");
    CHECK(failure_of([] { return ask(); }) == "it ended with exit status 3");
    all.make(std::string(answers) + "; exit 1");
    CHECK(failure_of([] { return ask(); }) == "it ended with exit status 1");
    all.make(std::string(answers) + "; kill -KILL $$");
    CHECK(failure_of([] { return ask(); }) == "it did not exit by itself");
    CHECK(has_no_child());
}

TEST_CASE("credential helper: an answer of another form is an error that does not show it")
{
    const helpers all;
    for (const std::string answer :
         {"", "s3cret", "\"s3cret\"", R"(["s3cret"])", "{}", R"({"Username":"me"})", R"({"Secret":"s3cret"})",
          R"({"Username":"me","Secret":1})", R"({"Username":null,"Secret":"s3cret"})", R"({"Username":"me","Secret":"s3cret"} x)",
          R"({"Username":"a:b","Secret":"s3cret"})", R"({"Username":"me","Secret":"s3\ncret"})", R"({"Username":"me","Secret":"s3cret)"}) {
        INFO(answer);
        all.make("cat << 'END'\n" + answer + "\nEND");
        CHECK(failure_of([] { return ask(); }) == "its answer is not in the form of a helper's");
    }
    all.make("head -c 60000 /dev/zero | tr '\\0' '['");
    CHECK(failure_of([] { return ask(); }) == "its answer is not in the form of a helper's");
}

TEST_CASE("credential helper: it writes at most 64 KiB")
{
    const helpers all;
    const std::string answer = R"({"Username":"me","Secret":"pw"})";
    const auto script = [&](std::size_t size) {
        return "printf '" + answer + "'; head -c " + std::to_string(size - answer.size()) + " /dev/zero | tr '\\0' ' '";
    };
    all.make(script(65536));
    CHECK(ask() == me);
    all.make(script(65537));
    CHECK(failure_of([] { return ask(); }) == "it wrote more than 64 KiB");
    all.make("exec yes s3cret");
    CHECK(failure_of([] { return ask(); }) == "it wrote more than 64 KiB");
    CHECK(has_no_child());
}

TEST_CASE("credential helper: after its time limit it is killed, with what it started")
{
    const helpers all;
    const lifeline life(all / "life");
    all.make("trap '' TERM INT HUP; " + hangs);
    asio::io_context context;
    std::exception_ptr failure;
    asio::co_spawn(context, ask_credential_helper("test", "h", 300ms),
                   [&](std::exception_ptr why, registry_credentials) { failure = why; });
    context.poll();
    REQUIRE(life.started());
    context.run_for(60s);
    REQUIRE(failure);
    CHECK(failure_of([&] { std::rethrow_exception(failure); return 0; }) == "it took longer than its time limit");
    CHECK(has_no_child());
    CHECK(life.ended());
    CHECK(failure_of([] { return ask(0ms); }) == "it took longer than its time limit");
    CHECK(failure_of([] { return ask(-5s); }) == "it took longer than its time limit");
}

TEST_CASE("credential helper: one that leaves its process group is killed as well")
{
    const helpers all;
    all.make("setpgrp(0, getpgrp(getppid())); sleep 1000;", "/usr/bin/perl");
    CHECK(failure_of([] { return ask(300ms); }) == "it took longer than its time limit");
    CHECK(has_no_child());
}

TEST_CASE("credential helper: one that does not read its input does no harm")
{
    const helpers all;
    all.make(std::string("exec 0<&-; ") + answers);
    CHECK(ask(60s, "test", std::string(4096, 'h')) == me);
    all.make(answers);
    CHECK(ask(60s, "test", std::string(4096, 'h')) == me);
}

TEST_CASE("credential helper: its end counts, not that of its output")
{
    const helpers all;
    all.make(std::string("sleep 1000 & echo $! > $HERE/child; ") + answers);
    CHECK(ask() == me);
    const pid_t child = std::stoi(all.content("child"));
    CHECK(::kill(child, SIGKILL) == 0); // a daemon that a helper started goes on
    all.make(std::string(answers) + "; exec >&-; sleep 0.1");
    CHECK(ask() == me);
    all.make("exec >&-; sleep 0.1; exit 4");
    CHECK(failure_of([] { return ask(); }) == "it ended with exit status 4");
}

TEST_CASE("credential helper: its name is no path")
{
    const helpers all;
    all.make("touch $HERE/ran", "/bin/sh", "x");
    fs::create_directory(all / "docker-credential-");
    fs::copy_file(all / "docker-credential-x", all / "docker-credential-/x");
    for (const std::string name : {"", "/x", "../x", "x/", "x y", "x;y", "x\n", "$x", "\xc3\xbc"}) {
        INFO(name);
        CHECK(failure_of([&] { return ask(60s, name); }, name) == "the name of a helper consists of letters, digits and . _ -");
    }
    CHECK_FALSE(fs::exists(all / "ran"));
    all.make(answers, "/bin/sh", "ecr-login_2.0");
    CHECK(ask(60s, "ecr-login_2.0") == me);
}

TEST_CASE("credential helper: it is looked for in the absolute directories of PATH")
{
    const helpers all;
    const std::string here = (all / ".").lexically_normal().native(), system = ":/usr/bin:/bin";
    fs::create_directories(all / "first/docker-credential-test");
    fs::create_directory(all / "second");
    std::ofstream(all / "second/docker-credential-test") << "not executable";
    all.make(answers);
    helpers::path((all / "first").native() + ":/nonexistent:" + (all / "second").native() + ":" + here + system);
    CHECK(ask() == me);

    const fs::path before = fs::current_path();
    fs::current_path(here);
    for (const std::string path : {"", ":", ".", "./:", "second/..:/usr/bin"}) {
        INFO(path);
        helpers::path(path);
        CHECK(failure_of([] { return ask(); }) == "it is not in PATH");
    }
    fs::current_path(before);
    ::unsetenv("PATH");
    CHECK(failure_of([] { return ask(); }) == "it is not in PATH");

    helpers::path(here);
    all.make("", "/nonexistent/interpreter");
    CHECK(failure_of([] { return ask(); }) == "it cannot be started: No such file or directory");
    CHECK(has_no_child());
}

TEST_CASE("credential helper: the name of the server is bounded")
{
    const helpers all;
    all.make(answers);
    for (const std::string& server : {std::string(), std::string(4097, 'h')}) {
        CHECK(failure_of([&] { return ask(60s, "test", server); }) == "the name of the server is empty, or longer than 4096 bytes");
        CHECK(failure_of([&] { test::get(erase_from_helper("test", server)); return 0; }) ==
              "the name of the server is empty, or longer than 4096 bytes");
    }
}

TEST_CASE("credential helper: it inherits nothing but the environment")
{
    const helpers all;
    const unique_fd ours(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    struct sigaction ignore{}, hang_up{}, broken_pipe{};
    ignore.sa_handler = SIG_IGN;
    sigset_t blocked, before;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGTERM);
    ::sigaction(SIGHUP, &ignore, &hang_up);
    ::sigaction(SIGPIPE, &ignore, &broken_pipe);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
    all.make(std::string("readlink /proc/$$/fd/* > $HERE/descriptors\n"
                         "grep -E '^Sig(Blk|Ign)' /proc/$$/status | cut -f2 > $HERE/signals\n"
                         "cut -d' ' -f5 /proc/$$/stat > $HERE/group; echo $$ > $HERE/pid\n") +
             answers);
    CHECK(ask() == me);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::sigaction(SIGHUP, &hang_up, nullptr);
    ::sigaction(SIGPIPE, &broken_pipe, nullptr);

    const std::string descriptors = all.content("descriptors");
    CHECK(descriptors.find("/dev/null\n") != std::string::npos);
    CHECK(descriptors.find("/dev/zero") == std::string::npos);
    CHECK(descriptors.find("anon_inode") == std::string::npos); // of the library and of Asio
    std::istringstream signals(all.content("signals"));
    std::uint64_t blocked_there = 1, ignored_there = 1;
    signals >> std::hex >> blocked_there >> ignored_there;
    CHECK(blocked_there == 0);
    CHECK((ignored_there & 0x7fffffff) == 0); // glibc keeps two real-time signals to itself
    CHECK(all.content("group") == all.content("pid"));
    CHECK_FALSE(all.content("pid").empty());
}

TEST_CASE("credential helper: the executor's thread does other work in the meantime")
{
    const helpers all;
    const fs::path go = all / "go";
    REQUIRE(::mkfifo(go.c_str(), 0600) == 0);
    all.make(std::string("read line < $HERE/go; ") + answers);
    asio::io_context context;
    std::optional<registry_credentials> found;
    asio::co_spawn(context, ask_credential_helper("test", "h", 60s), [&](std::exception_ptr, registry_credentials got) { found = got; });
    context.poll();
    CHECK_FALSE(found);
    asio::post(context, [&go] { std::ofstream(go) << "on\n"; });
    context.run_for(60s);
    REQUIRE(found);
    CHECK(*found == me);
}

TEST_CASE("credential helper: a process without standard descriptors can run it")
{
    const helpers all;
    all.make(std::string("cat > $HERE/input; echo s3cret >&2; ") + answers);
    const pid_t child = ::fork();
    if (child == 0) {
        ::close(0);
        ::close(1);
        ::close(2);
        int code = 1;
        try {
            code = ask() == me ? 0 : 2;
        } catch (...) {
        }
        ::_exit(code);
    }
    int status = -1;
    CHECK(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(all.content("input") == "h");
}

// What a cancelled operation ended with, and whether its caller would still be told of the cancellation.
class outcome
{
public:
    std::optional<boost::system::error_code> code;
    bool caller_is_told = false;
};

asio::awaitable<void> ask_and_see(std::shared_ptr<outcome> out)
{
    co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
    try {
        (void)co_await ask_credential_helper("test", "h", 1h);
    } catch (const overmount::error& failure) {
        out->code = failure.code();
    }
    const bool throws = co_await asio::this_coro::throw_if_cancelled();
    const auto state = co_await asio::this_coro::cancellation_state;
    out->caller_is_told = throws && state.cancelled() != asio::cancellation_type::none;
}

// Goes on after a cancellation, as cleanups do.
asio::awaitable<void> ask_when_cancelled(std::shared_ptr<outcome> out)
{
    co_await asio::this_coro::throw_if_cancelled(false);
    const auto state = co_await asio::this_coro::cancellation_state;
    while (state.cancelled() == asio::cancellation_type::none) // the signal comes through the executor's queue
        co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    try {
        (void)co_await ask_credential_helper("test", "h", 1h);
    } catch (const overmount::error& failure) {
        out->code = failure.code();
    }
}

TEST_CASE("credential helper: a cancellation of any type kills and reaps it")
{
    const helpers all;
    all.make(hangs);
    for (const auto type :
         {asio::cancellation_type::terminal, asio::cancellation_type::partial, asio::cancellation_type::total}) {
        const lifeline life(all / "life");
        const auto out = std::make_shared<outcome>();
        asio::io_context context;
        asio::cancellation_signal signal;
        asio::co_spawn(context, ask_and_see(out), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
        context.poll();
        REQUIRE(life.started());
        CHECK_FALSE(out->code);
        signal.emit(type);
        signal.emit(type); // a second one does not end the wait for its end
        context.run_for(60s);
        CHECK(out->code == asio::error::operation_aborted);
        CHECK(out->caller_is_told);
        CHECK(has_no_child());
        CHECK(life.ended());
    }
}

TEST_CASE("credential helper: an operation that was cancelled before does not start it")
{
    const helpers all;
    all.make("touch $HERE/ran; " + hangs);
    const auto out = std::make_shared<outcome>();
    asio::io_context context;
    asio::cancellation_signal signal;
    asio::co_spawn(context, ask_when_cancelled(out), asio::bind_cancellation_slot(signal.slot(), [](std::exception_ptr) {}));
    context.run_one();
    signal.emit(asio::cancellation_type::terminal);
    context.run_for(60s);
    CHECK(out->code == asio::error::operation_aborted);
    CHECK_FALSE(fs::exists(all / "ran"));
}

TEST_CASE("credential helper: the end of the execution context kills and reaps it")
{
    const helpers all;
    const lifeline life(all / "life");
    all.make(hangs);
    {
        asio::io_context context;
        asio::co_spawn(context, ask_credential_helper("test", "h", 1h), [](std::exception_ptr, registry_credentials) {});
        context.poll();
        REQUIRE(life.started());
    }
    CHECK(has_no_child());
    CHECK(life.ended());
}

TEST_CASE("credential helper: no descriptor stays open, however it ends")
{
    const helpers all;
    const std::string scripts[] = {answers, "exit 1", "exec yes", "exec sleep 1000", "kill -KILL $$"};
    std::optional<std::size_t> before; // of the second round: the first may load things
    for (int round = 0; round < 3; ++round) {
        for (const std::string& script : scripts) {
            all.make(script);
            try {
                (void)ask(300ms);
            } catch (const overmount::error&) {
            }
        }
        try {
            (void)ask(60s, "missing");
        } catch (const overmount::error&) {
        }
        const std::size_t now = all_descriptors();
        CHECK(before.value_or(now) == now);
        before = now;
    }
    CHECK(has_no_child());
}

TEST_CASE("credential helper: a login is stored as JSON")
{
    const helpers all;
    all.make("echo $1 > $HERE/action; cat > $HERE/input");
    test::get(store_in_helper("test", "https://index.docker.io/v1/", "me", "p\"w"));
    CHECK(all.content("action") == "store\n");
    CHECK(all.content("input") == R"({"Secret":"p\"w","ServerURL":"https://index.docker.io/v1/","Username":"me"})");
    const auto failure_with = [](const std::string& password) {
        return failure_of([&] { test::get(store_in_helper("test", "h", "me", password)); return 0; });
    };
    CHECK(failure_with("\xff s3cret") == "the login is not UTF-8, or longer than 16 KiB");
    CHECK(failure_with(std::string(16 << 10, 's')) == "the login is not UTF-8, or longer than 16 KiB");
    test::get(store_in_helper("test", "h", "me", std::string(16'000, 's'))); // it fits into a pipe
    all.make("echo s3cret; exit 1");
    CHECK(failure_with("pw") == "it ended with exit status 1");
}

TEST_CASE("credential helper: a login is erased, or was not there")
{
    const helpers all;
    all.make("echo $1 > $HERE/action; cat > $HERE/input");
    test::get(erase_from_helper("test", "h"));
    CHECK(all.content("action") == "erase\n");
    CHECK(all.content("input") == "h");
    all.make("echo credentials not found in native keychain; exit 1");
    CHECK_NOTHROW(test::get(erase_from_helper("test", "h")));
    CHECK_THROWS_AS(test::get(store_in_helper("test", "h", "me", "pw")), overmount::error);
    all.make("echo s3cret; exit 1");
    CHECK(failure_of([] { test::get(erase_from_helper("test", "h")); return 0; }) == "it ended with exit status 1");
}

} // namespace

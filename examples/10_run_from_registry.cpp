// Pulls an image from a registry, mounts it writable at a temporary directory, runs a command in it, unmounts it, and returns the
// command's status. Without a command, the image's own is run. The command runs as the user of this program, and sees the processes
// and the network of the machine: this is no container.
//   10_run_from_registry [--plain-http] REPOSITORY IMAGE [COMMAND...]
#include <overmount/overmount.hpp>
#include <overmount/registry.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>

namespace asio = boost::asio;

struct temporary_directory
{
    std::string path = (std::filesystem::temp_directory_path() / "run.XXXXXX").string();

    temporary_directory()
    {
        if (::mkdtemp(path.data()) == nullptr)
            throw overmount::error::from_errno(errno).subject(path);
    }
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory() { ::rmdir(path.c_str()); } // and nothing that is in it
};

std::vector<char*> pointers_to(std::vector<std::string>& words)
{
    std::vector<char*> out;
    for (std::string& word : words)
        out.push_back(word.data());
    out.push_back(nullptr);
    return out;
}

// Runs a command below `root`. \param child its process while it runs, else 0
asio::awaitable<int> run_in(std::string root, overmount::image_config config, std::vector<std::string> words, pid_t* child)
{
    std::vector<std::string> variables = config.environment();
    const std::vector<char*> arguments = pointers_to(words), environment = pointers_to(variables);
    const std::string directory = config.working_directory().empty() ? "/" : config.working_directory();
    asio::signal_set ended(co_await asio::this_coro::executor, SIGCHLD); // before there is a child
    *child = ::fork();
    if (*child == 0) {
        if (::chroot(root.c_str()) == 0 && ::chdir(directory.c_str()) == 0) {
            environ = const_cast<char**>(environment.data());
            ::execvp(arguments[0], arguments.data());
        }
        std::perror(arguments[0]);
        ::_exit(127);
    }
    if (*child < 0)
        throw overmount::error::from_errno(errno).operation("fork");
    int status = 0;
    while (::waitpid(*child, &status, WNOHANG) == 0)
        co_await ended.async_wait(asio::use_awaitable);
    *child = 0;
    co_return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

asio::awaitable<int> run(std::string base, std::string name, std::vector<std::string> words, overmount::registry_options how, pid_t* child)
{
    const overmount::registry_image source(name, how);
    const auto repository = co_await overmount::repository::open(base);
    const auto image = co_await repository.import_image(source);
    if (words.empty()) {
        words = image.config().entrypoint();
        words.insert(words.end(), image.config().command().begin(), image.config().command().end());
    }
    if (words.empty())
        throw std::runtime_error("the image has no command of its own: name one");

    const temporary_directory place; // goes after the mount
    auto root = co_await image.mount(overmount::mount_options().target(place.path).writable(true));
    int status = 1;
    std::exception_ptr failure;
    try {
        status = co_await run_in(root.target(), image.config(), words, child);
    } catch (...) {
        failure = std::current_exception(); // there is no co_await in a handler
    }
    // What is mounted is unmounted, also after a cancellation.
    co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
    co_await root.unmount(); // its destructor would keep what the command wrote
    if (failure)
        std::rethrow_exception(failure);
    co_return status;
}

int main(int argc, char** argv)
{
    std::vector<std::string> words(argv + 1, argv + argc);
    overmount::registry_options how;
    if (!words.empty() && words[0] == "--plain-http") {
        how.tls(overmount::registry::tls_mode::plain);
        words.erase(words.begin());
    }
    if (words.size() < 2) {
        std::cerr << "usage: 10_run_from_registry [--plain-http] REPOSITORY IMAGE [COMMAND...]\n";
        return 2;
    }
    asio::io_context context;
    asio::cancellation_signal stop;
    pid_t child = 0;
    // A pull is cancelled by SIGINT and SIGTERM. A command gets SIGTERM from us; SIGINT a terminal sends to both.
    asio::signal_set signals(context, SIGINT, SIGTERM);
    std::function<void(boost::system::error_code, int)> on_signal = [&](boost::system::error_code failed, int number) {
        if (failed)
            return;
        if (child == 0)
            stop.emit(asio::cancellation_type::terminal);
        else if (number == SIGTERM)
            ::kill(child, SIGTERM);
        signals.async_wait(on_signal);
    };
    signals.async_wait(on_signal);
    int status = 1;
    std::exception_ptr failure;
    const auto ended = [&](std::exception_ptr why, int returned) {
        failure = why;
        status = returned;
        signals.cancel();
    };
    asio::co_spawn(context, run(words[0], words[1], {words.begin() + 2, words.end()}, how, &child),
                   asio::bind_cancellation_slot(stop.slot(), ended));
    context.run();
    try {
        if (failure)
            std::rethrow_exception(failure);
        return status;
    } catch (const std::exception& problem) {
        std::cerr << problem.what() << '\n';
        return 1;
    }
}

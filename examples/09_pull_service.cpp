// Pulls images from registries into one repository, all at the same time, and prints a table of them. They share one budget of worker
// threads and streams, and the connections. Each has a time limit of its own, after which it alone is cancelled, and the failure of one
// does not end the others. SIGINT or SIGTERM cancels all of them. The exit status is 1 if any of them failed.
//   09_pull_service [--plain-http] [--limit SECONDS] REPOSITORY IMAGE...
// An option holds for the images that come after it. The limit is five minutes otherwise.
#include <overmount/overmount.hpp>
#include <overmount/registry.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <list>

namespace asio = boost::asio;

struct pull
{
    pull(std::string what, std::chrono::seconds longest, overmount::registry_options with)
        : name(std::move(what)), limit(longest), how(std::move(with))
    {
    }
    std::string name;
    std::chrono::seconds limit;
    overmount::registry_options how;
    std::atomic<std::uint64_t> bytes = 0; // counted on worker threads
    std::chrono::duration<double> took{};
    overmount::image image; // empty if it failed
    std::string failure;
};

// Pulls one image. It keeps a failure: one that left this coroutine would cancel the other pulls of the group.
asio::awaitable<void> run_one(overmount::repository repository, pull* one)
{
    const auto begin = std::chrono::steady_clock::now();
    try {
        overmount::import_options options; // has a name: GCC 12 destroys a closure inside a co_await expression twice
        options.progress([one](const overmount::layer_progress& at) { one->bytes += at.piece(); });
        overmount::task_group alone; // a group of one, for its time limit
        alone.add(repository.import_image(overmount::registry_image(one->name, one->how), options), one->image);
        co_await alone.join(one->limit);
    } catch (const std::exception& failure) {
        one->failure = failure.what(); // one line
    }
    one->took = std::chrono::steady_clock::now() - begin;
}

asio::awaitable<void> run_all(std::string base, std::list<pull>* pulls)
{
    overmount::repository_options budget;
    budget.workers(4).streams(8); // of all pulls together
    const auto repository = co_await overmount::repository::open(base, budget);
    overmount::task_group group;
    for (pull& one : *pulls)
        group.add(run_one(repository, &one));
    co_await group.join();
}

// Returns whether all images came.
bool print(const std::list<pull>& pulls)
{
    std::size_t width = 5;
    for (const pull& one : pulls)
        width = std::max(width, one.name.size());
    bool all = true;
    std::printf("%-*s %11s %8s %7s  RESULT\n", static_cast<int>(width), "IMAGE", "BYTES", "SECONDS", "MB/S");
    for (const pull& one : pulls) {
        const double bytes = static_cast<double>(one.bytes), seconds = one.took.count();
        std::printf("%-*s %11.0f %8.2f %7.1f  %s\n", static_cast<int>(width), one.name.c_str(), bytes, seconds,
                    bytes / seconds / 1e6, one.image ? one.image.id().string().c_str() : one.failure.c_str());
        all = all && one.image;
    }
    return all;
}

int main(int argc, char** argv)
{
    std::string base;
    std::list<pull> pulls; // a list: atomics cannot be moved
    std::chrono::seconds limit = std::chrono::minutes(5);
    overmount::registry_options how;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--plain-http")
            how.tls(overmount::registry::tls_mode::plain);
        else if (word == "--limit" && i + 1 < argc)
            limit = std::chrono::seconds(std::atoi(argv[++i]));
        else if (base.empty())
            base = word;
        else
            pulls.emplace_back(word, limit, how);
    }
    if (pulls.empty()) {
        std::cerr << "usage: 09_pull_service [--plain-http] [--limit SECONDS] REPOSITORY IMAGE...\n";
        return 2;
    }
    asio::io_context context;
    asio::cancellation_signal stop;
    asio::signal_set signals(context, SIGINT, SIGTERM);
    signals.async_wait([&](boost::system::error_code failed, int) {
        if (!failed)
            stop.emit(asio::cancellation_type::terminal);
    });
    std::exception_ptr failure;
    asio::co_spawn(context, run_all(base, &pulls), asio::bind_cancellation_slot(stop.slot(), [&](std::exception_ptr ended) {
        failure = ended;
        signals.cancel();
    }));
    context.run();
    try {
        if (failure)
            std::rethrow_exception(failure);
    } catch (const std::exception& problem) {
        std::cerr << problem.what() << '\n';
        return 1;
    }
    return print(pulls) ? 0 : 1;
}

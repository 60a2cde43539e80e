// Imports two archives at the same time. Layers that both have are unpacked once.
//   03_two_imports REPOSITORY ARCHIVE ARCHIVE
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>

namespace asio = boost::asio;

asio::awaitable<void> import_one(overmount::repository repository, std::string archive)
{
    overmount::docker_archive source(archive);
    overmount::import_options options; // has a name: GCC 12 destroys a closure inside a co_await expression twice
    options.progress([archive](const overmount::layer_progress& at) {
        if (at.read() == at.size())
            std::cout << archive + ": has read " + at.layer() + '\n';
    });
    const auto images = co_await repository.import_images(source, options);
    std::cout << archive + ": " + std::to_string(images.size()) + " image\n";
}

asio::awaitable<void> run(std::filesystem::path base, std::string first, std::string second, int* failures)
{
    auto repository = co_await overmount::repository::open(base);
    const auto report = [failures](std::exception_ptr failure) {
        try {
            if (failure)
                std::rethrow_exception(failure);
        } catch (const overmount::error& problem) {
            ++*failures;
            std::cerr << problem.what() << '\n';
        }
    };
    const auto executor = co_await asio::this_coro::executor;
    asio::co_spawn(executor, import_one(repository, first), report);
    asio::co_spawn(executor, import_one(repository, second), report);
}

int main(int argc, char** argv)
{
    if (argc != 4) {
        std::cerr << "usage: 03_two_imports REPOSITORY ARCHIVE ARCHIVE\n";
        return 2;
    }
    int failures = 0;
    asio::io_context context;
    asio::co_spawn(context, run(argv[1], argv[2], argv[3], &failures), [&failures](std::exception_ptr failure) {
        failures += failure != nullptr;
    });
    context.run();
    return failures == 0 ? 0 : 1;
}

// Imports images from a server with a custom protocol; see socket_importer.hpp. Layers are fetched in parallel, and unpacked while
// their bytes arrive.
//   07_own_importer REPOSITORY PORT
#include "socket_importer.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>

namespace asio = boost::asio;

asio::awaitable<void> run(std::filesystem::path base, std::string port)
{
    auto repository = co_await overmount::repository::open(base);
    asio::ip::tcp::resolver resolver(co_await asio::this_coro::executor);
    const auto found = co_await resolver.async_resolve("127.0.0.1", port, asio::use_awaitable);
    socket_importer source(found.begin()->endpoint());
    for (const auto& image : co_await repository.import_images(source))
        std::cout << "imported " << image.id().string() << '\n';
}

int main(int argc, char** argv)
{
    if (argc != 3) {
        std::cerr << "usage: 07_own_importer REPOSITORY PORT\n";
        return 2;
    }
    asio::io_context context;
    std::exception_ptr failure;
    asio::co_spawn(context, run(argv[1], argv[2]), [&failure](std::exception_ptr ended) { failure = ended; });
    context.run();
    try {
        if (failure)
            std::rethrow_exception(failure);
    } catch (const std::exception& problem) {
        std::cerr << problem.what() << '\n';
        return 1;
    }
}

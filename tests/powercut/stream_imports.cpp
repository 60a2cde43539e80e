// Imports archives from pipes into one repository, all at once, and says of each whether it was done.
//   stream_imports REPOSITORY PIPE...
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <fcntl.h>

#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace asio = boost::asio;
namespace om = overmount;

namespace {

asio::awaitable<void> import_one(om::repository repository, std::string pipe)
{
    try {
        asio::posix::stream_descriptor source(co_await asio::this_coro::executor,
                                              ::open(pipe.c_str(), O_RDONLY | O_CLOEXEC));
        om::archive_stream archive(om::byte_stream(std::move(source)));
        const auto images = co_await repository.import_images(std::move(archive), om::import_options());
        for (const auto& image : images)
            std::cout << pipe << ' ' << image.id().string() << std::endl;
    } catch (const std::exception& problem) {
        std::cout << pipe << " failed: " << problem.what() << std::endl;
    }
}

asio::awaitable<void> import_all(std::string directory, std::vector<std::string> pipes)
{
    om::repository repository = co_await om::repository::open(directory, om::repository_options());
    for (std::string& pipe : pipes)
        asio::co_spawn(co_await asio::this_coro::executor, import_one(repository, std::move(pipe)), asio::detached);
}

} // namespace

int main(int argc, char** argv)
{
    asio::io_context context(1);
    asio::co_spawn(context, import_all(argv[1], {argv + 2, argv + argc}), [](std::exception_ptr failure) {
        if (failure)
            std::rethrow_exception(failure);
    });
    context.run();
}

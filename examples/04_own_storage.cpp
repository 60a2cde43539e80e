// Imports an image into a repository with a custom storage policy, and prints the stored layers.
//   04_own_storage REPOSITORY ARCHIVE
#include "tar_storage.hpp"

#include <overmount/overmount.hpp>
#include <overmount/own_policies.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>

namespace asio = boost::asio;

// A tar cannot be mounted: `image.mount()` does not compile, since tar_storage is not a mountable_storage.
using repository = overmount::basic_repository<tar_storage, overmount::no_mount>;

asio::awaitable<void> run(std::filesystem::path base, std::string archive)
{
    auto opened = co_await repository::open(base);
    overmount::docker_archive source(archive);
    const auto image = co_await opened.import_image(source);
    for (const auto& layer : image.layers()) {
        const auto record = layer.record();
        std::cout << layer.diff() << ": " << record.entries << " entries, " << record.bytes << " bytes\n";
    }
}

int main(int argc, char** argv)
{
    if (argc != 3) {
        std::cerr << "usage: 04_own_storage REPOSITORY ARCHIVE\n";
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

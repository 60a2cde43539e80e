// Imports a docker archive, and lists the tags of the repository.
//   01_import_and_list REPOSITORY ARCHIVE
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>

namespace asio = boost::asio;

asio::awaitable<void> run(std::filesystem::path base, std::string archive)
{
    auto repository = co_await overmount::repository::open(base);
    // The source has a name: GCC 12 destroys some temporaries in a co_await expression twice.
    overmount::docker_archive source(archive);
    for (const auto& image : co_await repository.import_images(source))
        std::cout << "imported " << image.id().string() << '\n';
    for (const auto& tag : repository.tags())
        std::cout << tag.name << " is " << tag.image.string() << '\n';
}

int main(int argc, char** argv)
{
    if (argc != 3) {
        std::cerr << "usage: 01_import_and_list REPOSITORY ARCHIVE\n";
        return 2;
    }
    asio::io_context context;
    std::exception_ptr failure;
    asio::co_spawn(context, run(argv[1], argv[2]), [&failure](std::exception_ptr ended) { failure = ended; });
    context.run();
    try {
        if (failure)
            std::rethrow_exception(failure);
    } catch (const overmount::error& problem) {
        std::cerr << problem.what() << '\n';
        return 1;
    }
}

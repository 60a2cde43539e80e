// Imports an image into a virtual repository, which keeps layers as tars. Prints one file of the image, and lists all its files with
// the layers that they come from. Needs no root, and unpacks nothing.
//   05_read_without_unpacking REPOSITORY ARCHIVE PATH
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <iostream>

namespace asio = boost::asio;

asio::awaitable<void> run(std::filesystem::path base, std::string archive, std::string path)
{
    auto repository = co_await overmount::virtual_repository::open(base);
    overmount::docker_archive source(archive);
    const auto image = co_await repository.import_image(source);
    auto file = co_await image.open(path); // from the merged view: whiteouts and links work as in a mount
    std::vector<std::byte> buffer(65536);
    const std::span<std::byte> room(buffer);
    while (const std::size_t count = co_await file.read_some(room))
        std::cout.write(reinterpret_cast<const char*>(buffer.data()), static_cast<std::streamsize>(count));

    auto visitor = [](const overmount::tar::entry& entry, const auto& layer) {
        std::cout << layer << ' ' << entry.path << '\n';
    };
    co_await image.files(visitor);
    for (const auto& layer : image.layers())
        co_await layer.verify(); // the bytes are those that were imported
}

int main(int argc, char** argv)
{
    if (argc != 4) {
        std::cerr << "usage: 05_read_without_unpacking REPOSITORY ARCHIVE PATH\n";
        return 2;
    }
    asio::io_context context;
    std::exception_ptr failure;
    asio::co_spawn(context, run(argv[1], argv[2], argv[3]), [&failure](std::exception_ptr ended) { failure = ended; });
    context.run();
    try {
        if (failure)
            std::rethrow_exception(failure);
    } catch (const std::exception& problem) {
        std::cerr << problem.what() << '\n';
        return 1;
    }
}

// Mounts an image that was imported before, and prints one of its files.
//   02_mount_and_read REPOSITORY IMAGE PATH
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <fstream>
#include <iostream>

namespace asio = boost::asio;

asio::awaitable<void> run(std::filesystem::path base, std::string name, std::string path)
{
    auto repository = co_await overmount::repository::open(base);
    auto image = repository.find_image(name);
    auto root = co_await image.mount(); // read-only
    std::ifstream file(root.target() + "/" + path, std::ios::binary);
    if (!file)
        throw std::runtime_error("the image has no " + path);
    if (file.peek() != std::ifstream::traits_type::eof()) // inserting an empty file would set failbit
        std::cout << file.rdbuf();
    file.close(); // an open file would keep the mount busy
    co_await root.unmount();
}

int main(int argc, char** argv)
{
    if (argc != 4) {
        std::cerr << "usage: 02_mount_and_read REPOSITORY IMAGE PATH\n";
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

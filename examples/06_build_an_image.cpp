// Builds an image from another one: mounts it writable, changes files, commits, and exports the result.
//   06_build_an_image REPOSITORY BASE NAME DIRECTORY
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <filesystem>
#include <fstream>
#include <iostream>

namespace asio = boost::asio;
namespace fs = std::filesystem;

asio::awaitable<void> run(fs::path base, std::string from, std::string name, std::string directory)
{
    auto repository = co_await overmount::repository::open(base);
    auto image = repository.find_image(from);
    auto root = co_await image.mount(overmount::mount_options().writable(true));

    // Any program may write below the mount point: a package manager in a chroot, a compiler, or this one.
    const fs::path top = root.target();
    fs::create_directories(top / "srv/www");
    std::ofstream(top / "srv/www/index.html") << "<p>Hello.</p>\n";
    fs::remove_all(top / "tmp");

    overmount::commit_options options;
    options.tag(name).created_by("06_build_an_image").message("a page to serve");
    options.edit([](overmount::image_config_edit& config) {
        config.working_directory("/srv/www").label("org.opencontainers.image.title", "hello");
    });
    auto made = co_await root.commit(std::move(options));
    co_await root.unmount();

    overmount::oci_layout_target target(directory);
    co_await made.export_to(std::move(target));
    std::cout << made.id().string() << ": " << made.layers().size() << " layers\n";
}

int main(int argc, char** argv)
{
    if (argc != 5) {
        std::cerr << "usage: 06_build_an_image REPOSITORY BASE NAME DIRECTORY\n";
        return 2;
    }
    asio::io_context context;
    std::exception_ptr failure;
    asio::co_spawn(context, run(argv[1], argv[2], argv[3], argv[4]),
                   [&failure](std::exception_ptr ended) { failure = ended; });
    context.run();
    try {
        if (failure)
            std::rethrow_exception(failure);
    } catch (const std::exception& problem) {
        std::cerr << problem.what() << '\n';
        return 1;
    }
}

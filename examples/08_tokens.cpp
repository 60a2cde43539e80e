// A program without coroutines of its own: it gets the results of operations by futures and callbacks. Two imports run as a group;
// the first failure, or a time limit of a minute, ends both.
//   08_tokens REPOSITORY ARCHIVE ARCHIVE
#include <overmount/overmount.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_future.hpp>

#include <iostream>

namespace asio = boost::asio;

void import_both(asio::thread_pool& context, const overmount::repository& repository, std::string one, std::string other)
{
    overmount::task_group group;
    overmount::image first, second;
    group.add(repository.import_image(overmount::docker_archive(one)), first);
    group.add(repository.import_image(overmount::docker_archive(other)), second);
    asio::co_spawn(context, group.join(std::chrono::minutes(1)), asio::use_future).get();
    std::cout << "imported " << first << " and " << second << '\n';
}

int main(int argc, char** argv)
{
    if (argc != 4) {
        std::cerr << "usage: 08_tokens REPOSITORY ARCHIVE ARCHIVE\n";
        return 2;
    }
    asio::thread_pool context(1);
    try {
        const auto repository = asio::co_spawn(context, overmount::repository::open(argv[1]), asio::use_future).get();
        import_both(context, repository, argv[2], argv[3]);

        // If the check fails, the callback gets an exception and an empty report.
        asio::co_spawn(context, repository.check(), [](std::exception_ptr failure, const overmount::check_report& report) {
            if (!failure)
                std::cout << report.layers << " layers, " << report.findings.size() << " findings\n";
        });
        context.join();
    } catch (const std::exception& problem) {
        std::cerr << problem.what() << '\n';
        return 1;
    }
}

// What cannot write images is no target to export to.
// expect: satisf[^\n]*exporter
#include <overmount/repository.hpp>

struct target
{
    target();
#ifndef REJECT
    boost::asio::awaitable<void> write(std::vector<overmount::offered_image> images,
                                       overmount::export_context context) const;
#endif
};

auto use(const overmount::repository& repository)
{
    return repository.export_images(repository.images(), target());
}

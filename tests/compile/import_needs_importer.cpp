// What cannot discover images is no source to import from.
// expect: satisf[^\n]*importer
#include <overmount/repository.hpp>

struct source
{
    source();
#ifndef REJECT
    boost::asio::awaitable<std::vector<overmount::found_image>> discover(overmount::import_context context) const;
#endif
};

auto use(const overmount::repository& repository)
{
    return repository.import_image(source());
}

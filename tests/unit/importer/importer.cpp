#include <overmount/importer/importer.hpp>

#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/oci_layout.hpp>

#include "support/catch.hpp"

using namespace overmount;
using boost::asio::awaitable;

namespace {

struct exemplar
{
    explicit exemplar(std::string path);
    awaitable<std::vector<found_image>> discover(import_context context) const;
};

// Each type is named after the requirement of the concept that it does not meet.
struct uncopied : exemplar
{
    uncopied(uncopied&&) = default;
    uncopied& operator=(uncopied&&) = default;
};
struct aggregate
{
    awaitable<std::vector<found_image>> discover(import_context context) const;
};
struct discovers_at_once : exemplar
{
    using exemplar::exemplar;
    std::vector<found_image> discover(import_context context) const;
};
struct one_image : exemplar
{
    using exemplar::exemplar;
    awaitable<found_image> discover(import_context context) const;
};
struct changing_discover : exemplar
{
    using exemplar::exemplar;
    awaitable<std::vector<found_image>> discover(import_context context);
};
struct borrows_context : exemplar
{
    using exemplar::exemplar;
    awaitable<std::vector<found_image>> discover(import_context& context) const;
};

} // namespace

TEST_CASE("a type that finds images in a source is an importer")
{
    STATIC_REQUIRE(importer<exemplar>);
    STATIC_REQUIRE(importer<docker_archive>);
    STATIC_REQUIRE(importer<oci_layout>);
    STATIC_REQUIRE_FALSE(importer<uncopied>);
    STATIC_REQUIRE_FALSE(importer<aggregate>);
    STATIC_REQUIRE_FALSE(importer<discovers_at_once>);
    STATIC_REQUIRE_FALSE(importer<one_image>);
    STATIC_REQUIRE_FALSE(importer<changing_discover>);
    STATIC_REQUIRE_FALSE(importer<borrows_context>);
}

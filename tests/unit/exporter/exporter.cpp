#include <overmount/exporter/exporter.hpp>

#include <overmount/exporter/archive_output.hpp>
#include <overmount/exporter/oci_layout_target.hpp>

#include "support/catch.hpp"

using namespace overmount;
using boost::asio::awaitable;

namespace {

struct exemplar
{
    explicit exemplar(std::string path);
    awaitable<void> write(std::vector<offered_image> images, export_context context) const;
};

// Each type is named after the requirement of the concept that it does not meet.
struct uncopied : exemplar
{
    uncopied(uncopied&&) = default;
    uncopied& operator=(uncopied&&) = default;
};
struct aggregate
{
    awaitable<void> write(std::vector<offered_image> images, export_context context) const;
};
struct writes_at_once : exemplar
{
    using exemplar::exemplar;
    void write(std::vector<offered_image> images, export_context context) const;
};
struct changing_write : exemplar
{
    using exemplar::exemplar;
    awaitable<void> write(std::vector<offered_image> images, export_context context);
};

} // namespace

TEST_CASE("a type that writes images to a target is an exporter")
{
    STATIC_REQUIRE(exporter<exemplar>);
    STATIC_REQUIRE(exporter<docker_archive_target>);
    STATIC_REQUIRE(exporter<oci_archive_target>);
    STATIC_REQUIRE(exporter<oci_layout_target>);
    STATIC_REQUIRE_FALSE(exporter<uncopied>);
    STATIC_REQUIRE_FALSE(exporter<aggregate>);
    STATIC_REQUIRE_FALSE(exporter<writes_at_once>);
    STATIC_REQUIRE_FALSE(exporter<changing_write>);
}

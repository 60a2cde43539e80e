#include <overmount/importer/discover.hpp>
#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/oci_layout.hpp>

#include "support/catch.hpp"
#include "support/found_images.hpp"

namespace {

using namespace overmount::test;
using overmount::detail::discover_images;
using overmount::detail::image_files;
using overmount::detail::stop_flag;
using overmount::errc;
using overmount::found_image;
using overmount::import_context;
using overmount::limits;

std::vector<found_image> found_in(const file_set& files, const std::string& wanted = {},
                                  const stop_flag& stop = stop_flag())
{
    const scratch_directory scratch;
    image_files opened(written(scratch / "archive", files.tar()), limits());
    const import_context context(overmount::worker_pool(1), limits(), {"linux", "amd64"});
    return discover_images(opened, "the archive", wanted, context, stop);
}

overmount::error failure_of(const file_set& files, const std::string& wanted = {},
                            const stop_flag& stop = stop_flag())
{
    try {
        static_cast<void>(found_in(files, wanted, stop));
    } catch (const overmount::error& failure) {
        return failure;
    }
    throw std::logic_error("it was found without an error");
}

const image_source& image()
{
    static const image_source made{.layers = {{small_tar("a")}, {small_tar("b")}}, .tags = {"x:1"}};
    return made;
}

TEST_CASE("the format of an archive is that of the list it contains")
{
    docker_archive_writer docker;
    const auto id = docker.add(image());
    const auto legacy = found_in(docker.finish());
    REQUIRE(legacy.size() == 1);
    CHECK(legacy[0].config.id() == id);
    CHECK(legacy[0].tags == std::vector<std::string>{"docker.io/library/x:1"});
    CHECK(legacy[0].source == "the archive");
    CHECK_FALSE(legacy[0].manifest);

    oci_layout_writer layout;
    CHECK(layout.add(image()) == id);
    const auto found = found_in(layout.finish());
    REQUIRE(found.size() == 1);
    CHECK(found[0].config.id() == id);
    CHECK(found[0].manifest);
}

TEST_CASE("an archive of both formats has docker's tags and the layout's manifest")
{
    docker_archive_writer writer(docker_layout::blobs);
    const auto id = writer.add(image());
    const file_set& files = writer.finish();
    REQUIRE(!files.content("index.json").empty());
    for (const std::string wanted : {"", "x:1"}) {
        const auto found = found_in(files, wanted);
        REQUIRE(found.size() == 1);
        CHECK(found[0].config.id() == id);
        CHECK(found[0].tags == std::vector<std::string>{"docker.io/library/x:1"});
        CHECK(found[0].manifest);
    }
}

TEST_CASE("the error names an archive of neither format")
{
    file_set files;
    files.add("readme", "text");
    const auto failure = failure_of(files);
    CHECK(failure.code() == errc::unknown_archive_format);
    CHECK(failure.at() == overmount::stage::source);
    CHECK(failure.subject() == "the archive");
}

TEST_CASE("the error names a wanted image that is missing, in both formats")
{
    docker_archive_writer docker;
    docker.add(image());
    oci_layout_writer layout;
    layout.add(image());
    for (const file_set* files : {&docker.finish(), &layout.finish()}) {
        const auto failure = failure_of(*files, "example.org/missing:1");
        CHECK(failure.code() == errc::missing_image);
        CHECK(failure.subject() == "example.org/missing:1");
    }
}

TEST_CASE("a stopped discovery fails with operation_aborted")
{
    docker_archive_writer docker;
    docker.add(image());
    oci_layout_writer layout;
    layout.add(image());
    stop_flag stop;
    stop.raise();
    for (const file_set* files : {&docker.finish(), &layout.finish()})
        CHECK(failure_of(*files, {}, stop).code() == boost::asio::error::operation_aborted);
}

} // namespace

// Exports images from a repository to each target and imports them again.
#include <overmount/overmount.hpp>
#include <overmount/own_policies.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <fstream>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::image_source;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

boost::system::error_code failure_of(asio::awaitable<void> task)
{
    try {
        test::run_coroutine(std::move(task));
    } catch (const om::error& failure) {
        return failure.code();
    }
    return {};
}

std::string content(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::set<std::string> names_in(const fs::path& directory)
{
    std::set<std::string> out;
    for (const auto& one : fs::recursive_directory_iterator(directory))
        out.insert(fs::relative(one.path(), directory).string());
    return out;
}

std::string layer(const std::string& name, std::size_t size)
{
    std::string text;
    while (text.size() < size)
        text += name + std::to_string(text.size());
    return tar_writer().directory("d").file("d/" + name, text).finish();
}

// Two images that share a layer; one of them has it twice.
template <class Storage>
class fixture
{
public:
    using repository = om::basic_repository<Storage, om::no_mount>;

    fixture() : images_(open("first"))
    {
        const std::string shared = layer("shared", 3'000'000), own = layer("own", 70'000);
        om::test::oci_layout_writer made;
        made.add(image_source{.layers = {{shared}, {own}}, .tags = {"docker.io/library/one:1"}});
        made.add(image_source{.layers = {{own}, {shared}, {own}}, .tags = {"registry.example:5000/a/two:latest"}});
        made.finish().write_directory(scratch_ / "layout");
        om::oci_layout source((scratch_ / "layout").string());
        ids_ = import(images_, std::move(source));
    }

    [[nodiscard]] repository open(const std::string& name) const
    {
        return get(repository::open(scratch_ / name, om::repository_options().workers(2)));
    }
    template <class Source>
    [[nodiscard]] std::vector<om::digest> import(repository& into, Source source) const
    {
        std::vector<om::digest> out;
        for (const auto& image : get(into.import_images(std::move(source))))
            out.push_back(image.id());
        return out;
    }
    template <class Target>
    void write(Target target, om::export_options options = om::export_options())
    {
        test::run_coroutine(images_.export_images(all(), std::move(target), std::move(options)));
    }
    [[nodiscard]] std::vector<typename repository::image> all() const
    {
        return {images_.find_image(ids_.at(0).string()), images_.find_image(ids_.at(1).string())};
    }
    // The IDs, configs and names in a second repository after importing `source`.
    template <class Source>
    [[nodiscard]] std::vector<std::string> seen(Source source) const
    {
        fs::remove_all(scratch_ / "second");
        auto other = open("second");
        std::vector<std::string> out;
        for (const om::digest& id : import(other, std::move(source)))
            out.push_back(id.string() + other.find_image(id.string()).config().bytes());
        for (const om::tag_record& tag : other.tags())
            out.push_back(tag.name + tag.image.string());
        return out;
    }
    [[nodiscard]] std::vector<std::string> wanted() const
    {
        std::vector<std::string> out;
        for (const auto& image : all())
            out.push_back(image.id().string() + image.config().bytes());
        for (const om::tag_record& tag : images_.tags())
            out.push_back(tag.name + tag.image.string());
        return out;
    }
    void spoil_a_layer() const
    {
        for (const auto& one : fs::recursive_directory_iterator(scratch_ / "first" / "diffs"))
            if (one.is_regular_file() && (one.path().filename() == "layer.tar" || one.path().filename() == "own")) {
                std::fstream file(one.path());
                file.seekp(2000);
                file << "spoilt";
            }
    }

    scratch_directory scratch_;
    repository images_;
    std::vector<om::digest> ids_;
};

const std::vector<om::layer_encoding>& encodings()
{
    static const std::vector<om::layer_encoding> out{
        om::layer_encoding(), om::layer_encoding(om::compression::gzip), om::layer_encoding(om::compression::zstd),
        om::layer_encoding(om::compression::gzip, 1), om::layer_encoding(om::compression::zstd, 9)};
    return out;
}

} // namespace

TEMPLATE_TEST_CASE("images are unchanged after export to and import from each format", "", om::on_disk_storage, om::virtual_storage)
{
    fixture<TestType> at;
    for (const om::layer_encoding& encoding : encodings()) {
        const auto options = om::export_options().encoding(encoding);
        const std::string file = at.scratch_ / "archive.tar", folder = at.scratch_ / "folder";
        at.write(om::docker_archive_target(file), options);
        CHECK(at.seen(om::docker_archive(file)) == at.wanted());
        CHECK(at.seen(om::oci_layout(file)) == at.wanted());
        at.write(om::oci_archive_target(file), options);
        CHECK(at.seen(om::oci_layout(file)) == at.wanted());
        at.write(om::oci_layout_target(folder), options);
        CHECK(at.seen(om::oci_layout(folder)) == at.wanted());
        // Two layers, two configs, two manifests.
        CHECK(std::distance(fs::directory_iterator(folder + "/blobs/sha256"), fs::directory_iterator()) == 6);
        fs::remove_all(folder);
    }
    CHECK(names_in(at.scratch_ / "first/tmp").empty());
    CHECK(names_in(at.scratch_ / "first/leases").empty());
}

TEST_CASE("the same images give the same archive, whatever the storage and the number of workers")
{
    fixture<om::on_disk_storage> disk;
    fixture<om::virtual_storage> tars;
    const auto alone = get(om::virtual_repository::open(tars.scratch_ / "first", om::repository_options().workers(1)));
    for (const om::layer_encoding& encoding : encodings()) {
        const auto options = om::export_options().encoding(encoding);
        disk.write(om::docker_archive_target((disk.scratch_ / "a").string()), options);
        tars.write(om::docker_archive_target((disk.scratch_ / "b").string()), options);
        std::vector<om::virtual_repository::image> images;
        for (const om::digest& id : tars.ids_)
            images.push_back(alone.find_image(id.string()));
        om::docker_archive_target target((disk.scratch_ / "c").string());
        test::run_coroutine(alone.export_images(images, std::move(target), options));
        const std::string first = content(disk.scratch_ / "a");
        CHECK(!first.empty());
        CHECK((first == content(disk.scratch_ / "b"))); // parentheses: do not print megabytes on failure
        CHECK((first == content(disk.scratch_ / "c"))); // parentheses: do not print megabytes on failure
    }
}

TEST_CASE("an image is written under the requested names")
{
    fixture<om::virtual_storage> at;
    const auto image = at.all().front();
    const std::string file = at.scratch_ / "archive.tar";
    auto options = om::export_options().name(image.id(), "other:2").name(image.id(), "example.org/third");
    om::docker_archive_target target(file);
    test::run_coroutine(image.export_to(std::move(target), options));
    auto other = at.open("second");
    om::docker_archive source(file, "other:2");
    CHECK(at.import(other, std::move(source)) == std::vector{image.id()});
    CHECK(other.tags().size() == 2);
    CHECK(other.tag("example.org/third:latest").image == image.id());

    const std::string folder = at.scratch_ / "folder";
    om::oci_layout_target layout(folder);
    test::run_coroutine(image.export_to(std::move(layout), om::export_options().name(image.id(), "latest")));
    om::oci_layout by_name(folder, "latest");
    CHECK(get(other.import_images(std::move(by_name))).size() == 1);
    for (const char* bad : {"two words", "", "a\nb", "\xff"}) {
        om::oci_layout_target again(folder);
        CHECK(failure_of(image.export_to(std::move(again), om::export_options().name(image.id(), bad))) ==
              errc::invalid_reference);
    }
    om::docker_archive_target refused(file);
    CHECK(failure_of(image.export_to(std::move(refused), om::export_options().name(image.id(), "UPPER"))) ==
          errc::invalid_reference);
}

TEST_CASE("an existing layout keeps its images, and the last image gets the name")
{
    fixture<om::virtual_storage> at;
    const auto images = at.all();
    const std::string folder = at.scratch_ / "folder";
    const auto add = [&](std::size_t which, const char* name) {
        om::oci_layout_target target(folder);
        test::run_coroutine(images[which].export_to(
            std::move(target), om::export_options().name(images[which].id(), name)));
    };
    const auto named = [&](const char* name) {
        fs::remove_all(at.scratch_ / "second");
        auto other = at.open("second");
        om::oci_layout source(folder, name);
        return at.import(other, std::move(source));
    };
    add(0, "a");
    add(1, "b");
    CHECK(named("a") == std::vector{images[0].id()});
    CHECK(named("b") == std::vector{images[1].id()});
    add(1, "a");
    CHECK(named("a") == std::vector{images[1].id()});
    CHECK(named("b") == std::vector{images[1].id()});
}

TEMPLATE_TEST_CASE("the error names a damaged layer, and nothing of the output is left", "", om::on_disk_storage,
                   om::virtual_storage)
{
    fixture<TestType> at;
    at.spoil_a_layer();
    const std::string file = at.scratch_ / "out/archive.tar", folder = at.scratch_ / "out/folder";
    fs::create_directory(at.scratch_ / "out");
    for (const om::layer_encoding& encoding : encodings()) {
        const auto check = [&](auto target) {
            try {
                at.write(std::move(target), om::export_options().encoding(encoding));
                FAIL("it was written");
            } catch (const om::error& failure) {
                CHECK(failure.code() == om::condition::corrupt_input);
                CHECK(failure.layer().starts_with("sha256:"));
            }
            CHECK(names_in(at.scratch_ / "out").empty());
            CHECK(names_in(at.scratch_ / "first/leases").empty());
        };
        check(om::docker_archive_target(file));
        check(om::oci_archive_target(file));
        check(om::oci_layout_target(folder));
    }
}

TEST_CASE("an existing file or layout is unchanged when an export fails")
{
    fixture<om::virtual_storage> at;
    const std::string file = at.scratch_ / "archive.tar", folder = at.scratch_ / "folder";
    at.write(om::docker_archive_target(file));
    at.write(om::oci_layout_target(folder));
    const std::string before = content(file), index = content(folder + "/index.json");
    const auto names = names_in(folder);
    at.spoil_a_layer();
    const auto options = om::export_options().encoding(om::layer_encoding(om::compression::gzip));
    CHECK_THROWS_AS(at.write(om::docker_archive_target(file), options), om::error);
    CHECK_THROWS_AS(at.write(om::oci_layout_target(folder), options), om::error);
    CHECK((content(file) == before));
    CHECK(content(folder + "/index.json") == index);
    CHECK(names_in(folder) == names);
}

TEST_CASE("a target that cannot hold an archive or a layout is refused")
{
    fixture<om::virtual_storage> at;
    fs::create_directory(at.scratch_ / "taken");
    std::ofstream(at.scratch_ / "taken/file") << "mine";
    const auto images = at.all();
    om::oci_layout_target layout(at.scratch_ / "taken");
    CHECK(failure_of(at.images_.export_images(images, layout)) == errc::unknown_archive_format);
    om::docker_archive_target directory((at.scratch_ / "taken").string());
    CHECK(failure_of(at.images_.export_images(images, directory)) == errc::not_a_regular_file);
    om::docker_archive_target device("/dev/null");
    CHECK(failure_of(at.images_.export_images(images, device)) == errc::not_a_regular_file);
    om::docker_archive_target nowhere((at.scratch_ / "no/where").string());
    CHECK(failure_of(at.images_.export_images(images, nowhere)) == om::condition::not_found);
    CHECK(names_in(at.scratch_ / "taken") == std::set<std::string>{"file"});
}

TEST_CASE("an archive is written to a stream, and a closed stream is an error")
{
    fixture<om::virtual_storage> at;
    const std::string file = at.scratch_ / "archive.tar";
    at.write(om::docker_archive_target(file));
    const std::string wanted = content(file);
    for (const bool whole : {true, false}) {
        asio::io_context context;
        asio::local::stream_protocol::socket from(context), to(context);
        asio::local::connect_pair(from, to);
        om::docker_archive_target target(om::archive_output(om::byte_sink(std::move(to))));
        std::exception_ptr ended;
        asio::co_spawn(context, at.images_.export_images(at.all(), std::move(target)),
                       [&](std::exception_ptr failure) {
                           ended = failure;
                           context.stop();
                       });
        std::string got, piece(100'000, '\0');
        std::function<void()> next = [&] {
            from.async_read_some(asio::buffer(piece), [&](boost::system::error_code, std::size_t count) {
                got.append(piece, 0, count);
                if (!whole && got.size() > 1'000'000)
                    from.close();
                else
                    next();
            });
        };
        next();
        context.run();
        if (whole) {
            CHECK(!ended);
            boost::system::error_code failed;
            for (std::size_t count = 1; !failed && from.available(failed) != 0 && count != 0; got.append(piece, 0, count))
                count = from.read_some(asio::buffer(piece), failed);
            CHECK((got == wanted));
            continue;
        }
        REQUIRE(ended);
        try {
            std::rethrow_exception(ended);
        } catch (const om::error& failure) {
            CHECK((failure.code() == boost::system::errc::broken_pipe ||
                   failure.code() == boost::system::errc::connection_reset));
            CHECK(failure.at() == om::stage::target);
        }
        CHECK(names_in(at.scratch_ / "first/leases").empty());
    }
}

TEST_CASE("a cancelled export leaves no files")
{
    fixture<om::virtual_storage> at;
    fs::create_directory(at.scratch_ / "out");
    const std::string file = at.scratch_ / "out/archive.tar", folder = at.scratch_ / "out/folder";
    const auto options = om::export_options().encoding(om::layer_encoding(om::compression::zstd, 19));
    const auto cancelled = [&](asio::awaitable<void> task, bool at_once) {
        asio::io_context context;
        asio::cancellation_signal signal;
        std::exception_ptr ended;
        asio::co_spawn(context, std::move(task),
                       asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr failure) { ended = failure; }));
        for (int i = 0; i < (at_once ? 1 : 4); ++i)
            context.run_one();
        signal.emit(asio::cancellation_type::terminal);
        context.run();
        CHECK(ended);
        CHECK(names_in(at.scratch_ / "out").empty());
        CHECK(names_in(at.scratch_ / "first/leases").empty());
    };
    for (const bool at_once : {true, false}) {
        cancelled(at.images_.export_images(at.all(), om::docker_archive_target(file), options), at_once);
        cancelled(at.images_.export_images(at.all(), om::oci_layout_target(folder), options), at_once);
    }
}

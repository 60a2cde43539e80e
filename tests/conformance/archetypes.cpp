// The whole library with models that offer what the concepts ask for and nothing else: it uses nothing
// undeclared.
#include <overmount/overmount.hpp>
#include <overmount/own_policies.hpp>

#include "support/archetypes.hpp"
#include "support/catch.hpp"
#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace asio = boost::asio;

namespace overmount::test {

// Only its functions are called. Not in a nameless namespace: all members are instantiated below, and GCC would miss their
// callers.
struct minimal_mount
{
    minimal_mount() = delete;
    static unique_fd create(const mount_spec& spec) { return overlay_mount::create(spec); }
    static mount_identity mount(const mount_spec& spec, const std::string& target) { return overlay_mount::mount(spec, target); }
    static std::optional<mount_identity> identify(const std::string& target) { return overlay_mount::identify(target); }
    static void unmount(const mount_identity& identity, const std::string& target, bool detach)
    {
        overlay_mount::unmount(identity, target, detach);
    }
    static bool alive(const mount_identity& identity, const mount_spec& probe) { return overlay_mount::alive(identity, probe); }
};

namespace {

class minimal_importer
{
public:
    explicit minimal_importer(const std::string& path) : real_(path) {}
    [[nodiscard]] asio::awaitable<std::vector<found_image>> discover(import_context context) const
    {
        return real_.discover(std::move(context));
    }
    void operator&() const = delete;

private:
    oci_layout real_;
};

} // namespace
} // namespace overmount::test

// All members that are no templates.
template class overmount::basic_repository<overmount::test::minimal_storage, overmount::no_mount>;
template class overmount::basic_repository<overmount::test::minimal_mountable_storage,
                                           overmount::test::minimal_mount>;
template class overmount::basic_image<overmount::test::minimal_mountable_storage,
                                      overmount::test::minimal_mount>;
template class overmount::basic_mount<overmount::test::minimal_mountable_storage,
                                      overmount::test::minimal_mount>;

namespace overmount::test {
namespace {

template <class Storage, class Mount>
asio::awaitable<basic_repository<Storage, Mount>> open(const scratch_directory& scratch)
{
    return basic_repository<Storage, Mount>::open(scratch / "repository", repository_options().workers(2));
}

// An image of two layers in an OCI layout, for this machine.
minimal_importer source_in(const scratch_directory& scratch)
{
    const tar_attributes own{.uid = ::geteuid(), .gid = ::getegid()};
    oci_layout_writer layout;
    image_source image{.tags = {"example.org/minimal:1"}, .architecture = platform::host().architecture()};
    for (const char* file : {"a/one", "a/two"})
        image.layers.push_back({tar_writer().directory("a", own).file(file, file, own).finish()});
    layout.add(image);
    layout.finish().write_directory(scratch / "layout");
    return minimal_importer((scratch / "layout").string());
}

asio::awaitable<void> import_list_remove(const scratch_directory* scratch)
{
    auto repository = co_await open<minimal_storage, no_mount>(*scratch);
    const minimal_importer source = source_in(*scratch);
    const auto first = co_await repository.import_images(source);
    const auto again = co_await repository.import_image(source);
    REQUIRE(first.size() == 1);
    CHECK(first.front().id() == again.id());
    CHECK(repository.images().size() == 1);
    CHECK(repository.find_image("example.org/minimal:1").id() == again.id());
    CHECK(repository.tag("example.org/minimal:1").image == again.id());
    CHECK(repository.layers().size() == 2);
    for (const auto& layer : again.layers())
        CHECK(layer.record().entries == 2);
    std::ofstream(*scratch / "layer.tar") << tar_writer().finish();
    const auto base = again.layers().back();
    const auto made = co_await repository.create_layer(*scratch / "layer.tar", base);
    CHECK(repository.layer(made).parent_id() == base);
    CHECK(repository.mounts().empty());
    const check_report whole = co_await repository.check(); // its records: it gives no tars back
    CHECK(whole.ok());
    CHECK(whole.layers == 3);
    co_await repository.remove_image(again.id());
    CHECK(repository.images().empty());
    CHECK(repository.tags().empty());
}

asio::awaitable<void> import_mount(const scratch_directory* scratch, std::string* refused)
{
    auto repository = co_await open<minimal_mountable_storage, minimal_mount>(*scratch);
    const minimal_importer source = source_in(*scratch);
    auto image = co_await repository.import_image(source);
    try {
        auto root = co_await image.mount();
        CHECK(std::filesystem::exists(root.target() + "/a/one"));
        CHECK(std::filesystem::exists(root.target() + "/a/two"));
        CHECK(repository.mounts().size() == 1);
        co_await root.unmount();
        CHECK(repository.mounts().empty());
    } catch (const error& failed) {
        if (failed.code() != condition::permission_denied)
            throw;
        *refused = failed.what();
    }
}

// Files and directories that are no algorithm's.
std::ptrdiff_t records_in(const std::filesystem::path& directory)
{
    const auto all = std::filesystem::recursive_directory_iterator(directory);
    return std::count_if(begin(all), end(all), [](const auto& entry) { return entry.path().filename() != "sha256"; });
}

} // namespace

TEST_CASE("a repository of minimal models imports, lists and removes")
{
    const scratch_directory scratch;
    ::test::run_coroutine(import_list_remove(&scratch));
    CHECK_FALSE(std::filesystem::is_empty(scratch / "repository/layers")); // layers stay
    for (const char* part : {"images", "tags", "mounts", "tmp", "leases", "claims"})
        CHECK(records_in(scratch / "repository" / part) == 0);
}

TEST_CASE("a repository of minimal models mounts")
{
    const scratch_directory scratch;
    std::string refused;
    ::test::run_coroutine(import_mount(&scratch, &refused));
    for (const char* part : {"mounts", "tmp", "leases", "claims"})
        CHECK(records_in(scratch / "repository" / part) == 0);
    if (!refused.empty())
        OVERMOUNT_SKIP(refused);
}

} // namespace overmount::test

// From an archive to a mounted tree, by the public interface only.
#include <overmount/overmount.hpp>
#include <overmount/posix/fs.hpp>

#include "support/catch.hpp"
#include "support/descriptor_limit.hpp"
#include "support/image_builder.hpp"
#include "support/may_mount.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tree.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace fs = std::filesystem;
namespace asio = boost::asio;
using overmount::test::may_mount;
using ::test::get;
using ::test::store_result;

using overmount::condition;
using overmount::errc;
using overmount::import_options;
using overmount::mount_options;
using overmount::oci_layout;
using overmount::repository_options;
using overmount::test::file_set;
using overmount::test::gzip;
using overmount::test::image_source;
using overmount::test::json_array;
using overmount::test::json_object;
using overmount::test::json_string;
using overmount::test::line_of;
using overmount::test::list_tree;
using overmount::test::mounts_below;
using overmount::test::oci_layout_writer;
using overmount::test::run_quietly;
using overmount::test::scratch_directory;
using overmount::test::tar_writer;
using overmount::test::tree_difference;

namespace {

using names_type = std::set<std::string>;

// The repository has a pool of its own, since the handle outlives the context that it was opened on.
overmount::repository open(const scratch_directory& scratch)
{
    return get(overmount::repository::open(scratch / "repo", repository_options().workers(2)));
}

import_options for_amd64()
{
    return import_options().wanted({"linux", "amd64"});
}

oci_layout layout_of(const scratch_directory& scratch, const file_set& files, const char* name = "source")
{
    files.write_directory(scratch / name);
    return oci_layout((scratch / name).string());
}

oci_layout layout_of(const scratch_directory& scratch, const std::vector<std::string>& tars)
{
    image_source source{.tags = {"example.org/test:1"}};
    for (const auto& tar : tars)
        source.layers.push_back({tar});
    oci_layout_writer writer;
    writer.add(source);
    return layout_of(scratch, writer.finish());
}

std::string read(const fs::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

names_type names(const fs::path& directory)
{
    names_type out;
    for (const auto& entry : fs::directory_iterator(directory))
        out.insert(entry.path().filename().string());
    return out;
}

struct stat status_of(const fs::path& path)
{
    struct stat out{};
    if (::lstat(path.c_str(), &out) != 0)
        throw std::runtime_error("no " + path.string());
    return out;
}

// The files of a repository, without directories: empty ones may be made and removed.
std::string files_of(const fs::path& top)
{
    std::istringstream lines(list_tree(top));
    std::string out;
    for (std::string line; std::getline(lines, line);)
        if (line.find(" d ") == std::string::npos)
            out += line + "\n";
    return out;
}

void check_nothing_pending(const fs::path& base)
{
    for (const char* part : {"tmp", "claims", "leases"}) {
        CAPTURE(part);
        CHECK(files_of(base / part).empty());
        CHECK(names(base / part) == names_type{});
    }
}

// The inode number of each diff's root.
std::set<ino_t> diff_inodes(const fs::path& base)
{
    std::set<ino_t> out;
    for (const auto& entry : fs::directory_iterator(base / "diffs" / "sha256"))
        out.insert(status_of(entry.path() / "rootfs").st_ino);
    return out;
}

// Three layers with all kinds of entries.
std::vector<std::string> usual_layers()
{
    return {tar_writer()
                .file("same", "one")
                .file("gone", "one")
                .directory("hidden")
                .file("hidden/old", "one")
                .directory("merged")
                .file("merged/one", "one")
                .finish(),
            tar_writer()
                .file("same", "two")
                .whiteout("gone")
                .directory("merged")
                .file("merged/two", "two")
                .finish(),
            tar_writer()
                .file("same", "three")
                .directory("hidden")
                .opaque("hidden")
                .file("hidden/new", "three")
                .finish()};
}

void check_usual(const fs::path& top)
{
    CHECK(names(top) == names_type{"hidden", "merged", "same"});
    CHECK(read(top / "same") == "three");
    CHECK(names(top / "hidden") == names_type{"new"});
    CHECK(names(top / "merged") == names_type{"one", "two"});
}

// An image of these layers, mounted read-only.
struct mounted
{
    explicit mounted(const std::vector<std::string>& tars, mount_options options = mount_options())
        : repo(open(scratch)), image(get(repo.import_image(layout_of(scratch, tars), for_amd64()))),
          mount(get(image.mount(std::move(options))))
    {
    }
    [[nodiscard]] fs::path top() const { return mount.target(); }

    scratch_directory scratch;
    overmount::repository repo;
    overmount::image image;
    overmount::mount mount;
};

// Runs all operations on one context to their ends.
void run_together(std::vector<asio::awaitable<void>> tasks)
{
    asio::io_context context;
    std::vector<std::exception_ptr> ended;
    const auto count = tasks.size();
    for (auto& task : tasks)
        asio::co_spawn(context, std::move(task),
                       [&ended](std::exception_ptr failure) { ended.push_back(failure); });
    context.run_for(std::chrono::seconds(120));
    REQUIRE(ended.size() == count);
    for (const auto& failure : ended)
        if (failure)
            std::rethrow_exception(failure);
}

const char* const layer_type = "application/vnd.oci.image.layer.v1.tar+gzip";

// A layout of one image with one layer, with exactly these bytes, media type and diff ID.
file_set& one_layer(oci_layout_writer& writer, const std::string& blob, const std::string& diffs_of,
                    const std::string& type = layer_type)
{
    const image_source source{.layers = {{diffs_of}}};
    const auto layer = writer.add_blob(type, blob);
    const auto config = writer.add_blob("application/vnd.oci.image.config.v1+json", source.config_text());
    const std::string manifest = "application/vnd.oci.image.manifest.v1+json";
    const auto document = json_object({{"schemaVersion", "2"},
                                       {"mediaType", json_string(manifest)},
                                       {"config", config},
                                       {"layers", json_array({layer})}});
    writer.list(writer.add_blob(manifest, document), {"example.org/test:1"});
    return writer.finish();
}

std::string blob_path(const std::string& content)
{
    return "blobs/sha256/" + overmount::digest::of(content).hex();
}

// Checks that the import fails with this error and leaves nothing behind.
void check_refused(const file_set& files, errc expected, const std::string& entry = {})
{
    const scratch_directory scratch;
    const auto repo = open(scratch);
    const auto source = layout_of(scratch, files);
    const auto before = files_of(repo.base());
    const auto outside = names(scratch.path());
    bool thrown = false;
    try {
        (void)get(repo.import_images(source, for_amd64()));
    } catch (const overmount::error& failure) {
        thrown = true;
        const std::string text = failure.what();
        CAPTURE(text);
        CHECK(failure.code() == expected);
        CHECK(!text.empty());
        CHECK(text.find('\n') == std::string::npos);
        if (!entry.empty())
            CHECK(failure.entry() == entry);
    }
    CHECK(thrown);
    CHECK(repo.images().empty());
    CHECK(repo.tags().empty());
    CHECK(repo.layers().empty());
    check_nothing_pending(repo.base());
    CHECK(tree_difference(before, files_of(repo.base())) == "");
    CHECK(names(scratch.path()) == outside);
}

const std::string& good_tar()
{
    static const std::string tar = tar_writer().file("a", std::string(5000, 'a')).finish();
    return tar;
}

} // namespace

TEST_CASE("three layers: the topmost file is visible, a whiteout deletes, an opaque directory hides")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    mounted image(usual_layers());
    check_usual(image.top());
    get(image.mount.unmount());
    CHECK(mounts_below(image.scratch.path()).empty());
    CHECK(image.repo.mounts().empty());
    check_nothing_pending(image.repo.base());
}

TEST_CASE("an implied directory has the lower layer's mode, owner and time in a mount")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const mounted image(
        {tar_writer()
             .directory("a", {.mode = 0701, .uid = 5, .gid = 6, .mtime = 1234567})
             .file("a/x", "x")
             .finish(),
         tar_writer().file("a/b", "b").finish()});
    CHECK(names(image.top() / "a") == names_type{"b", "x"});
    const auto found = status_of(image.top() / "a");
    CHECK((found.st_mode & 07777u) == 0701u);
    CHECK(found.st_uid == 5);
    CHECK(found.st_gid == 6);
    CHECK(found.st_mtim.tv_sec == 1234567);
}

TEST_CASE("a whiteout in a directory that merges with no other is not listed")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const auto odd = tar_writer().directory("d").whiteout("d/gone").file("d/here", "here").finish();
    SECTION("above a layer that lacks the directory")
    {
        const mounted image({tar_writer().file("x", "x").finish(), odd});
        CHECK(names(image.top() / "d") == names_type{"here"});
    }
    SECTION("in the lowest layer")
    {
        const mounted image({odd, tar_writer().file("x", "x").finish()});
        CHECK(names(image.top() / "d") == names_type{"here"});
    }
    SECTION("in the only layer")
    {
        const mounted image({odd});
        CHECK(names(image.top() / "d") == names_type{"here"});
    }
    SECTION("above a file of that name")
    {
        const mounted image({tar_writer().file("d", "x").finish(), odd});
        CHECK(names(image.top() / "d") == names_type{"here"});
    }
    SECTION("at the top of the only layer")
    {
        const mounted image({tar_writer().whiteout("gone").file("here", "here").finish()});
        CHECK(names(image.top()) == names_type{"here"});
    }
}

TEST_CASE("an image that repeats a layer mounts")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const auto one = tar_writer().file("a", "one").finish();
    const auto two = tar_writer().file("a", "two").file("b", "two").finish();
    SECTION("with another in between")
    {
        const mounted image({one, two, one});
        CHECK(read(image.top() / "a") == "one");
        CHECK(read(image.top() / "b") == "two");
        CHECK(image.repo.layers().size() == 3);
        CHECK(diff_inodes(image.repo.base()).size() == 2);
    }
    SECTION("twice in a row")
    {
        const mounted image({one, one});
        CHECK(names(image.top()) == names_type{"a"});
        CHECK(read(image.top() / "a") == "one");
    }
}

TEST_CASE("an image with the maximum number of layers is imported and mounted with few descriptors")
{
    constexpr int count = 500;
    std::vector<std::string> tars;
    for (int number = 0; number < count; ++number)
        tars.push_back(tar_writer().file("f" + std::to_string(number), "text").finish());
    const scratch_directory scratch;
    const auto source = layout_of(scratch, tars);
    const overmount::test::descriptor_limit few(64);
    const auto repo = open(scratch);
    const auto image = get(repo.import_image(source, for_amd64()));
    CHECK(repo.layers().size() == count);
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const auto mount = get(image.mount());
    CHECK(names(mount.target()).size() == count);
}

TEST_CASE("the corrections for mounts of many layers are made by the import")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    std::vector<std::string> tars{tar_writer().directory("d", {.mode = 0710, .uid = 7, .gid = 8}).finish()};
    for (int number = 0; number < 40; ++number)
        tars.push_back(tar_writer().file("d/f" + std::to_string(number), "text").finish());
    const mounted image(tars);
    struct stat status;
    REQUIRE(::stat((image.top() / "d").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0710);
    CHECK((status.st_uid == 7 && status.st_gid == 8));
    CHECK(names(image.top() / "d").size() == 40);
    int notes = 0, corrections = 0;
    for (const auto& layer : fs::directory_iterator(image.repo.base() / "layers/sha256")) {
        notes += fs::exists(layer.path() / "correction.json");
        corrections += fs::exists(layer.path() / ("correction-" + overmount::detail::boot_id()) / "d");
    }
    CHECK((notes == 1 && corrections == 1));
}

TEST_CASE("a layer of many files is unpacked in a process with few free descriptors")
{
    tar_writer layer;
    for (int number = 0; number < 3000; ++number)
        layer.file("f" + std::to_string(number), "text");
    const scratch_directory scratch;
    const auto source = layout_of(scratch, {layer.finish()});
    const overmount::test::descriptor_limit usual(1024);
    std::vector<overmount::unique_fd> others;
    for (int number = 0; number < 900; ++number)
        others.emplace_back(::open("/", O_PATH | O_CLOEXEC));
    const auto repo = open(scratch);
    static_cast<void>(get(repo.import_image(source, for_amd64())));
    CHECK(repo.layers().size() == 1);
}

TEST_CASE("an image of one layer mounts")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const mounted image({tar_writer().file("a", "text", {.mode = 04755, .uid = 7, .gid = 8}).finish()});
    CHECK(names(image.top()) == names_type{"a"});
    CHECK(read(image.top() / "a") == "text");
    CHECK(line_of(list_tree(image.top()), "a").starts_with("a f 4755 7 8 4 1700000000.000000000 "));
    CHECK_FALSE(std::ofstream(image.top() / "new").is_open());
}

TEST_CASE("an image without layers mounts as an empty root")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const mounted image(std::vector<std::string>{});
    CHECK(names(image.top()) == names_type{});
    CHECK_FALSE(std::ofstream(image.top() / "new").is_open());
    auto writable = get(image.image.mount(mount_options().writable(true)));
    std::ofstream(fs::path(writable.target()) / "new") << "text";
    CHECK(read(fs::path(writable.target()) / "new") == "text");
    get(writable.unmount());
}

TEST_CASE("an opaque root hides all lower layers")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const mounted image({tar_writer().file("a", "a").directory("d").file("d/a", "a").finish(),
                         tar_writer().opaque("").file("b", "b").directory("d").file("d/b", "b").finish(),
                         tar_writer().file("c", "c").finish()});
    CHECK(names(image.top()) == names_type{"b", "c", "d"});
    CHECK(names(image.top() / "d") == names_type{"b"});
}

TEST_CASE("a writable mount takes changes and does not change the layers")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const scratch_directory scratch;
    const auto repo = open(scratch);
    const auto image = get(repo.import_image(layout_of(scratch, usual_layers()), for_amd64()));
    const auto before = list_tree(repo.base() / "diffs");
    auto mount = get(image.mount(mount_options().writable(true)));
    const fs::path top = mount.target();
    std::ofstream(top / "same") << "changed";
    std::ofstream(top / "new") << "new";
    CHECK(fs::remove(top / "merged" / "one"));
    CHECK(read(top / "same") == "changed");
    CHECK(names(top) == names_type{"hidden", "merged", "new", "same"});
    CHECK(names(top / "merged") == names_type{"two"});
    get(mount.unmount());
    CHECK(tree_difference(before, list_tree(repo.base() / "diffs")) == "");
    const auto again = get(image.mount());
    check_usual(again.target());
}

TEST_CASE("a second import of an image unpacks nothing")
{
    const scratch_directory scratch;
    const auto repo = open(scratch);
    const auto source = layout_of(scratch, usual_layers());
    const auto first = get(repo.import_image(source, for_amd64()));
    const auto inodes = diff_inodes(repo.base());
    const auto content = list_tree(repo.base() / "diffs");
    CHECK(inodes.size() == 3);
    const auto second = get(repo.import_image(source, for_amd64()));
    CHECK(first.id() == second.id());
    CHECK(diff_inodes(repo.base()) == inodes);
    CHECK(tree_difference(content, list_tree(repo.base() / "diffs")) == "");
    CHECK(repo.images().size() == 1);
    check_nothing_pending(repo.base());
}

TEST_CASE("two imports of one image at the same time both succeed")
{
    const scratch_directory scratch;
    const auto one = open(scratch);
    const auto source = layout_of(scratch, usual_layers());
    std::optional<overmount::image> first, second;
    std::vector<asio::awaitable<void>> tasks;
    const auto run = [&](const overmount::repository& other) {
        tasks.push_back(store_result(one.import_image(source, for_amd64()), first));
        tasks.push_back(store_result(other.import_image(source, for_amd64()), second));
        run_together(std::move(tasks));
    };
    SECTION("in one repository")
    {
        run(one);
    }
    SECTION("by two handles on one directory")
    {
        run(open(scratch));
    }
    REQUIRE((first && second));
    CHECK(first->id() == second->id());
    CHECK(one.images().size() == 1);
    CHECK(one.layers().size() == 3);
    CHECK(diff_inodes(one.base()).size() == 3);
    check_nothing_pending(one.base());
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const auto mount = get(second->mount());
    check_usual(mount.target());
}

TEST_CASE("a mount that was kept is unmounted by another handle")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    mounted image(usual_layers());
    const auto target = image.mount.target();
    image.mount.keep();
    const auto other = open(image.scratch);
    const auto records = other.mounts();
    REQUIRE(records.size() == 1);
    CHECK(records.front().target == target);
    CHECK(records.front().image == image.image.id());
    check_usual(target);
    get(other.unmount(records.front()));
    CHECK(mounts_below(image.scratch.path()).empty());
    CHECK(other.mounts().empty());
    CHECK(image.repo.mounts().empty());
}

TEST_CASE("a mounted image is not removed")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    mounted image(usual_layers());
    const auto id = image.image.id();
    bool refused = false;
    try {
        get(image.repo.remove_image(id));
    } catch (const overmount::error& failure) {
        refused = failure.code() == errc::image_in_use;
    }
    CHECK(refused);
    CHECK(image.repo.images().size() == 1);
    CHECK(image.repo.tags().size() == 1);
    check_usual(image.top());
    get(image.mount.unmount());
    get(image.repo.remove_image(id));
    CHECK(image.repo.images().empty());
    CHECK(image.repo.tags().empty());
}

TEST_CASE("an image that cannot be imported leaves nothing behind")
{
    oci_layout_writer writer;
    const auto whole = gzip(good_tar());
    SECTION("a layer whose compressed bytes are truncated")
    {
        check_refused(one_layer(writer, whole.substr(0, whole.size() - 12), good_tar()),
                      errc::truncated_stream);
    }
    SECTION("a blob that does not match its digest, though it unpacks to the right layer")
    {
        auto& files = one_layer(writer, whole, good_tar());
        auto changed = whole;
        changed[4] = static_cast<char>(changed[4] ^ 1); // the time in the gzip header
        files.replace(blob_path(whole), changed);
        check_refused(files, errc::digest_mismatch);
    }
    SECTION("a layer that does not match the config's diff ID")
    {
        check_refused(one_layer(writer, whole, tar_writer().file("b", "b").finish()), errc::diff_id_mismatch);
    }
    SECTION("a missing layer file")
    {
        auto& files = one_layer(writer, whole, good_tar());
        files.remove(blob_path(whole));
        check_refused(files, errc::missing_blob);
    }
    SECTION("a layer of an unknown media type")
    {
        check_refused(one_layer(writer, whole, good_tar(), "application/vnd.oci.image.layer.v1.tar+lzma"),
                      errc::unsupported_media_type);
    }
    SECTION("an index without our platform")
    {
        writer.add_index({{.layers = {{good_tar()}}, .architecture = "s390x"},
                          {.layers = {{good_tar()}}, .architecture = "riscv64"}},
                         {"example.org/test:1"});
        check_refused(writer.finish(), errc::no_matching_platform);
    }
    SECTION("an entry that leaves the layer")
    {
        const auto tar = tar_writer().file("a", "a").file("../x", "x").finish();
        check_refused(one_layer(writer, gzip(tar), tar), errc::entry_escapes_layer, "../x");
    }
}

TEST_CASE("the broken one of many small layers is named, and nothing of the others is left behind")
{
    constexpr int count = 60, broken = 37;
    const scratch_directory scratch;
    image_source image{.tags = {"example.org/test:1"}};
    for (int number = 0; number < count; ++number)
        image.layers.push_back({tar_writer().file("f" + std::to_string(number), "text").finish()});
    oci_layout_writer writer;
    writer.add(image);
    const std::string& tar = image.layers[broken].tar;
    auto changed = gzip(tar);
    changed[4] = static_cast<char>(changed[4] ^ 1);
    file_set files = writer.finish();
    files.replace(blob_path(gzip(tar)), changed);
    const auto source = layout_of(scratch, files);
    const auto repo = open(scratch);
    try {
        static_cast<void>(get(repo.import_image(source, for_amd64())));
        FAIL("it was imported");
    } catch (const overmount::error& failure) {
        CHECK(failure.code() == errc::digest_mismatch);
        CHECK(failure.layer() == overmount::digest::of(tar).string());
    }
    CHECK(repo.layers().empty());
    CHECK(fs::is_empty(scratch / "repo/diffs"));
    CHECK(fs::is_empty(scratch / "repo/claims"));
}

TEST_CASE("a tag names the manifest and the index of its image, which are kept byte for byte")
{
    const scratch_directory scratch;
    const auto repo = open(scratch);
    oci_layout_writer writer;
    writer.add_index({{.layers = {{good_tar()}}}}, {"example.org/test:1"});
    const auto& files = writer.finish();
    const auto source = layout_of(scratch, files);
    (void)get(repo.import_images(source, for_amd64()));
    const auto tag = repo.tag("example.org/test:1");
    for (const auto& document : {tag.manifest, tag.index}) {
        REQUIRE(document);
        std::ifstream kept(repo.base() / ("manifests/sha256-" + document->hex() + ".json"), std::ios::binary);
        const std::string text{std::istreambuf_iterator<char>(kept), {}};
        CHECK(text == files.content("blobs/sha256/" + document->hex()));
    }
    CHECK(tag.manifest != tag.index);
}

TEST_CASE("an import that fills the disk fails and leaves nothing")
{
    if (!may_mount())
        OVERMOUNT_SKIP("may not mount");
    const scratch_directory scratch;
    const auto base = scratch / "repo";
    fs::create_directory(base);
    if (run_quietly({"mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", base.c_str()}) != 0)
        OVERMOUNT_SKIP("cannot mount a tmpfs");
    const auto repo = open(scratch);
    std::string content(4u << 20, '\0');
    std::minstd_rand random(1);
    for (char& c : content)
        c = static_cast<char>(random() & 0xff);
    const auto source = layout_of(scratch, {tar_writer().file("big", content).finish()});
    const auto before = files_of(base);
    bool full = false;
    try {
        (void)get(repo.import_image(source, for_amd64()));
    } catch (const overmount::error& failure) {
        const std::string text = failure.what();
        CAPTURE(text);
        full = failure.code() == condition::no_space;
        CHECK(full);
        CHECK(text.find('\n') == std::string::npos);
    }
    CHECK(full);
    CHECK(repo.images().empty());
    CHECK(repo.layers().empty());
    check_nothing_pending(base);
    CHECK(tree_difference(before, files_of(base)) == "");
}

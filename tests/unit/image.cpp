#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/oci_layout.hpp>
#include <overmount/overmount.hpp>

#include "support/catch.hpp"
#include "support/error_of.hpp"
#include "support/image_builder.hpp"
#include "support/may_mount.hpp"
#include "support/read_all.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <future>
#include <map>
#include <set>
#include <sstream>
#include <tuple>
#include <unordered_set>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::read_all;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

using repositories = std::tuple<om::repository, om::virtual_repository>;

template <class Repository>
class kept
{
public:
    using image_type = typename Repository::image;
    explicit kept(om::repository_options options = om::repository_options())
        : repository(get(Repository::open(scratch / "repository", options.workers(1))))
    {
    }
    image_type image(const std::vector<tar_writer>& tars)
    {
        std::optional<om::chain_id> top;
        for (const tar_writer& tar : tars) {
            std::ofstream(scratch / "tar", std::ios::binary) << tar.finish();
            top = get(repository.create_layer(scratch / "tar", top));
        }
        auto config = om::image_config_edit(om::platform("linux", "amd64")).build(om::limits());
        return get(repository.create_image(config, top));
    }

    scratch_directory scratch;
    Repository repository;
};

// The content, or the error.
template <class Image>
std::string cat(const Image& image, const std::string& path)
{
    try {
        return get(read_all(get(image.open(path))));
    } catch (const om::error& failure) {
        CHECK(failure.entry() == path);
        if (failure.code() == errc::entry_not_found)
            return "error: ENOENT";
        if (failure.code() == errc::not_a_regular_file)
            return "error: no file";
        const int number = failure.code().value();
        return number == ELOOP ? "error: ELOOP" : number == ENOTDIR ? "error: ENOTDIR" : failure.what();
    }
}

// `PATH TYPE LAYER`, one line per entry; the lowest layer is 0. A hard link comes with its target.
template <class Image>
std::string list(const Image& image)
{
    auto layers = image.layers();
    std::reverse(layers.begin(), layers.end());
    std::string out;
    auto visitor = [&](const om::tar::entry& one, const auto& from) {
        out += one.path + " " + "fhlcbdp"[static_cast<int>(one.type)] + " ";
        out += std::to_string(std::find(layers.begin(), layers.end(), from) - layers.begin());
        if (one.type == om::tar::entry_type::hard_link || one.type == om::tar::entry_type::symbolic_link)
            out += " " + one.link_target;
        out += "\n";
    };
    get(image.files(visitor));
    return out;
}

// Everything that one layer can do to another, and links of each kind.
std::vector<tar_writer> rich()
{
    tar_writer low, high;
    low.directory(".", {.mode = 0711, .mtime = 5})
        .directory("etc", {.mode = 0750, .uid = 7, .gid = 8})
        .file("etc/passwd", "root")
        .file("etc/gone", "gone")
        .directory("usr")
        .directory("usr/lib")
        .file("usr/lib/os-release", "ID=x", {.mode = 04755, .uid = 1000})
        .symlink("etc/os-release", "../usr/lib/os-release")
        .symlink("absolute", "/etc/passwd")
        .symlink("out", "../../../../etc/passwd")
        .symlink("far", "/../../etc/passwd")
        .symlink("lib", "/usr/lib")
        .symlink("to-gone", "etc/gone")
        .symlink("self", "self")
        .symlink("a", "b")
        .symlink("b", "a")
        .symlink("trailing", "etc/passwd/")
        .directory("hidden")
        .file("hidden/old", "old")
        .file("swap", "a file")
        .directory("was-directory")
        .file("was-directory/x", "x")
        .file("h1", "linked")
        .hard_link("h2", "h1")
        .hard_link("h3", "h1")
        .file("replaced", "first")
        .hard_link("kept", "replaced")
        .fifo("pipe")
        .character_device("null", 1, 3)
        .file("empty", "");
    for (int i = 1; i <= 41; ++i)
        low.symlink("l" + std::to_string(i), i == 1 ? "etc/passwd" : "l" + std::to_string(i - 1));
    high.whiteout("etc/gone")
        .file("etc/passwd", "changed")
        .opaque("hidden")
        .file("hidden/new", "new")
        .directory("swap")
        .file("swap/inner", "inner")
        .file("was-directory", "now a file")
        .whiteout("h1")
        .file("replaced", "second")
        .file("z/first", "shared")
        .hard_link("second", "z/first")
        .symlink("swap/back", "../hidden/new")
        .file("deep/er/x", std::string(70000, 'x'));
    return {low, high};
}

} // namespace

TEMPLATE_LIST_TEST_CASE("an image lists the merged view of its layers, each path with its layer", "", repositories)
{
    kept<TestType> made;
    const auto image = made.image({tar_writer()
                                       .directory("d")
                                       .file("d/both", "1")
                                       .file("d/gone", "1")
                                       .directory("opaque")
                                       .file("opaque/old", "1")
                                       .file("swap", "1")
                                       .directory("tree")
                                       .file("tree/leaf", "1")
                                       .file("a", "1")
                                       .hard_link("b", "a"),
                                   tar_writer()
                                       .whiteout("d/gone")
                                       .file("d/both", "2")
                                       .opaque("opaque")
                                       .file("opaque/new", "2")
                                       .directory("swap")
                                       .file("swap/in", "2")
                                       .file("tree", "2")
                                       .whiteout("a")
                                       .file("new/er/z", "2")
                                       .hard_link("new/er/y", "new/er/z")
                                       .symlink("s", "/d/both")});
    CHECK(list(image) == "b f 0\nd d 0\nd/both f 1\nnew d 1\nnew/er d 1\nnew/er/y f 1\nnew/er/z h 1 new/er/y\nopaque d 0\n"
                         "opaque/new f 1\ns l 1 /d/both\nswap d 1\nswap/in f 1\ntree f 1\n");
    CHECK(list(made.image({})) == "");
    CHECK(list(made.image({tar_writer().directory(".", {.mode = 0700})})) == ". d 0\n");
}

TEMPLATE_LIST_TEST_CASE("a file of an image is opened with links followed inside the image", "", repositories)
{
    kept<TestType> made;
    const auto image = made.image(rich());
    for (const char* path : {"etc/passwd", "/etc/passwd", "absolute", "out", "far", "lib/../../etc/passwd", "/../..//etc/./passwd", "l40"})
        CHECK(cat(image, path) == "changed");
    CHECK(cat(image, "etc/os-release") == "ID=x");
    CHECK(cat(image, "lib/os-release") == "ID=x");
    CHECK(cat(image, "empty") == "");
    CHECK(cat(image, "deep/er/x") == std::string(70000, 'x'));
    // Whiteouts, opaque directories, and entries that replace others.
    for (const char* path : {"etc/gone", "to-gone", "hidden/old", "h1", "was-directory-x", ".wh.h1", "etc/.wh.gone", "hidden/.wh..wh..opq", "no"})
        CHECK(cat(image, path) == "error: ENOENT");
    CHECK(cat(image, "hidden/new") == "new");
    CHECK(cat(image, "swap/inner") == "inner");
    CHECK(cat(image, "swap/back") == "new");
    CHECK(cat(image, "was-directory") == "now a file");
    CHECK(cat(image, "was-directory/x") == "error: ENOTDIR");
    // Each name of a hard-linked file has the data, also if the first one is deleted or replaced in a layer above.
    CHECK(cat(image, "h2") == "linked");
    CHECK(cat(image, "h3") == "linked");
    CHECK(cat(image, "kept") == "first");
    CHECK(cat(image, "replaced") == "second");
    CHECK(cat(image, "second") == "shared");
    CHECK(cat(image, "z/first") == "shared");
    for (const char* path : {"", "/", "etc", "lib", "pipe", "null", "swap"})
        CHECK(cat(image, path) == "error: no file");
    for (const char* path : {"self", "a", "l41", "self/x"})
        CHECK(cat(image, path) == "error: ELOOP");
    for (const char* path : {"etc/passwd/", "trailing", "etc/passwd/../passwd"})
        CHECK(cat(image, path) == "error: ENOTDIR");
    const auto layers = image.layers();
    CHECK(get(image.layer_of("etc/passwd")) == layers[0]);
    CHECK(get(image.layer_of("/etc")) == layers[1]);
    CHECK(get(image.layer_of("absolute")) == layers[1]); // of the link
    CHECK(get(image.layer_of("lib/os-release")) == layers[1]);
    CHECK(get(image.layer_of("deep")) == layers[0]);
    CHECK_THROWS_AS(get(image.layer_of("etc/gone")), om::error);
}

TEMPLATE_LIST_TEST_CASE("a sparse file of an image has zeros in its holes", "", repositories)
{
    kept<TestType> made;
    om::test::tar_attributes sparse;
    sparse.pax = {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", "f"}, {"GNU.sparse.realsize", "10000"}};
    std::string map = "1\n4096\n4\n";
    map.resize(512);
    const auto image = made.image({tar_writer().file("GNUSparseFile.0/f", map + "data", sparse), tar_writer().symlink("s", "f")});
    CHECK(cat(image, "s") == std::string(4096, '\0') + "data" + std::string(10000 - 4100, '\0'));
}

TEST_CASE("both storages list the same files of an image")
{
    kept<om::repository> trees;
    kept<om::virtual_repository> tars;
    const auto one = trees.image(rich());
    const auto other = tars.image(rich());
    CHECK(list(one) == list(other));
    CHECK(list(one).find("etc/passwd f 1\n") != std::string::npos);
}

namespace {

// The mount's entry at a path, looked up as after a chroot into the mount.
std::string cat_mounted(int root, const std::string& path)
{
    struct open_how how = {};
    how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
    how.resolve = RESOLVE_IN_ROOT;
    const om::unique_fd file(static_cast<int>(::syscall(SYS_openat2, root, path.c_str(), &how, sizeof how)));
    if (!file)
        return errno == ELOOP ? "error: ELOOP" : errno == ENOTDIR ? "error: ENOTDIR" : errno == ENOENT ? "error: ENOENT" : "error: no file";
    struct stat status;
    if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
        return "error: no file";
    std::string out(static_cast<std::size_t>(status.st_size), '\0');
    REQUIRE(::pread(file.get(), out.data(), out.size(), 0) == static_cast<ssize_t>(out.size()));
    return out;
}

std::string line_of(const std::string& path, mode_t type, std::uint32_t mode, std::uint32_t uid, std::uint32_t gid,
                    std::uint64_t size, std::int64_t time, const std::string& target)
{
    std::ostringstream out;
    out << path << " type " << type << " mode " << std::oct << mode << std::dec << " owner " << uid << ":" << gid;
    if (type == S_IFREG)
        out << " size " << size;
    out << " time " << time << " -> " << target;
    return out.str();
}

mode_t type_of(om::tar::entry_type type)
{
    using om::tar::entry_type;
    switch (type) {
    case entry_type::symbolic_link: return S_IFLNK;
    case entry_type::character_device: return S_IFCHR;
    case entry_type::block_device: return S_IFBLK;
    case entry_type::directory: return S_IFDIR;
    case entry_type::fifo: return S_IFIFO;
    default: return S_IFREG;
    }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("an image lists and opens the same files as its mount", "", repositories)
{
    if (!om::test::may_mount())
        OVERMOUNT_SKIP("may not mount");
    kept<TestType> made;
    const auto image = made.image(rich());
    kept<om::repository> mountable;
    auto mounted = get(mountable.image(rich()).mount());

    std::map<std::string, std::string> shown, there;
    std::map<std::string, om::tar::entry> entries;
    std::set<std::string> implied{"z", "deep", "deep/er"}; // their times are those of the unpacking
    auto visitor = [&](const om::tar::entry& one, const auto&) {
        om::tar::entry what = one;
        if (one.type == om::tar::entry_type::hard_link)
            what = entries.at(one.link_target);
        entries[one.path] = what;
        shown[one.path] = line_of(one.path, type_of(what.type), what.mode, what.uid, what.gid, what.size,
                                  implied.contains(one.path) ? 0 : what.mtime.seconds, what.link_target);
    };
    get(image.files(visitor));
    std::vector<std::string> paths{"."};
    for (const auto& one : fs::recursive_directory_iterator(mounted.target()))
        paths.push_back(fs::relative(one.path().parent_path(), mounted.target()) / one.path().filename());
    for (std::string& path : paths) {
        if (path.starts_with("./"))
            path.erase(0, 2);
        const std::string file = mounted.target() + "/" + path;
        struct stat status;
        REQUIRE(::lstat(file.c_str(), &status) == 0);
        there[path] = line_of(path, status.st_mode & S_IFMT, status.st_mode & 07777, status.st_uid, status.st_gid,
                              static_cast<std::uint64_t>(status.st_size), implied.contains(path) ? 0 : status.st_mtime,
                              S_ISLNK(status.st_mode) ? fs::read_symlink(file).string() : std::string());
    }
    for (const auto& [path, line] : there)
        CHECK(shown[path] == line);
    CHECK(shown.size() == there.size());

    // Each path, and paths that could lead out of the image.
    om::unique_fd root(::open(mounted.target().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    for (const char* more : {"", "/", "/.", "/..", "/../etc/passwd", "/x", "/../../../etc/passwd"})
        for (const std::string& path : paths) {
            const std::string whole = path + more;
            CAPTURE(whole);
            CHECK(cat(image, whole) == cat_mounted(root.get(), whole));
        }
    root.reset();
    get(mounted.unmount());
}

TEMPLATE_LIST_TEST_CASE("a tag is confirmed if its image is whole, and lasts as long as is asked for", "", repositories)
{
    const scratch_directory scratch;
    om::test::image_source source{.tags = {"example.org/test:1"}};
    for (const char* name : {"lower", "upper"})
        source.layers.push_back({tar_writer().file(name, name).finish()});
    om::test::oci_layout_writer writer;
    writer.add(source);
    writer.finish().write_directory(scratch / "source");
    const om::oci_layout layout((scratch / "source").string());
    const auto open = [&scratch](om::durability sync) {
        return get(TestType::open(scratch / "repository", om::repository_options().workers(1).sync(sync)));
    };
    const auto careless = open(om::durability::none), careful = open(om::durability::batch);
    const auto import = [&layout](const TestType& into) {
        return get(into.import_image(layout, om::import_options().wanted({"linux", "amd64"})));
    };
    CHECK(om::test::error_of([&] { return get(careful.confirm_tag("example.org/test:1")); }).code() == errc::tag_not_found);
    const auto image = import(careless);
    CHECK(get(careless.confirm_tag("example.org/test:1")));
    CHECK_FALSE(get(careful.confirm_tag("example.org/test:1")));
    import(careful);
    const om::tag_record before = careful.tag("example.org/test:1");
    CHECK(get(careful.confirm_tag("example.org/test:1")));
    CHECK(careful.tag("example.org/test:1").time == before.time);
    CHECK(careful.tag("example.org/test:1").manifest == before.manifest);

    const auto lacks = [&](const fs::path& what) {
        fs::rename(scratch / "repository" / what, scratch / "aside");
        CHECK_FALSE(get(careless.confirm_tag("example.org/test:1")));
        CHECK_FALSE(get(careful.confirm_tag("example.org/test:1")));
        fs::rename(scratch / "aside", scratch / "repository" / what);
        CHECK(get(careful.confirm_tag("example.org/test:1")));
    };
    const auto path_of = [](const om::digest& id) { return fs::path(std::string(to_string(id.algorithm()))) / id.hex(); };
    for (const auto& layer : image.layers()) {
        lacks("diffs" / path_of(layer.diff().value()));
        lacks("layers" / path_of(layer.id().value()));
    }
    lacks("images" / path_of(image.id()) / "config.json");
    lacks("manifests/" + std::string(to_string(before.manifest->algorithm())) + "-" + before.manifest->hex() + ".json");
}

TEMPLATE_LIST_TEST_CASE("an image knows its size, its tags and its manifest", "", repositories)
{
    kept<TestType> made;
    const auto plain = made.image({tar_writer().file("f", "1"), tar_writer().file("g", "2"), tar_writer().file("f", "1")});
    const auto layers = plain.layers();
    CHECK(plain.size() == layers[0].size() + layers[1].size() + layers[2].size());
    CHECK(plain.tags().empty());
    CHECK_FALSE(plain.manifest());
    get(made.repository.add_tag("b", plain.id()));
    get(made.repository.add_tag("a", plain.id()));

    om::test::image_source source{.tags = {"example.org/test:1"}};
    source.layers.push_back({tar_writer().file("below", "below").finish()});
    om::test::oci_layout_writer writer;
    writer.add(source);
    writer.finish().write_directory(made.scratch / "source");
    const om::oci_layout layout((made.scratch / "source").string());
    const auto image = get(made.repository.import_image(layout, om::import_options().wanted({"linux", "amd64"})));
    REQUIRE(plain.tags().size() == 2);
    CHECK(plain.tags()[0].name == "docker.io/library/a:latest");
    CHECK(plain.tags()[1].name == "docker.io/library/b:latest");
    REQUIRE(image.tags().size() == 1);
    CHECK(image.tags()[0].name == "example.org/test:1");
    REQUIRE(image.tags()[0].manifest);
    CHECK_FALSE(plain.manifest());

    const auto found = image.manifest();
    REQUIRE(found);
    CHECK(om::digest::of(found->bytes()) == *image.tags()[0].manifest);
    CHECK(found->config().digest() == image.id());
    const fs::path file = made.repository.base() / "manifests" / ("sha256-" + image.tags()[0].manifest->hex() + ".json");
    SECTION("without a tag the manifest is found by its config")
    {
        get(made.repository.remove_tag("example.org/test:1"));
        REQUIRE(image.manifest());
        CHECK(image.manifest()->bytes() == found->bytes());
    }
    SECTION("a damaged manifest is named in the error")
    {
        std::ofstream(file) << "{}";
        try {
            static_cast<void>(image.manifest());
            FAIL("no error");
        } catch (const om::error& failure) {
            CHECK(failure.code() == errc::digest_mismatch);
            CHECK(failure.subject().find(image.tags()[0].manifest->hex()) != std::string::npos);
        }
    }
    SECTION("a missing manifest gives nullopt")
    {
        fs::remove(file);
        CHECK_FALSE(image.manifest());
    }
}

TEMPLATE_LIST_TEST_CASE("images are compared by their IDs, printed and hashed", "", repositories)
{
    kept<TestType> made, other;
    const auto one = made.image({tar_writer().file("f", "1")}), two = made.image({tar_writer().file("f", "2")});
    const auto same = other.image({tar_writer().file("f", "1")});
    CHECK(one == same);
    CHECK(one != two);
    CHECK((one < two) == (one.id() < two.id()));
    std::ostringstream text;
    text << one;
    CHECK(text.str() == one.id().string());
    CHECK(std::unordered_set{one, two, same}.size() == 2);
}

TEMPLATE_LIST_TEST_CASE("a view beyond the limits, a lost layer and a damaged layer are errors", "", repositories)
{
    om::limits bounds;
    kept<TestType> made;
    const auto image = made.image({tar_writer().file("a", "").file("b", "").file("c", "")});
    const auto code_of = [](const auto& of) {
        try {
            auto visitor = [](const om::tar::entry&, const auto&) {};
            get(of.files(visitor));
        } catch (const om::error& failure) {
            return failure.code();
        }
        return boost::system::error_code();
    };
    CHECK(code_of(image) == boost::system::error_code());
    bounds.entries = 4;
    const auto narrow = get(TestType::open(made.scratch / "repository", om::repository_options().workers(1).bounds(bounds)));
    CHECK(code_of(narrow.find_image(image.id().string())) == errc::too_many_entries);
    for (const auto& diff : fs::directory_iterator(made.repository.base() / "diffs/sha256"))
        fs::remove_all(diff);
    CHECK(code_of(image) == errc::layer_not_found);
    CHECK_THROWS_AS(get(image.open("a")), om::error);
    CHECK_THROWS_AS(image.size(), om::error);
}

TEMPLATE_LIST_TEST_CASE("an exception of the visitor ends the listing, and so does a cancellation", "", repositories)
{
    kept<TestType> made;
    const auto image = made.image({tar_writer().file("a", "").file("b", "")});
    int count = 0;
    auto throws = [&count](const om::tar::entry&, const auto&) {
        ++count;
        throw std::runtime_error("enough");
    };
    CHECK_THROWS_AS(get(image.files(throws)), std::runtime_error);
    CHECK(count == 1);

    asio::io_context context;
    asio::cancellation_signal signal;
    std::exception_ptr failure;
    int calls = 0;
    auto visitor = [&](const om::tar::entry&, const auto&) {
        if (++calls == 1) {
            std::promise<void> raised;
            asio::post(context, [&] {
                signal.emit(asio::cancellation_type::terminal);
                raised.set_value();
            });
            raised.get_future().wait();
        }
    };
    asio::co_spawn(context, image.files(visitor), asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr end) { failure = end; }));
    context.run_for(std::chrono::seconds(60));
    REQUIRE(failure);
    CHECK_THROWS_AS(std::rethrow_exception(failure), boost::system::system_error);
    CHECK(calls == 1);
}

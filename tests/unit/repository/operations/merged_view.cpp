#include <overmount/repository.hpp>

#include "support/catch.hpp"
#include "support/read_all.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"
#include "support/tar_writer.hpp"
#include "support/tree.hpp"

#include <unistd.h>

#include <fstream>

namespace asio = boost::asio;
using ::test::get;
namespace fs = std::filesystem;
namespace om = overmount;

using om::errc;
using om::test::list_tree;
using om::test::read_all;
using om::test::scratch_directory;
using om::test::tar_writer;

namespace {

template <class Repository>
class kept
{
public:
    kept() : repository(get(Repository::open(scratch / "repository", om::repository_options().workers(1)))) {}

    // Creates these layers; returns the topmost.
    std::optional<om::chain_id> chain(const std::vector<tar_writer>& tars)
    {
        std::optional<om::chain_id> top;
        for (const tar_writer& tar : tars) {
            std::ofstream(scratch / "tar", std::ios::binary) << tar.finish();
            top = get(repository.create_layer(scratch / "tar", top));
        }
        return top;
    }
    // One line for each change: `A path type`.
    std::string changes(const std::vector<tar_writer>& from, const std::vector<tar_writer>& to)
    {
        std::string out;
        for (const om::change& one : get(repository.diff(chain(from), chain(to)))) {
            out += "ACD"[static_cast<int>(one.kind)];
            out += " /" + one.path + " " + "fhlcbdp"[static_cast<int>(one.type)] + "\n";
        }
        return out;
    }

    scratch_directory scratch;
    Repository repository;
};

// Two layers with all types of entries.
std::vector<tar_writer> rich()
{
    return {tar_writer()
                .directory(".", {.mode = 0711, .mtime = 5})
                .directory("d", {.mode = 0750, .uid = 7, .xattrs = {{"user.a", "1"}}})
                .file("d/f", std::string(1000, 'f'), {.mode = 04755, .uid = 1000, .mtime_ns = 5})
                .file("d/gone", "gone")
                .directory("hidden")
                .file("hidden/old", "old")
                .file("empty", "")
                .file("block", std::string(512, 'b')),
            tar_writer()
                .whiteout("d/gone")
                .opaque("hidden")
                .file("hidden/new", "new")
                .file("d/z", "linked", {.xattrs = {{"user.b", std::string("\0\xff", 2)}}})
                .hard_link("a-link", "d/z")
                .symlink("s", "d/f")
                .fifo("p", {.mode = 0600})
                .file("deep/er/x", std::string(70000, 'x'))
                .file("n\xc3\xa4me", "utf")};
}

using repositories = std::tuple<om::repository, om::virtual_repository>;

} // namespace

TEMPLATE_LIST_TEST_CASE("the differences between two stacks of layers are listed by path", "", repositories)
{
    kept<TestType> made;
    const tar_writer base = tar_writer().directory("d").file("d/same", "1").file("d/text", "abc").file("gone", "1");
    CHECK(made.changes({base}, {base}) == "");
    CHECK(made.changes({}, {base}) == "A /d d\nA /d/same f\nA /d/text f\nA /gone f\n");
    CHECK(made.changes({base}, {}) == "D /d d\nD /d/same f\nD /d/text f\nD /gone f\n");
    CHECK(made.changes({base}, {base, tar_writer().whiteout("gone").file("d/text", "abd").file("new", "").symlink("l", "x")}) ==
          "C /d/text f\nD /gone f\nA /l l\nA /new f\n");
    CHECK(made.changes({base}, {base, tar_writer().directory("gone").directory(".")}) == "C / d\nC /gone d\n");
}

TEMPLATE_LIST_TEST_CASE("files of different layers are equal if their attributes and their data are", "", repositories)
{
    kept<TestType> made;
    const std::string data(200000, 'x');
    const auto file = [](const std::string& text, const om::test::tar_attributes& attributes = {}) {
        return std::vector<tar_writer>{tar_writer().file("f", text, attributes)};
    };
    const std::vector<tar_writer> again{tar_writer().file("other", "1"), tar_writer().whiteout("other").file("f", data)};
    CHECK(made.changes(file(data), again) == "");
    CHECK(made.changes(file(data), file(std::string(199999, 'x') + "y")) == "C /f f\n");
    CHECK(made.changes(file(data), file(data + "x")) == "C /f f\n");
    CHECK(made.changes(file(data), file(data, {.mode = 0600})) == "C /f f\n");
    CHECK(made.changes(file(data), file(data, {.uid = 1})) == "C /f f\n");
    CHECK(made.changes(file(data), file(data, {.gid = 1})) == "C /f f\n");
    CHECK(made.changes(file(data), file(data, {.mtime_ns = 1})) == "C /f f\n");
    CHECK(made.changes(file(data), file(data, {.xattrs = {{"user.x", "1"}}})) == "C /f f\n");
    CHECK(made.changes({tar_writer().symlink("l", "a")}, {tar_writer().symlink("l", "b")}) == "C /l l\n");
    CHECK(made.changes({tar_writer().character_device("c", 1, 3)}, {tar_writer().character_device("c", 1, 5)}) == "C /c c\n");
    CHECK(made.changes({tar_writer().file("f", "1").hard_link("g", "f")}, {tar_writer().file("f", "1").file("g", "1")}) == "");
}

TEMPLATE_LIST_TEST_CASE("a flattened tar is the same for the same layers, however it is read, and has the same view", "",
                        repositories)
{
    kept<TestType> made;
    const auto top = made.chain(rich());
    const std::string tar = get(read_all(get(made.repository.flatten(top)), 1 << 20));
    CHECK(get(read_all(get(made.repository.flatten(top)), 7)) == tar);
    CHECK(tar.find("old") == std::string::npos);
    std::ofstream(made.scratch / "tar", std::ios::binary) << tar;
    const auto flat = get(made.repository.create_layer(made.scratch / "tar"));
    CHECK(get(made.repository.diff(top, flat)).empty());
    CHECK(get(read_all(get(made.repository.flatten(flat)), 1 << 20)) == tar);
    // The first of the two paths has the data.
    std::vector<std::string> names;
    auto visitor = [&names](const om::tar::entry& one) {
        names.push_back(one.path + (one.type == om::tar::entry_type::hard_link ? " -> " + one.link_target : ""));
    };
    test::run_coroutine(flat.files(std::move(visitor)));
    CHECK(names == std::vector<std::string>{"./", "a-link", "block", "d/", "d/f", "d/z -> a-link", "deep/", "deep/er/",
                                            "deep/er/x", "empty", "hidden/", "hidden/new", "n\xc3\xa4me", "p", "s"});
    CHECK(get(read_all(get(made.repository.flatten(std::nullopt)), 7)) == std::string(1024, '\0'));
}

TEMPLATE_LIST_TEST_CASE("a squashed image has one layer, one history entry and the same view", "", repositories)
{
    kept<TestType> made;
    const auto top = made.chain(rich());
    om::history_entry step;
    const auto config = om::image_config_edit(om::platform("linux", "amd64")).user("me").created("2024-01-01T00:00:00Z");
    const auto image = get(made.repository.create_image(config.build(om::limits()), top));
    const auto squashed = get(made.repository.squash(image, om::import_options().tag("small")));
    CHECK(squashed.config().diff_ids().size() == 1);
    REQUIRE(squashed.config().history().size() == 1);
    CHECK(squashed.config().history()[0].comment == "2 layers as one");
    CHECK(squashed.config().history()[0].created == "2024-01-01T00:00:00Z");
    CHECK(squashed.config().user() == "me");
    CHECK(made.repository.find_image("small").id() == squashed.id());
    CHECK(get(made.repository.diff(image, squashed)).empty());
    CHECK(get(made.repository.squash(image)).id() == squashed.id());
    CHECK(fs::is_empty(made.repository.base() / "tmp"));
    CHECK(fs::is_empty(made.repository.base() / "leases"));
}

TEST_CASE("the changes between two images are those between their mounts, and a squashed image mounts the same")
{
    if (::geteuid() != 0) {
        WARN("SKIPPED: mounting needs root");
        return;
    }
    kept<om::repository> made;
    const auto config = om::image_config_edit(om::platform("linux", "amd64")).build(om::limits());
    const auto layers = rich();
    const auto below = get(made.repository.create_image(config, made.chain({layers[0]})));
    const auto all = get(made.repository.create_image(config, made.chain(layers)));
    const auto squashed = get(made.repository.squash(all));
    const auto mount_below = get(below.mount()), mount_all = get(all.mount()), mount_squashed = get(squashed.mount());
    const std::string old = list_tree(mount_below.target()), now = list_tree(mount_all.target());
    CHECK(om::test::tree_difference(now, list_tree(mount_squashed.target())) == "");

    std::map<std::string, std::string> lines[2];
    for (const auto* text : {&old, &now}) {
        std::istringstream in(*text);
        for (std::string line; std::getline(in, line);) {
            const auto cut = line.find(' ');
            lines[text == &now][line.substr(0, cut)] = line.substr(cut);
        }
    }
    std::set<std::string> wanted, found;
    for (const auto& [path, line] : lines[0])
        if (!lines[1].contains(path) || lines[1][path] != line)
            wanted.insert((lines[1].contains(path) ? "C " : "D ") + path);
    for (const auto& [path, line] : lines[1])
        if (!lines[0].contains(path))
            wanted.insert("A " + path);
    for (const om::change& one : get(made.repository.diff(below, all)))
        found.insert(std::string(1, "ACD"[static_cast<int>(one.kind)]) + " " +
                     om::test::escape_field(one.path.empty() ? "." : one.path));
    CHECK(found == wanted);

    // GNU tar extracts the same tree from the flattened tar.
    std::ofstream(made.scratch / "flat", std::ios::binary) << get(read_all(get(made.repository.flatten(all)), 1 << 16));
    fs::create_directory(made.scratch / "out");
    const std::string file = made.scratch / "flat", out = made.scratch / "out";
    REQUIRE(om::test::run_quietly({"tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", file.c_str(), "-C",
                                   out.c_str()}) == 0);
    CHECK(om::test::tree_difference(now, list_tree(out)) == "");
}

TEST_CASE("the error for a file that was changed on disk has its path when it is flattened")
{
    kept<om::repository> made;
    const auto top = made.chain({tar_writer().file("d/f", "text")});
    for (const auto& found : fs::recursive_directory_iterator(made.repository.base() / "diffs"))
        if (found.path().filename() == "f")
            fs::resize_file(found.path(), 3);
    try {
        (void)get(read_all(get(made.repository.flatten(top)), 1 << 16));
        FAIL("no error");
    } catch (const om::error& failure) {
        CHECK(failure.code() == errc::diff_changed);
        CHECK(failure.entry() == "d/f");
    }
}

TEMPLATE_LIST_TEST_CASE("the view of a missing chain is an error", "", repositories)
{
    kept<TestType> made;
    const std::optional missing(om::chain_id::of(om::diff_id(om::digest::of("x"))));
    for (int what = 0; what < 2; ++what) {
        try {
            if (what == 0)
                (void)get(made.repository.diff(std::nullopt, missing));
            else
                (void)get(made.repository.flatten(missing));
            FAIL("no error");
        } catch (const om::error& failure) {
            CHECK(failure.code() == errc::layer_not_found);
        }
    }
}

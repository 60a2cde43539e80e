#include <overmount/core/error.hpp>
#include <overmount/tar/merged_tree.hpp>

#include "support/catch.hpp"

#include <set>
#include <vector>

namespace {

using namespace overmount::tar;
using overmount::detail::merged_tree;
using overmount::errc;
using overmount::limits;

located_entry made(entry_type type, std::string path, unsigned mode, std::string target = "")
{
    located_entry out;
    out.entry.type = type;
    out.entry.path = std::move(path);
    out.entry.mode = mode;
    out.entry.link_target = std::move(target);
    return out;
}
located_entry file(std::string path, unsigned mode = 0644) { return made(entry_type::regular, std::move(path), mode); }
located_entry dir(std::string path, unsigned mode = 0700) { return made(entry_type::directory, std::move(path), mode); }
located_entry soft(std::string path, std::string target)
{
    return made(entry_type::symbolic_link, std::move(path), 0, std::move(target));
}
located_entry hard(std::string path, std::string target)
{
    return made(entry_type::hard_link, std::move(path), 0, std::move(target));
}

using layer = std::vector<located_entry>;

merged_tree merge(const std::vector<layer>& layers, const limits& bounds = limits())
{
    merged_tree out(bounds);
    for (const layer& one : layers) {
        std::uint64_t offset = 0;
        for (located_entry each : one) {
            each.offset = offset++;
            out.add(each);
        }
        out.end_layer();
    }
    return out;
}

// `path type mode layer.offset` for each path, including the root; `*` marks an implied directory.
std::string shown(const std::vector<layer>& layers)
{
    std::string out;
    char mode[8];
    const merged_tree tree = merge(layers);
    for (const auto& [path, what] : tree.items()) {
        std::snprintf(mode, sizeof mode, "%o", what->entry.mode);
        const char type = what->entry.type == entry_type::directory       ? 'd'
                          : what->entry.type == entry_type::symbolic_link ? 'l'
                                                                          : 'f';
        out += "/" + path + " " + type + " " + mode + " ";
        out += what->implied ? "*" : std::to_string(what->layer) + "." + std::to_string(what->offset);
        out += "\n";
    }
    return out;
}

errc failure_of(const std::vector<layer>& layers, const limits& bounds = limits())
{
    try {
        (void)merge(layers, bounds);
    } catch (const overmount::error& failure) {
        return static_cast<errc>(failure.code().value());
    }
    return errc{};
}

const std::string root = "/ d 755 *\n";

} // namespace

TEST_CASE("a merged view has the topmost entry of each path, sorted by the bytes of the path")
{
    CHECK(shown({}) == root);
    CHECK(shown({{dir("./"), dir("./a"), file("./a/x"), file("a-"), file("/b")}, {file("a/y", 0600), file("b", 0400)}}) ==
          "/ d 700 0.0\n/a d 700 0.1\n/a- f 644 0.3\n/a/x f 644 0.2\n/a/y f 600 1.0\n/b f 400 1.1\n");
    CHECK(shown({{dir("a", 0700), file("a/x")}, {dir("a", 0711)}}) == root + "/a d 711 1.0\n/a/x f 644 0.1\n");
}

TEST_CASE("a whiteout deletes entries of the layers below, at any position in its layer")
{
    const layer below{dir("a"), file("a/x"), dir("a/d"), file("a/d/y"), file("a/d0")};
    CHECK(shown({below, {file("a/.wh.d"), file("a/.wh.x"), file(".wh.none")}}) == root + "/a d 700 0.0\n/a/d0 f 644 0.4\n");
    CHECK(shown({below, {file("a/x", 1), file("a/.wh.x"), file("a/.wh.d"), dir("a/d", 2), file(".wh.a")}}) ==
          root + "/a d 755 *\n/a/d d 2 1.3\n/a/x f 1 1.0\n");
    CHECK(shown({below, {file(".wh.a"), file("a/n")}}) == root + "/a d 755 *\n/a/n f 644 1.1\n");
    // The attributes of a directory that was deleted in between are gone.
    CHECK(shown({below, {file(".wh.a")}, {file("a/n")}}) == root + "/a d 755 *\n/a/n f 644 2.0\n");
}

TEST_CASE("an opaque directory hides entries of the layers below, but not of its own layer")
{
    const layer below{dir("a", 0701), file("a/x"), dir("b"), file("b/x")};
    CHECK(shown({below, {file("a/n"), file("a/.wh..wh..opq"), file("a/m")}}) ==
          root + "/a d 701 0.0\n/a/m f 644 1.2\n/a/n f 644 1.0\n/b d 700 0.2\n/b/x f 644 0.3\n");
    CHECK(shown({below, {file(".wh..wh..opq"), file("c")}}) == root + "/c f 644 1.1\n");
    CHECK(shown({below, {file(".wh..wh.plnk/x"), file(".wh..wh.aufs"), file(".wh..wh..opq/x")}}) == shown({below, {}}));
}

TEST_CASE("directories that a layer only implies have the attributes of the layer below")
{
    CHECK(shown({{dir("a", 0701), dir("a/b", 0702)}, {file("a/b/c/x")}}) ==
          root + "/a d 701 0.0\n/a/b d 702 0.1\n/a/b/c d 755 *\n/a/b/c/x f 644 1.0\n");
    CHECK(shown({{file("a")}, {file("a/x")}}) == root + "/a d 755 *\n/a/x f 644 1.0\n");
    CHECK(shown({{file("a/x")}, {dir("a", 0711)}, {file("a/y")}}) ==
          root + "/a d 711 1.0\n/a/x f 644 0.0\n/a/y f 644 2.0\n");
}

TEST_CASE("an entry of another type replaces the lower one with everything below it")
{
    CHECK(shown({{dir("a"), file("a/x")}, {file("a")}}) == root + "/a f 644 1.0\n");
    CHECK(shown({{dir("a"), file("a/x")}, {file("a")}, {dir("a", 1)}}) == root + "/a d 1 2.0\n");
    CHECK(shown({{soft("a", "b"), dir("b")}, {file("a/x")}}) == root + "/a d 755 *\n/a/x f 644 1.0\n/b d 700 0.1\n");
}

TEST_CASE("the last entry of a path in a layer counts")
{
    CHECK(shown({{file("a", 1), file("a", 2)}}) == root + "/a f 2 0.1\n");
    CHECK(shown({{dir("a", 1), file("a/x"), dir("a", 2)}}) == root + "/a d 2 0.2\n/a/x f 644 0.1\n");
    CHECK(shown({{dir("a", 1), file("a/x"), file("a", 2)}}) == root + "/a f 2 0.2\n");
    // A file in between has hidden the entries of the layers below.
    CHECK(shown({{dir("a"), file("a/x")}, {file("a"), dir("a", 3)}}) == root + "/a d 3 1.1\n");
    CHECK(shown({{dir("a"), file("a/x")}, {dir("a"), dir("a", 3)}}) == root + "/a d 3 1.1\n/a/x f 644 0.1\n");
}

TEST_CASE("symbolic links in parent paths are followed within the layer")
{
    CHECK(shown({{dir("usr"), dir("usr/lib"), soft("lib", "usr/lib"), file("lib/x"), file("lib/n/y")}}) ==
          root + "/lib l 777 0.2\n/usr d 700 0.0\n/usr/lib d 700 0.1\n/usr/lib/n d 755 *\n/usr/lib/n/y f 644 0.4\n"
                 "/usr/lib/x f 644 0.3\n");
    CHECK(shown({{dir("a/b"), soft("a/up", "../../../c"), dir("c"), soft("s", "/a/up/."), file("s/x")}}) ==
          root + "/a d 755 *\n/a/b d 700 0.0\n/a/up l 777 0.1\n/c d 700 0.2\n/c/x f 644 0.4\n/s l 777 0.3\n");
    CHECK(shown({{dir("u"), file("u/x")}, {dir("u"), soft("l", "u"), file("l/.wh.x")}}) ==
          root + "/l l 777 1.1\n/u d 700 1.0\n");
    CHECK(shown({{dir("d"), dir("c"), soft("d/s", "/c"), file("d/s/x")}}) ==
          root + "/c d 700 0.1\n/c/x f 644 0.3\n/d d 700 0.0\n/d/s l 777 0.2\n");
    // The link was replaced in the meantime.
    CHECK(shown({{dir("a"), dir("b"), soft("l", "a"), file("l/x"), soft("l", "b"), file("l/x", 1)}}) ==
          root + "/a d 700 0.0\n/a/x f 644 0.3\n/b d 700 0.1\n/b/x f 1 0.5\n/l l 777 0.4\n");
    CHECK(failure_of({{soft("l", "none"), file("l/x")}}) == errc::entry_escapes_layer);
    CHECK(failure_of({{soft("l", "l"), file("l/x")}}) == errc::entry_escapes_layer);
    CHECK(failure_of({{file("f"), file("f/x")}}) == errc::entry_escapes_layer);
    CHECK(failure_of({{dir("d")}, {soft("l", "d"), file("l/x")}}) == errc::entry_escapes_layer);
}

TEST_CASE("hard links of a layer share one node, whatever happens to the first path")
{
    const merged_tree tree = merge({{file("a", 1), hard("b", "./a"), hard("c", "b"), file("a", 2)}, {file("b", 3)}});
    CHECK(tree.items().at("c")->entry.mode == 1);
    CHECK(tree.items().at("a")->entry.mode == 2);
    CHECK(tree.items().at("b")->entry.mode == 3);
    const merged_tree two = merge({{file("a"), hard("b", "a"), hard("a", "b"), soft("s", "x"), hard("t", "s")}});
    CHECK(two.items().at("a") == two.items().at("b"));
    CHECK(two.items().at("s") == two.items().at("t"));
    CHECK(two.items().at("t")->entry.type == entry_type::symbolic_link);
    for (const auto& wrong : {hard("b", "none"), hard("b", "d"), hard("b", "/"), hard("b", "x/y"), hard("b", "w")}) {
        INFO(wrong.entry.link_target);
        CHECK(failure_of({{dir("d"), file(".wh.w"), wrong}}) == errc::missing_hard_link_target);
    }
    CHECK(failure_of({{file("a")}, {hard("b", "a")}}) == errc::missing_hard_link_target);
    CHECK(failure_of({{dir("d"), file("d/f"), hard("d", "d/f")}}) == errc::missing_hard_link_target);
}

TEST_CASE("extended attributes are those that a mount has")
{
    located_entry one = file("a");
    one.entry.xattrs = {{"user.z", "1"}, {"trusted.overlay.opaque", "y"}, {"user.a", ""}, {"security.selinux", "x"}};
    located_entry two = soft("b", "x");
    two.entry.xattrs = {{"user.z", "1"}};
    const merged_tree tree = merge({{one, two}});
    CHECK(tree.items().at("a")->entry.xattrs == std::vector<xattr>{{"user.a", ""}, {"user.z", "1"}});
    CHECK(tree.items().at("b")->entry.xattrs.empty());
}

TEST_CASE("invalid names are refused")
{
    CHECK(failure_of({{file("../a")}}) == errc::entry_escapes_layer);
    CHECK(failure_of({{file("/")}}) == errc::entry_escapes_layer);
    CHECK(failure_of({{file(".wh.")}}) == errc::invalid_whiteout);
    CHECK(failure_of({{file(".wh.a/b")}}) == errc::invalid_whiteout);
}

TEST_CASE("a merged view stays within its limits")
{
    limits few;
    few.entries = 6; // counts the entries of the current layer and of the view
    CHECK(failure_of({{file("a"), file("b"), file("c")}}, few) == errc{});
    CHECK(failure_of({{file("a/b/c/d/e")}}, few) == errc::too_many_entries);
    CHECK(failure_of({{file("a"), file("b"), file("c")}, {file("d"), file("e")}}, few) == errc::too_many_entries);
    limits small;
    small.tree_bytes = 1000;
    located_entry fat = file("a");
    fat.entry.xattrs = {{"user.x", std::string(600, 'x')}};
    CHECK(failure_of({{fat}}, small) == errc{});
    CHECK(failure_of({{fat}, {fat}}, small) == errc::too_many_entries);
}

#include <overmount/core/error.hpp>
#include <overmount/tar/lookup.hpp>

#include "support/catch.hpp"

#include <cerrno>
#include <string>
#include <vector>

namespace {

using namespace overmount::tar;
using overmount::detail::last_link;
using overmount::detail::merged_tree;
using overmount::errc;

void add(merged_tree& to, entry_type type, const std::string& path, const std::string& target = "")
{
    located_entry one;
    one.entry.type = type;
    one.entry.path = path;
    one.entry.link_target = target;
    to.add(one);
}

// `NAME` is a file, `NAME/` a directory, `NAME -> TARGET` a symbolic link.
merged_tree tree_of(const std::vector<std::string>& names)
{
    merged_tree out{overmount::limits()};
    for (const std::string& name : names) {
        const auto arrow = name.find(" -> ");
        if (arrow != std::string::npos)
            add(out, entry_type::symbolic_link, name.substr(0, arrow), name.substr(arrow + 4));
        else
            add(out, name.ends_with('/') ? entry_type::directory : entry_type::regular, name);
    }
    out.end_layer();
    return out;
}

// The path that was found, or the error.
std::string found(const merged_tree& in, const std::string& path, last_link last = last_link::follow)
{
    try {
        return "/" + lookup(in.items(), path, last).first;
    } catch (const overmount::error& failure) {
        CHECK(failure.entry() == path);
        if (failure.code() == errc::entry_not_found)
            return "none";
        if (failure.code() == boost::system::error_code(ENOTDIR, boost::system::system_category()))
            return "no directory";
        if (failure.code() == boost::system::error_code(ELOOP, boost::system::system_category()))
            return "loop";
        return failure.what();
    }
}

} // namespace

TEST_CASE("a path is found with or without a leading slash, and with extra dots and slashes")
{
    const auto tree = tree_of({"d/", "d/e/", "d/e/f", "top"});
    for (const char* path : {"d/e/f", "/d/e/f", "//d///e/./f", "./d/e/f", "d/../d/e/f", "d/e/../e/f", "/../../d/e/f"})
        CHECK(found(tree, path) == "/d/e/f");
    for (const char* path : {"", "/", ".", "..", "d/..", "/../..", "d/e/../../../.."})
        CHECK(found(tree, path) == "/");
    CHECK(found(tree, "d/") == "/d");
    for (const char* path : {"x", "d/x", "d/x/..", "to", "topp", "d/e/f2"})
        CHECK(found(tree, path) == "none");
    for (const char* path : {"top/", "top/.", "top/..", "top/x", "d/e/f/../f"})
        CHECK(found(tree, path) == "no directory");
}

TEST_CASE("links are followed within the root, whatever their target")
{
    const auto tree = tree_of({"d/", "d/f", "f", "e/", "e/g", "d/up -> ../e", "abs -> /d/f", "dir -> /d", "out -> ../../../../f", "d/out -> ../../../d/f",
                               "far -> /../../e/g", "d/here -> .", "root -> /", "none -> nothing", "slash -> f/", "dslash -> d/"});
    CHECK(found(tree, "abs") == "/d/f");
    CHECK(found(tree, "abs", last_link::keep) == "/abs");
    CHECK(found(tree, "dir") == "/d");
    CHECK(found(tree, "dir", last_link::keep) == "/dir");
    CHECK(found(tree, "dir/", last_link::keep) == "/d"); // a trailing slash requires the directory
    CHECK(found(tree, "dir/f", last_link::keep) == "/d/f");
    CHECK(found(tree, "out") == "/f");
    CHECK(found(tree, "d/out") == "/d/f");
    CHECK(found(tree, "far") == "/e/g");
    CHECK(found(tree, "d/here/here/f") == "/d/f");
    CHECK(found(tree, "root/root/d/f") == "/d/f");
    CHECK(found(tree, "dir/up/g") == "/e/g");
    CHECK(found(tree, "d/up/../f") == "/f"); // the parent of the link's target, not of the link
    CHECK(found(tree, "none") == "none");
    CHECK(found(tree, "none/x") == "none");
    CHECK(found(tree, "none", last_link::keep) == "/none");
    CHECK(found(tree, "slash") == "no directory");
    CHECK(found(tree, "dslash") == "/d");
    CHECK(found(tree, "abs/x") == "no directory");
}

TEST_CASE("forty links are followed, but not more")
{
    std::vector<std::string> names{"end", "self -> self", "a -> b", "b -> a", "twice -> twice/x"};
    for (int i = 1; i <= 41; ++i)
        names.push_back("l" + std::to_string(i) + " -> " + (i == 1 ? "end" : "l" + std::to_string(i - 1)));
    const auto tree = tree_of(names);
    CHECK(found(tree, "l40") == "/end");
    CHECK(found(tree, "l41") == "loop");
    CHECK(found(tree, "l41", last_link::keep) == "/l41");
    for (const char* path : {"self", "a", "self/x", "twice"})
        CHECK(found(tree, path) == "loop");
}

// Layers that are hostile or odd, each with its source, and what must come of them: a tree, or an error. Runs
// on every storage: a model gives the tree that its storage keeps of a tar.
#ifndef OVERMOUNT_TESTS_HOSTILE_BATTERY_HPP
#define OVERMOUNT_TESTS_HOSTILE_BATTERY_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"
#include "support/tar_writer.hpp"

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace overmount::test {

// One name of a layer, as a storage keeps it.
struct kept_node
{
    char type = 'f'; // f d l c b p, or w for a whiteout
    unsigned mode = 0, uid = 0, gid = 0;
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    std::string content; // of a file
    std::string target;  // of a symbolic link
    std::string same_as; // the first name of the file, where it has several and this is another
    unsigned major = 0, minor = 0;
    std::map<std::string, std::string> xattrs; // without the mark of an opaque directory
    bool implied = false;                      // a directory without an entry
    bool opaque = false;
    bool holes = false; // takes less room than its size
};
using kept_tree = std::map<std::string, kept_node>; // by path; the root is ""

// One line a path. What is usual is left out: mode 0644, of directories 0755 and of links 0777; owner 0:0;
// time 1700000000, of implied directories 0. The root only where it is not implied, or opaque.
//   a f "text" 0600 7:8 @-1.500000000 user.a="x"
//   d d opaque            e d implied           l l -> target
//   h f = a               n c 1:3               x w
[[nodiscard]] std::string listing_of(const kept_tree& tree);

// Bytes in quotes, all that is not printable as \xNN; a long run as "x"*1000.
[[nodiscard]] std::string literal(std::string_view bytes);

// Where a model keeps its layers: below a directory whose surroundings must stay as they are.
class enclosure
{
public:
    enclosure();
    [[nodiscard]] const std::filesystem::path& base() const noexcept { return base_; }
    // A directory outside, in reach of `..` and of absolute links.
    [[nodiscard]] std::string canary() const { return (scratch_ / "canary").native(); }
    // What lies around, as text.
    [[nodiscard]] std::string surroundings() const;

private:
    scratch_directory scratch_;
    std::filesystem::path base_;
};

// A model has one function, which throws what its storage throws. The bytes come in pieces of `piece`.
struct on_disk
{
    static kept_tree unpack(const enclosure& where, std::string_view bytes, const limits& bounds,
                            std::size_t piece);
};
// The same on a kernel without openat2.
struct on_disk_without_openat2
{
    static kept_tree unpack(const enclosure& where, std::string_view bytes, const limits& bounds,
                            std::size_t piece);
};
// What keeps the tar gives it back, instead of a tree.
struct as_tar
{
    static std::string keep(const enclosure& where, std::string_view bytes, const limits& bounds, std::size_t piece);
};
using models = std::tuple<on_disk, on_disk_without_openat2, as_tar>;

template <class Model>
concept keeps_tars = requires { &Model::keep; };

// Errors that come of entries that do not fit each other, or the file system: nothing that keeps tars must find them.
[[nodiscard]] inline bool needs_a_tree(errc code)
{
    return code == errc::entry_escapes_layer || code == errc::missing_hard_link_target ||
           code == errc::xattr_too_large || code == errc::too_many_entries;
}

template <class Model>
class battery
{
public:
    // `source` names the section, CVE or bug that a case comes from.
    explicit battery(std::string_view source) : source_(source), before_(where_.surroundings()) {}

    limits bounds;

    [[nodiscard]] std::string canary() const { return where_.canary(); }

    void becomes(const tar_writer& archive, const std::vector<std::string>& lines)
    {
        bytes_become(archive.finish(), lines);
    }
    void bytes_become(const std::string& bytes, const std::vector<std::string>& lines)
    {
        std::string expected;
        for (const std::string& line : lines)
            expected += line + "\n";
        for (const std::size_t piece : pieces) {
            INFO(source_ << ", in pieces of " << piece);
            std::string found;
            try {
                if constexpr (keeps_tars<Model>)
                    found = Model::keep(where_, bytes, bounds, piece) == bytes ? expected : "another tar";
                else
                    found = listing_of(Model::unpack(where_, bytes, bounds, piece));
            } catch (const error& failed) {
                found = failed.what();
            }
            CHECK(found == expected);
            CHECK(where_.surroundings() == before_);
        }
    }

    void refused(const tar_writer& archive, errc code) { bytes_refused(archive.finish(), code); }
    void bytes_refused(const std::string& bytes, errc code)
    {
        for (const std::size_t piece : pieces) {
            INFO(source_ << ", in pieces of " << piece);
            std::string found;
            try {
                if constexpr (keeps_tars<Model>) {
                    const bool whole = Model::keep(where_, bytes, bounds, piece) == bytes;
                    found = whole && needs_a_tree(code) ? error(code).code().message() : "no error";
                } else {
                    found = "no error:\n" + listing_of(Model::unpack(where_, bytes, bounds, piece));
                }
            } catch (const error& failed) {
                found = failed.code() == code ? error(code).code().message() : failed.what();
            }
            CHECK(found == error(code).code().message());
            CHECK(where_.surroundings() == before_);
        }
    }

private:
    static constexpr std::size_t pieces[] = {65536, 509};
    std::string source_;
    enclosure where_;
    std::string before_;
};

} // namespace overmount::test

// A case of the battery, once for each model. `layer` is the battery; without root there is nothing to see.
#define HOSTILE(name, source) HOSTILE_CASE(INTERNAL_CATCH_UNIQUE_NAME(hostile_), name, source)
#define HOSTILE_CASE(function, name, source)                                                                 \
    template <class Model>                                                                                   \
    static void function(overmount::test::battery<Model>& layer);                                            \
    TEMPLATE_LIST_TEST_CASE(name, "[hostile]", overmount::test::models)                                      \
    {                                                                                                        \
        if (::geteuid() != 0)                                                                                \
            OVERMOUNT_SKIP("needs root");                                                                    \
        overmount::test::battery<TestType> layer(source);                                                    \
        function(layer);                                                                                     \
    }                                                                                                        \
    template <class Model>                                                                                   \
    static void function([[maybe_unused]] overmount::test::battery<Model>& layer)

#endif

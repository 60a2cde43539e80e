#include <overmount/repository/records/check_records.hpp>

#include "support/catch.hpp"

#include <boost/asio/error.hpp>

#include <cerrno>

using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::errc;
using overmount::error;
using overmount::finding;
using overmount::finding_kind;
using overmount::layer_record;
using overmount::detail::broken_references;
using overmount::detail::is_damage;
using overmount::detail::listed_records;

namespace {

const diff_id low(digest::of("low")), high(digest::of("high"));
const chain_id bottom = chain_id::of(low), top = chain_id::of(bottom, high);
const digest image = digest::of("config"), manifest = digest::of("manifest"), index_id = digest::of("index");

// An image of two layers with a tag.
listed_records whole()
{
    listed_records out;
    out.images[image] = {{low, high}};
    out.layers[bottom] = layer_record{low, std::nullopt};
    out.layers[top] = layer_record{high, bottom};
    out.diffs = {low, high};
    out.manifests = {manifest, index_id};
    out.tags.push_back({"docker.io/library/a:1", image, manifest, "", "", index_id});
    return out;
}

void check_found(const listed_records& all, finding_kind kind, const std::string& object, const std::string& word)
{
    const auto found = broken_references(all);
    REQUIRE(found.size() == 1);
    CHECK(found[0].kind == kind);
    CHECK(found[0].object == object);
    CHECK(found[0].path.empty());
    CHECK(found[0].detail.find(word) != std::string::npos);
}

} // namespace

TEST_CASE("consistent records have no broken references")
{
    CHECK(broken_references({}).empty());
    CHECK(broken_references(whole()).empty());
}

TEST_CASE("a tag whose image, manifest or index is missing is found")
{
    auto all = whole();
    all.tags[0].image = digest::of("nowhere");
    check_found(all, finding_kind::image_missing, "docker.io/library/a:1", digest::of("nowhere").string());
    all = whole();
    all.manifests.erase(manifest);
    check_found(all, finding_kind::manifest_missing, "docker.io/library/a:1", "manifest " + manifest.string());
    all = whole();
    all.manifests.erase(index_id);
    check_found(all, finding_kind::manifest_missing, "docker.io/library/a:1", "index " + index_id.string());
}

TEST_CASE("an image whose layer is missing is found, whichever layer it is")
{
    auto all = whole();
    all.layers.erase(top);
    check_found(all, finding_kind::layer_missing, image.string(), top.string());
    all.diffs.erase(high);
    check_found(all, finding_kind::layer_missing, image.string(), high.string());
}

TEST_CASE("a layer whose parent or diff is missing is found")
{
    auto all = whole();
    all.images.clear();
    all.tags.clear();
    all.layers.erase(bottom);
    check_found(all, finding_kind::parent_missing, top.string(), bottom.string());
    all = whole();
    all.diffs.erase(low);
    check_found(all, finding_kind::diff_missing, bottom.string(), low.string());
}

TEST_CASE("a layer whose record has another chain ID is found")
{
    auto all = whole();
    all.layers[top] = layer_record{low, bottom};
    check_found(all, finding_kind::chain_id_mismatch, top.string(), chain_id::of(bottom, low).string());
    all.layers[top] = layer_record{high, std::nullopt};
    check_found(all, finding_kind::chain_id_mismatch, top.string(), high.string());
    all.layers[top] = layer_record{high, top}; // its own parent
    check_found(all, finding_kind::chain_id_mismatch, top.string(), chain_id::of(top, high).string());
}

TEST_CASE("references of a damaged record are not followed")
{
    auto all = whole();
    all.layers[top].reset();
    CHECK(broken_references(all).empty());
    all.images[image].reset();
    all.layers.clear();
    CHECK(broken_references(all).empty());
}

TEST_CASE("all broken references are found, not only the first")
{
    auto all = whole();
    all.diffs.clear();
    all.manifests.clear();
    all.images.clear();
    CHECK(broken_references(all).size() == 5);
}

TEST_CASE("a lack of memory or descriptors is not damage of the repository")
{
    CHECK(is_damage(error(errc::corrupt_repository)));
    CHECK(is_damage(error(errc::invalid_asset)));
    for (const int number : {EIO, ENOENT, ENOTDIR, EISDIR, ELOOP})
        CHECK(is_damage(error::from_errno(number)));
    for (const int number : {EMFILE, ENFILE, ENOMEM, ENOSPC, EACCES, EPERM, EDQUOT})
        CHECK_FALSE(is_damage(error::from_errno(number)));
    CHECK_FALSE(is_damage(error(boost::asio::error::operation_aborted)));
}

TEST_CASE("each kind of finding has its own name")
{
    std::set<std::string_view> names;
    for (int i = 0; i <= static_cast<int>(finding_kind::diff_unreadable); ++i) {
        const auto name = to_string(static_cast<finding_kind>(i));
        CHECK(name != "unknown");
        CHECK(names.insert(name).second);
    }
}

#include <overmount/repository/operations/collect.hpp>

#include "support/catch.hpp"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::layer_record;
using overmount::detail::collection_marks;
using overmount::detail::document_links;
using overmount::detail::kept_kind;
using overmount::detail::kept_thing;
using overmount::detail::lease_line;
using overmount::detail::leased_kind;
using overmount::detail::path_of;
using overmount::detail::thing_of_lower;

namespace {

using things = std::vector<kept_thing>;

const diff_id low(digest::of("low")), high(digest::of("high")), other(digest::of("other"));
const chain_id bottom = chain_id::of(low), top = chain_id::of(bottom, high), beside = chain_id::of(bottom, other);
const digest config = digest::of("config"), manifest = digest::of("manifest"), index_id = digest::of("index"), blob = digest::of("blob");

kept_thing layer(const chain_id& id) { return {kept_kind::layer, id.value()}; }
kept_thing diff(const diff_id& id) { return {kept_kind::diff, id.value()}; }
kept_thing document(const digest& id) { return {kept_kind::manifest, id}; }
kept_thing bytes(const digest& id) { return {kept_kind::blob, id}; }

// Two chains with the same lowest layer.
collection_marks two_chains()
{
    collection_marks out;
    out.add_layer(bottom, layer_record{low, std::nullopt});
    out.add_layer(top, layer_record{high, bottom});
    out.add_layer(beside, layer_record{other, bottom});
    for (const diff_id& id : {low, high, other})
        out.add_diff(id);
    return out;
}

// A manifest with its index, its blob, and the blobs of its config and of a layer.
void add_documents(collection_marks& to)
{
    to.add_document(manifest, document_links{config, {config, blob}});
    to.add_document(index_id, document_links{std::nullopt, {manifest, digest::of("of another platform")}});
    for (const digest& id : {manifest, config, blob})
        to.add_blob(id);
}

things all_of(const collection_marks& marks)
{
    things out;
    for (const auto& wave : marks.waves())
        out.insert(out.end(), wave.begin(), wave.end());
    std::sort(out.begin(), out.end());
    return out;
}

things sorted(things list)
{
    std::sort(list.begin(), list.end());
    return list;
}

std::size_t wave_of(const collection_marks& marks, const kept_thing& one)
{
    const auto waves = marks.waves();
    for (std::size_t i = 0; i < waves.size(); ++i)
        if (std::find(waves[i].begin(), waves[i].end(), one) != waves[i].end())
            return i;
    FAIL("it stays: " + path_of(one));
    return 0;
}

} // namespace

TEST_CASE("without roots everything is removed")
{
    auto marks = two_chains();
    add_documents(marks);
    marks.add_old_tree(low, 1);
    CHECK(all_of(marks).size() == 6 + 5 + 1);
    CHECK(collection_marks().waves().empty());
}

TEST_CASE("an image keeps its chain, and no other chain that shares a layer with it")
{
    auto marks = two_chains();
    marks.need_image(config, {low, high});
    CHECK(all_of(marks) == sorted({layer(beside), diff(other)}));
}

TEST_CASE("an object is removed in an earlier wave than the objects it refers to")
{
    auto marks = two_chains();
    add_documents(marks);
    for (const auto& [above, below] : {std::pair(layer(top), layer(bottom)), std::pair(layer(beside), layer(bottom)),
                                       std::pair(layer(top), diff(high)), std::pair(layer(bottom), diff(low)),
                                       std::pair(document(manifest), bytes(manifest)), std::pair(bytes(manifest), bytes(config)),
                                       std::pair(bytes(manifest), bytes(blob))})
        CHECK(wave_of(marks, above) < wave_of(marks, below));
}

TEST_CASE("a diff stays while a kept layer refers to it, even if other layers of it are removed")
{
    auto marks = two_chains();
    const chain_id again = chain_id::of(top, low);
    marks.add_layer(again, layer_record{low, top});
    marks.need_image(config, {low});
    CHECK(all_of(marks) == sorted({layer(again), layer(top), layer(beside), diff(high), diff(other)}));
}

TEST_CASE("a lease on a layer keeps all below it")
{
    auto marks = two_chains();
    marks.need({leased_kind::layer, top.value()});
    CHECK(all_of(marks) == sorted({layer(beside), diff(other)}));
}

TEST_CASE("a lease on a diff keeps no layer")
{
    auto marks = two_chains();
    marks.need({leased_kind::diff, low.value()});
    CHECK(all_of(marks) == sorted({layer(bottom), layer(top), layer(beside), diff(high), diff(other)}));
}

TEST_CASE("an image keeps the manifests that have its config, their blobs and their indexes, in whatever order they are found")
{
    const bool documents_first = GENERATE(true, false);
    collection_marks marks;
    if (documents_first)
        add_documents(marks);
    marks.need_image(config, {});
    if (!documents_first)
        add_documents(marks);
    CHECK(all_of(marks).empty());
}

TEST_CASE("a lease on an image that was removed keeps its manifest and blobs")
{
    collection_marks marks;
    add_documents(marks);
    marks.need({leased_kind::image, config});
    CHECK(all_of(marks).empty());
}

TEST_CASE("an index that a tag names keeps no manifest of another platform")
{
    collection_marks marks;
    add_documents(marks);
    const digest another = digest::of("of another platform");
    marks.add_document(another, document_links{digest::of("another config"), {}});
    marks.need(document(manifest));
    marks.need(document(index_id));
    CHECK(all_of(marks) == things{document(another)});
}

TEST_CASE("a layer with a damaged record keeps all layers and diffs, unless an image lists it")
{
    collection_marks marks;
    marks.add_layer(top, std::nullopt);
    marks.add_layer(beside, layer_record{other, beside}); // its own parent
    for (const diff_id& id : {low, high, other})
        marks.add_diff(id);
    marks.add_blob(blob);
    CHECK(all_of(marks) == things{bytes(blob)});
    CHECK(marks.doubtful() == sorted({layer(top), layer(beside)}));

    marks.need_image(config, {low, high});
    marks.need_image(digest::of("second"), {low, other});
    CHECK(marks.doubtful().empty());
    CHECK(all_of(marks) == things{bytes(blob)});
}

TEST_CASE("a damaged document keeps all documents and blobs")
{
    auto marks = two_chains();
    marks.add_document(manifest, std::nullopt);
    marks.add_blob(blob);
    CHECK(marks.doubtful() == things{document(manifest)});
    CHECK(all_of(marks).size() == 6);
    CHECK_FALSE(marks.is_unneeded(bytes(blob)));
}

TEST_CASE("an object that is marked later keeps all that it refers to, whatever was marked before")
{
    auto marks = two_chains();
    CHECK(marks.is_unneeded(layer(bottom)));
    const chain_id above = chain_id::of(top, other);
    marks.need(layer(above)); // another operation leases it, then publishes it
    marks.add_layer(above, layer_record{other, top});
    marks.need(layer(above));
    CHECK(all_of(marks) == things{layer(beside)});
}

TEST_CASE("a layer is needed by the layers that are stacked on it")
{
    auto marks = two_chains();
    marks.need_parents();
    CHECK(marks.is_needed(layer(bottom)));
    CHECK_FALSE(marks.is_needed(layer(top)));
}

TEST_CASE("an old tree is kept for the mounts that use it, and for nothing else")
{
    auto marks = two_chains();
    marks.add_old_tree(low, 1);
    marks.add_old_tree(low, 2);
    marks.need_image(config, {low, high});
    marks.need_image(digest::of("second"), {low, other});
    const auto given = thing_of_lower("sha256/" + low.value().hex() + ".2/rootfs");
    REQUIRE(given);
    marks.need(*given);
    CHECK(all_of(marks) == things{{kept_kind::old_tree, low.value(), 1}});
}

TEST_CASE("old trees are kept while a mount or a lease names their diff, since it may have opened one of them")
{
    auto marks = two_chains();
    marks.add_old_tree(low, 1);
    marks.add_old_tree(high, 1);
    marks.need_image(config, {low, high});
    marks.need_image(digest::of("second"), {low, other});
    CHECK(all_of(marks).size() == 2);
    SECTION("a lease")
    {
        marks.need(lease_line{leased_kind::diff, low.value()});
    }
    SECTION("a mount")
    {
        marks.need_trees_of(low.value());
    }
    CHECK(all_of(marks) == things{{kept_kind::old_tree, high.value(), 1}});
}

TEST_CASE("the path of a lower directory names a diff or an old tree")
{
    const std::string hex = low.value().hex();
    CHECK(thing_of_lower("sha256/" + hex + "/rootfs") == diff(low));
    CHECK(thing_of_lower("sha256/" + hex) == diff(low));
    CHECK(thing_of_lower("sha256/" + hex + ".12") == kept_thing{kept_kind::old_tree, low.value(), 12});
    const std::vector<std::string> others{hex, "sha256/" + hex + ".", "sha256/" + hex + ".x", "sha256/" + hex + ".01", "sha256/x", ""};
    for (const std::string& path : others)
        CHECK_FALSE(thing_of_lower(path));
    CHECK(path_of({kept_kind::old_tree, low.value(), 12}) == "diffs/sha256/" + hex + ".12");
}

TEST_CASE("what an image needs is listed once")
{
    collection_marks marks;
    add_documents(marks);
    CHECK(marks.needs_of(config, {low, high, low}) ==
          sorted({diff(low), diff(high), document(manifest), bytes(manifest), bytes(config), bytes(blob)}));
}

#include <overmount/repository/records/layer_records.hpp>

#include "support/catch.hpp"
#include "support/records.hpp"

using overmount::chain_id;
using overmount::diff_id;
using overmount::digest;
using overmount::durability;
using overmount::errc;
using overmount::layer_record;
using overmount::detail::layer_path;
using overmount::detail::record_batch;
using overmount::test::error_of;
using overmount::test::names_in;
using overmount::test::opened_store;
using overmount::test::write_text;

namespace {

const diff_id diff(digest::of("diff"));
const chain_id below = chain_id::of(diff), above = chain_id::of(below, diff);

} // namespace

TEST_CASE("a layer is read as it was written, and its chain from the top")
{
    const opened_store one;
    for (int i = 0; i < 2; ++i) { // the second time it already exists
        one.put_layer(below, {diff, std::nullopt}, durability::batch);
        one.put_layer(above, {diff, below}, durability::full);
    }
    CHECK(one.records.layers.list().size() == 2);
    CHECK(one.records.layers.find(above)->parent == below);
    CHECK_FALSE(one.records.layers.find(below)->parent);
    CHECK(one.records.layers.chain(above).size() == 2);
    CHECK_FALSE(one.records.layers.find(chain_id(digest::of("stranger"))));
    CHECK(names_in(one.base / "tmp").empty());
}

TEST_CASE("the layers of a chain are published together, whichever of them already exist")
{
    const durability sync = GENERATE(durability::none, durability::batch, durability::full);
    const opened_store one;
    const chain_id top = chain_id::of(above, diff);
    one.put_layer(above, {diff, below}, sync);
    for (int i = 0; i < 2; ++i) {
        record_batch batch(one.records.staging.fd(), sync);
        one.records.layers.add(batch, below, {diff, std::nullopt});
        one.records.layers.add(batch, above, {diff, below});
        one.records.layers.add(batch, top, {diff, above});
        batch.sync_drafts();
        batch.publish();
    }
    CHECK(one.records.layers.chain(top).size() == 3);
    CHECK(one.records.layers.list().size() == 3);
    CHECK(names_in(one.base / "tmp").empty());
}

TEST_CASE("a chain with a gap and a missing layer have different error codes")
{
    const opened_store one;
    const auto chain = [&] { static_cast<void>(one.records.layers.chain(above)); };
    CHECK(error_of(chain).code() == errc::layer_not_found);
    one.put_layer(above, {diff, below});
    CHECK(error_of(chain).code() == errc::parent_not_mounted);
}

TEST_CASE("a layer that is its own parent is damaged, and causes no endless loop")
{
    const opened_store one;
    one.put_layer(above, {diff, above});
    const auto failure = error_of([&] { static_cast<void>(one.records.layers.chain(above)); });
    CHECK(failure.code() == errc::corrupt_repository);
    CHECK(failure.subject() == layer_path(above) + "/layer.json");
}

TEST_CASE("the error for a truncated layer record has its path, and other records are still read")
{
    const opened_store one;
    one.put_layer(below, {diff, std::nullopt});
    one.put_layer(above, {diff, below});
    write_text(one.base / layer_path(above) / "layer.json", "{\"diff");
    const auto failure = error_of([&] { static_cast<void>(one.records.layers.find(above)); });
    CHECK(failure.code() == errc::corrupt_repository);
    CHECK(failure.subject() == layer_path(above) + "/layer.json");
    CHECK(one.records.layers.find(below)->diff == diff);
    CHECK(one.records.layers.list().size() == 2);
}

TEST_CASE("a layer can be removed once")
{
    const opened_store one;
    one.put_layer(below, {diff, std::nullopt});
    CHECK(one.records.layers.remove(one.records.staging.fd(), below, durability::batch));
    CHECK_FALSE(one.records.layers.remove(one.records.staging.fd(), below, durability::batch));
    CHECK(one.records.layers.list().empty());
}

// What every storage policy has to do (storage/storage_policy.hpp), run on each of OVERMOUNT_STORAGES: a
// list of types, defined before this is included. A storage of a user's own is tested by one file:
//     #define OVERMOUNT_STORAGES my_storage
//     #include "conformance/storage_battery.hpp"
#ifndef OVERMOUNT_TESTS_CONFORMANCE_STORAGE_BATTERY_HPP
#define OVERMOUNT_TESTS_CONFORMANCE_STORAGE_BATTERY_HPP

#include "conformance/storage_fixture.hpp"
#include "support/catch.hpp"

#include <array>
#include <atomic>
#include <thread>

namespace overmount::test {

TEMPLATE_TEST_CASE("a diff is not there before it is published", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    auto writer = place.create();
    CHECK_FALSE(place.storage().contains(place.id()));
    place.feed(writer, place.tar());
    CHECK_FALSE(place.storage().contains(place.id()));
    (void)writer.finish();
    CHECK_FALSE(place.storage().contains(place.id()));
    CHECK(writer.publish(place.id()));
    CHECK(place.storage().contains(place.id()));
}

TEMPLATE_TEST_CASE("the record of a diff is the one that its writer finished with", "[storage]",
                   OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    auto writer = place.create();
    place.feed(writer, place.tar());
    const diff_record finished = writer.finish();
    REQUIRE(writer.publish(place.id()));
    CHECK(place.storage().record(place.id()).to_json() == finished.to_json());
    CHECK(finished.entries == 4);
    CHECK(finished.bytes == place.tar().size());
    CHECK(finished.form == std::string_view(TestType::form()));
}

TEMPLATE_TEST_CASE("a diff that nobody has synced is made to last, and its record says so", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    diff_record expected = place.put(place.tar());
    REQUIRE(expected.sync == durability::none);
    struct enough
    {
    };
    CHECK_THROWS_AS(place.storage().make_durable(place.id(), place.staging(), [] { throw enough(); }), enough);
    CHECK(place.storage().record(place.id()).sync == durability::none);
    int polls = 0;
    for (int i = 0; i < 2; ++i) { // the second time it is noted
        place.storage().make_durable(place.id(), place.staging(), [&polls] { ++polls; });
        expected.sync = durability::batch;
        CHECK(place.storage().record(place.id()).to_json() == expected.to_json());
        CHECK(place.storage().contains(place.id()));
    }
    CHECK(polls > 0);
    boost::system::error_code unknown;
    try {
        place.storage().make_durable(place.id("another"), place.staging(), [] {});
    } catch (const error& failure) {
        unknown = failure.code();
    }
    CHECK(unknown == errc::layer_not_found);
}

TEMPLATE_TEST_CASE("an empty layer is a diff like any other", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    for (const std::string& tar : {std::string(1024, '\0'), std::string()}) {
        const diff_record record = place.put(tar);
        CHECK(record.entries == 0);
        CHECK(record.bytes == tar.size());
        CHECK(place.storage().contains(place.id(tar)));
    }
}

TEMPLATE_TEST_CASE("diffs with sha256 and sha512 IDs lie beside each other", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const diff_id other(digest::of(place.tar(), digest_algorithm::sha512));
    place.put(place.tar());
    CHECK_FALSE(place.storage().contains(other));
    auto writer = place.create();
    place.feed(writer, place.tar());
    (void)writer.finish();
    CHECK(writer.publish(other));
    place.storage().erase(place.id());
    CHECK(place.storage().contains(other));
    CHECK_FALSE(place.storage().contains(place.id()));
}

TEMPLATE_TEST_CASE("of two diffs with one ID the first stays until it is erased, and the second is told so",
                   "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    auto first = place.create(), second = place.create();
    place.feed(first, place.tar());
    place.feed(second, place.tar("another", 3)); // so that they can be told apart
    const diff_record kept = first.finish(), dropped = second.finish();
    REQUIRE(kept.to_json() != dropped.to_json());
    CHECK(first.publish(place.id()));
    CHECK_FALSE(second.publish(place.id()));
    CHECK(place.storage().record(place.id()).to_json() == kept.to_json());
    place.storage().erase(place.id());
    CHECK(second.publish(place.id()));
    CHECK(place.storage().record(place.id()).to_json() == dropped.to_json());
}

TEMPLATE_TEST_CASE("a writer that is destroyed leaves nothing but below its staging directory", "[storage]",
                   OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const auto before = place.outside();
    {
        auto unused = place.create(), cut = place.create(), whole = place.create();
        place.feed(cut, place.tar().substr(0, place.tar().size() / 2));
        place.feed(whole, place.tar());
        (void)whole.finish();
    }
    CHECK(place.outside() == before);
    CHECK_FALSE(place.storage().contains(place.id()));
}

TEMPLATE_TEST_CASE("a writer can be moved in the middle of its work", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const std::string half = place.tar().substr(0, 700), rest = place.tar().substr(700);
    auto first = place.create(), other = place.create();
    place.feed(first, half);
    auto second = std::move(first);
    place.feed(other, "");
    other = std::move(second);
    place.feed(other, rest);
    CHECK(other.finish().entries == 4);
    CHECK(other.publish(place.id()));
}

TEMPLATE_TEST_CASE("pieces of any size give the same record", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const std::string whole = place.put(place.tar()).to_json();
    for (const std::size_t size : {1u, 7u, 511u, 512u, 513u, 1536u}) {
        auto writer = place.create();
        place.feed(writer, place.tar(), size);
        CHECK(writer.finish().to_json() == whole);
    }
}

TEMPLATE_TEST_CASE("what a writer leaves to others, done late, gives the same record", "[storage]", OVERMOUNT_STORAGES)
{
    if constexpr (spreading_writer<typename TestType::writer>) {
        storage_fixture<TestType> place;
        const auto expected = place.put(place.tar()).to_json();
        for (const std::size_t piece : {1u, 7u, 512u, 100000u}) {
            auto writer = place.create();
            place.feed_late(writer, place.tar(), piece);
            CHECK(writer.finish().to_json() == expected);
        }
    } else {
        SUCCEED("it leaves nothing");
    }
}

TEMPLATE_TEST_CASE("what is no whole tar is refused and leaves nothing", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const auto before = place.outside();
    std::string damaged = place.tar(), noise(4096, '\x5a');
    damaged[tar_fields::checksum.offset] ^= 1;
    for (const std::string& bad :
         {damaged, noise, place.tar().substr(0, 700), place.tar().substr(0, 512 * 4 + 100)}) {
        const auto failure = place.failure(bad);
        CHECK((failure == condition::invalid_input || failure == condition::corrupt_input));
        CHECK(place.outside() == before);
    }
    place.put(place.tar());
    CHECK(place.storage().contains(place.id()));
}

TEMPLATE_TEST_CASE("a diff that breaks the bounds is refused and leaves nothing", "[storage]",
                   OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const auto before = place.outside();
    limits bounds;
    bounds.entries = 3;
    CHECK(place.failure(place.tar(), bounds) == errc::too_many_entries);
    CHECK(place.outside() == before);
    bounds.entries = 4;
    CHECK_FALSE(place.failure(place.tar(), bounds));
}

TEMPLATE_TEST_CASE("there is no record of a diff that is not there", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    CHECK(place.record_failure(place.id()) == errc::layer_not_found);
    place.put(place.tar());
    CHECK(place.record_failure(place.id("something else")) == errc::layer_not_found);
}

TEMPLATE_TEST_CASE("to erase what is not there does nothing", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const auto empty = place.outside();
    place.storage().erase(place.id());
    CHECK(place.outside() == empty);
    place.put(place.tar());
    const auto before = place.outside();
    place.storage().erase(place.id("something else"));
    CHECK(place.outside() == before);
}

TEMPLATE_TEST_CASE("an erased diff is gone, alone, and can be written again", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    const std::string other = place.tar("another", 1);
    place.put(other);
    const auto before = place.outside();
    for (int round = 0; round < 2; ++round) {
        place.put(place.tar());
        REQUIRE(place.storage().contains(place.id()));
        place.storage().erase(place.id());
        CHECK_FALSE(place.storage().contains(place.id()));
        CHECK(place.record_failure(place.id()) == errc::layer_not_found);
        CHECK(place.storage().contains(place.id(other)));
        CHECK(place.outside() == before);
    }
}

TEMPLATE_TEST_CASE("what one storage published, another one at the same place finds", "[storage]",
                   OVERMOUNT_STORAGES)
{
    for (const durability sync : {durability::none, durability::batch, durability::full}) {
        storage_fixture<TestType> place(sync);
        TestType other(place.where());
        const std::string record = place.put(place.tar()).to_json();
        CHECK(other.contains(place.id()));
        CHECK(other.record(place.id()).to_json() == record);
        other.erase(place.id());
        CHECK_FALSE(place.storage().contains(place.id()));
    }
}

TEMPLATE_TEST_CASE("a form has a name, always the same", "[storage]", OVERMOUNT_STORAGES)
{
    const std::string first{std::string_view(TestType::form())};
    CHECK_FALSE(first.empty());
    storage_fixture<TestType> place;
    CHECK(std::string_view(TestType::form()) == first);
}

TEMPLATE_TEST_CASE("several threads write diffs and ask for them", "[storage]", OVERMOUNT_STORAGES)
{
    storage_fixture<TestType> place;
    constexpr unsigned count = 4, rounds = 8;
    std::atomic<unsigned> published = 0, failures = 0;
    // In each round all of them write one common diff, and each one of its own.
    const auto work = [&](unsigned self) {
        try {
            for (unsigned round = 0; round < rounds; ++round) {
                const std::string common = place.tar("common", round);
                const std::string own = place.tar("of " + std::to_string(self), round);
                auto one = place.create(), two = place.create();
                failures += place.storage().contains(place.id(own));
                place.feed(one, common, 1000);
                place.feed(two, own, 1000);
                const std::string wanted = one.finish().to_json();
                (void)two.finish();
                published += one.publish(place.id(common));
                failures += !two.publish(place.id(own));
                failures += !place.storage().contains(place.id(own));
                failures += place.storage().record(place.id(common)).to_json() != wanted;
            }
        } catch (const std::exception&) {
            ++failures;
        }
    };
    {
        std::array<std::jthread, count> threads;
        for (unsigned i = 0; i < count; ++i)
            threads[i] = std::jthread(work, i);
    }
    CHECK(failures == 0);
    CHECK(published == rounds);
}

} // namespace overmount::test

#endif

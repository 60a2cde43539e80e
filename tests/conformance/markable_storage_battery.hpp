// What a storage does beside the storage battery when it notes damage and its diffs give way to others, run on each of
// OVERMOUNT_MARKABLE_STORAGES.
#ifndef OVERMOUNT_TESTS_CONFORMANCE_MARKABLE_STORAGE_BATTERY_HPP
#define OVERMOUNT_TESTS_CONFORMANCE_MARKABLE_STORAGE_BATTERY_HPP

#include "conformance/storage_fixture.hpp"
#include "support/catch.hpp"

namespace overmount::test {

TEMPLATE_TEST_CASE("a diff that is marked is not contained, and is there all the same", "[storage]", OVERMOUNT_MARKABLE_STORAGES)
{
    for (const durability sync : {durability::none, durability::batch, durability::full}) {
        storage_fixture<TestType> place(sync);
        const std::string record = place.put(place.tar()).to_json();
        CHECK_FALSE(place.storage().is_damaged(place.id()));
        place.storage().mark_damaged(place.storage().version(place.id()), place.where().staging());
        for (const TestType& one : {TestType(place.where()), place.storage()}) {
            CHECK(one.is_damaged(place.id()));
            CHECK_FALSE(one.contains(place.id()));
            CHECK(one.record(place.id()).to_json() == record);
        }
        place.storage().mark_damaged(place.storage().version(place.id()), place.where().staging()); // once more
        place.storage().unmark_damaged(place.storage().version(place.id()));
        CHECK_FALSE(place.storage().is_damaged(place.id()));
        CHECK(place.storage().contains(place.id()));
        place.storage().unmark_damaged(place.storage().version(place.id())); // there is none
    }
}

TEMPLATE_TEST_CASE("of a diff that is not there, there is no version and no mark", "[storage]", OVERMOUNT_MARKABLE_STORAGES)
{
    storage_fixture<TestType> place;
    CHECK_FALSE(place.storage().is_damaged(place.id()));
    const auto failure = [&] {
        try {
            (void)place.storage().version(place.id());
        } catch (const error& failed) {
            return failed.code();
        }
        return boost::system::error_code();
    };
    CHECK(failure() == errc::layer_not_found);
    place.put(place.tar());
    CHECK_FALSE(failure());
}

TEMPLATE_TEST_CASE("a diff that replaces a marked one is contained, and has its own record", "[storage]",
                   OVERMOUNT_MARKABLE_STORAGES)
{
    for (const durability sync : {durability::none, durability::batch, durability::full}) {
        storage_fixture<TestType> place(sync);
        auto first = place.create(), second = place.create();
        place.feed(first, place.tar());
        place.feed(second, place.tar("another", 3)); // so that they can be told apart
        (void)first.finish();
        const diff_record other = second.finish();
        REQUIRE(first.publish(place.id()));
        place.storage().mark_damaged(place.storage().version(place.id()), place.where().staging());
        CHECK_FALSE(second.publish(place.id()));
        second.replace(place.id());
        CHECK(place.storage().contains(place.id()));
        CHECK_FALSE(place.storage().is_damaged(place.id()));
        CHECK(place.storage().record(place.id()).to_json() == other.to_json());
    }
}

TEMPLATE_TEST_CASE("to replace a diff that is not there is to publish", "[storage]", OVERMOUNT_MARKABLE_STORAGES)
{
    storage_fixture<TestType> place;
    place.put(place.tar("another", 1));
    auto writer = place.create();
    place.feed(writer, place.tar());
    (void)writer.finish();
    const auto before = place.outside();
    writer.replace(place.id());
    CHECK(place.storage().contains(place.id()));
    place.storage().erase(place.id());
    CHECK(place.outside() == before);
}

TEMPLATE_TEST_CASE("a mark that comes late does not meet the diff that has taken the place", "[storage]",
                   OVERMOUNT_MARKABLE_STORAGES)
{
    storage_fixture<TestType> place;
    place.put(place.tar());
    const diff_version old = place.storage().version(place.id());
    CHECK(place.storage().is_current(place.id(), old));
    auto writer = place.create();
    place.feed(writer, place.tar());
    (void)writer.finish();
    writer.replace(place.id());
    CHECK_FALSE(place.storage().is_current(place.id(), old));
    place.storage().mark_damaged(old, place.where().staging());
    CHECK_FALSE(place.storage().is_damaged(place.id()));
    CHECK(place.storage().contains(place.id()));
    place.storage().erase(place.id());
    CHECK_FALSE(place.storage().is_current(place.id(), old));
}

} // namespace overmount::test

#endif

// What a storage does beside the storage battery when its diffs can be stacked, run on each of
// OVERMOUNT_MOUNTABLE_STORAGES.
#ifndef OVERMOUNT_TESTS_CONFORMANCE_MOUNTABLE_STORAGE_BATTERY_HPP
#define OVERMOUNT_TESTS_CONFORMANCE_MOUNTABLE_STORAGE_BATTERY_HPP

#include "conformance/storage_fixture.hpp"
#include "support/catch.hpp"

#include <sys/stat.h>

namespace overmount::test {

TEMPLATE_TEST_CASE("a lower is a directory that shows the diff, and its path leads there", "[storage]",
                   OVERMOUNT_MOUNTABLE_STORAGES)
{
    storage_fixture<TestType> place;
    place.put(place.tar());
    const lower_directory lower = place.storage().lower(place.id());
    REQUIRE(lower.fd);
    struct stat by_descriptor, by_path, file;
    REQUIRE(::fstat(lower.fd->get(), &by_descriptor) == 0);
    REQUIRE(::fstatat(place.where().diffs(), lower.path.c_str(), &by_path, 0) == 0);
    CHECK(S_ISDIR(by_descriptor.st_mode));
    CHECK(by_descriptor.st_ino == by_path.st_ino);
    CHECK(::fstatat(lower.fd->get(), "a/text", &file, 0) == 0);
}

TEMPLATE_TEST_CASE("a lower keeps its directory open when the diff is erased", "[storage]",
                   OVERMOUNT_MOUNTABLE_STORAGES)
{
    storage_fixture<TestType> place;
    place.put(place.tar());
    const lower_directory lower = place.storage().lower(place.id());
    place.storage().erase(place.id());
    struct stat status;
    CHECK(::fstat(lower.fd->get(), &status) == 0);
}

TEMPLATE_TEST_CASE("there is no lower of a diff that is not there", "[storage]", OVERMOUNT_MOUNTABLE_STORAGES)
{
    storage_fixture<TestType> place;
    const auto failure = [&] {
        try {
            (void)place.storage().lower(place.id());
        } catch (const error& failed) {
            return failed.code();
        }
        return boost::system::error_code();
    };
    CHECK(failure() == errc::layer_not_found);
    place.put(place.tar());
    CHECK_FALSE(failure());
    place.storage().erase(place.id());
    CHECK(failure() == errc::layer_not_found);
}

} // namespace overmount::test

#endif

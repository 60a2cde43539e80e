// What every packable storage has to do beside (storage/storage_policy.hpp), run on each of
// OVERMOUNT_PACKABLE_STORAGES, and what every indexed one has to, on each of OVERMOUNT_INDEXED_STORAGES: lists of
// types, defined before this is included.
#ifndef OVERMOUNT_TESTS_CONFORMANCE_PACKABLE_STORAGE_BATTERY_HPP
#define OVERMOUNT_TESTS_CONFORMANCE_PACKABLE_STORAGE_BATTERY_HPP

#include <overmount/tar/entry_walk.hpp>

#include "conformance/storage_fixture.hpp"
#include "support/catch.hpp"

#include <array>
#include <atomic>
#include <thread>

namespace overmount::test {

// Each read asks for `piece` bytes.
template <diff_reader Reader>
std::string read_to_end(Reader reader, std::size_t piece)
{
    std::string out, buffer(piece, '\0');
    while (const std::size_t count = reader.read(std::as_writable_bytes(std::span(buffer))))
        out.append(buffer, 0, count);
    for (int i = 0; i < 2; ++i) // from then on
        if (reader.read(std::as_writable_bytes(std::span(buffer))) != 0)
            return "bytes behind the end";
    return out;
}

// Tars whose bytes a tree does not tell: padding, trailers, an unusual order, what stands twice.
inline std::vector<std::string> odd_tars(const std::string& usual)
{
    using writer = tar_writer;
    const tar_attributes own{.uid = ::geteuid(), .gid = ::getegid()};
    std::vector<std::string> out{usual, std::string(), std::string(1024, '\0')};
    out.push_back(usual + std::string(9216, '\0'));
    out.push_back(usual + "what stands behind the end marker");
    out.push_back(usual.substr(0, usual.size() - 1024)); // no end marker
    out.push_back(writer().file("twice", "one", own).file("a/b", "b", own).file("twice", "two", own).finish());
    out.push_back(writer().file("./x", "", own).hard_link("y", "./x", own).finish());
    tar_attributes dirty = own;
    dirty.tweak = [](std::string& block) { put_field(block, tar_fields::user, "somebody"); };
    dirty.pax = {{"comment", "kept"}, {"mtime", "1700000000.000000001"}};
    out.push_back(writer().file("f", std::string(100'000, 'x'), dirty).finish());
    return out;
}

TEMPLATE_TEST_CASE("the tar of a diff comes back byte for byte", "[storage]", OVERMOUNT_PACKABLE_STORAGES)
{
    for (const std::string& tar : odd_tars(storage_fixture<TestType>::tar())) {
        storage_fixture<TestType> place;
        place.put(tar);
        const TestType& storage = place.storage();
        for (const std::size_t piece : {1u << 20, 512u, 333u})
            CHECK(read_to_end(storage.pack(place.id(tar)), piece) == tar);
        CHECK(digest::of(read_to_end(storage.pack(place.id(tar)), 4096)) == place.id(tar).value());
    }
}

TEMPLATE_TEST_CASE("there is no tar of a diff that is not there", "[storage]", OVERMOUNT_PACKABLE_STORAGES)
{
    storage_fixture<TestType> place;
    const auto failure = [&] {
        try {
            (void)place.storage().pack(place.id());
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

TEMPLATE_TEST_CASE("a tar is read on by a reader that was moved", "[storage]", OVERMOUNT_PACKABLE_STORAGES)
{
    storage_fixture<TestType> place;
    const std::string tar = place.tar("text", 500);
    place.put(tar);
    auto first = place.storage().pack(place.id(tar));
    std::string begin(1000, '\0');
    begin.resize(first.read(std::as_writable_bytes(std::span(begin))));
    auto second = std::move(first);
    CHECK(begin + read_to_end(std::move(second), 700) == tar);
}

TEMPLATE_TEST_CASE("a reader whose diff is erased goes on to the end or fails, and gives no other bytes", "[storage]",
                   OVERMOUNT_PACKABLE_STORAGES)
{
    storage_fixture<TestType> place;
    const std::string tar = place.tar("text", 500);
    place.put(tar);
    auto reader = place.storage().pack(place.id(tar));
    std::string out(1000, '\0'), piece(700, '\0');
    out.resize(reader.read(std::as_writable_bytes(std::span(out))));
    place.storage().erase(place.id(tar));
    bool whole = false;
    try {
        while (const std::size_t count = reader.read(std::as_writable_bytes(std::span(piece))))
            out.append(piece, 0, count);
        whole = true;
    } catch (const error& failure) {
        CHECK(failure.code() == condition::corrupt_input);
    }
    CHECK((whole ? out == tar : tar.starts_with(out)));
}

TEMPLATE_TEST_CASE("several threads read one tar", "[storage]", OVERMOUNT_PACKABLE_STORAGES)
{
    storage_fixture<TestType> place;
    const std::string tar = place.tar("text", 100);
    place.put(tar);
    std::atomic<int> wrong = 0;
    {
        std::array<std::jthread, 4> threads;
        for (auto& thread : threads)
            thread = std::jthread([&] {
                for (int round = 0; round < 5; ++round)
                    wrong += read_to_end(place.storage().pack(place.id(tar)), 1000) != tar;
            });
    }
    CHECK(wrong == 0);
}

#ifdef OVERMOUNT_INDEXED_STORAGES

inline std::string line_of(const tar::located_entry& one)
{
    const tar::entry& e = one.entry;
    std::string out = std::to_string(one.offset) + " " + e.path + " " + e.link_target;
    for (const std::uint64_t number :
         {std::uint64_t(e.type), std::uint64_t(e.sparse), std::uint64_t(e.mode), std::uint64_t(e.uid),
          std::uint64_t(e.gid), e.size, e.stored_size, std::uint64_t(e.mtime.seconds),
          std::uint64_t(e.mtime.nanoseconds), std::uint64_t(e.device_major), std::uint64_t(e.device_minor)})
        out += " " + std::to_string(number);
    for (const tar::xattr& attribute : e.xattrs)
        out += " " + attribute.name + "=" + attribute.value;
    return out + "\n";
}

template <entry_reader Reader>
std::string lines_of(Reader reader)
{
    std::string out;
    for (tar::located_entry one; reader.next(one);)
        out += line_of(one);
    return out;
}

TEMPLATE_TEST_CASE("an index says of each entry what the tar says", "[storage]", OVERMOUNT_INDEXED_STORAGES)
{
    const tar_attributes odd{.mode = 04711, .uid = 3'000'000'000, .gid = 7, .mtime = -5, .mtime_ns = 999'999'999,
                             .xattrs = {{"user.a", std::string("\0b", 2)}, {"user.c", std::string(60000, 'c')}}};
    tar_writer all;
    all.directory("d", odd).file("d/" + std::string(200, 'x'), "text", odd).symlink("l", "\xff target");
    all.hard_link("h", "l").fifo("p").character_device("c", 1, 3).block_device("b", 250, 3).whiteout("d/gone");
    auto tars = odd_tars(storage_fixture<TestType>::tar());
    tars.push_back(all.finish());
    for (const std::string& tar : tars) {
        storage_fixture<TestType> place;
        place.put(tar);
        const TestType& storage = place.storage();
        const auto id = place.id(tar);
        CHECK(lines_of(storage.entries(id)) ==
              lines_of(detail::entry_walk<typename TestType::reader>(storage.pack(id), limits())));
    }
}

TEMPLATE_TEST_CASE("an entry is read from the place that the index gives", "[storage]", OVERMOUNT_INDEXED_STORAGES)
{
    storage_fixture<TestType> place;
    const std::string tar = place.tar("text", 20);
    place.put(tar);
    unsigned found = 0;
    auto entries = place.storage().entries(place.id(tar));
    for (tar::located_entry one; entries.next(one); ++found) {
        auto reader = place.storage().pack(place.id(tar));
        reader.seek(one.offset);
        detail::entry_walk<typename TestType::reader> walk(std::move(reader), limits());
        REQUIRE(walk.next());
        CHECK(walk.entry().path == one.entry.path);
        CHECK(walk.offset() == 0);
    }
    CHECK(found == 24);
}

#endif

} // namespace overmount::test

#endif

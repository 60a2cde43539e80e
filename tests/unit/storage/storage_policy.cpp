#include <overmount/storage/storage_policy.hpp>

#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>

#include "support/archetypes.hpp"
#include "support/catch.hpp"

#include <optional>

using namespace overmount;

namespace {

struct exemplar_writer
{
    void write(std::span<const std::byte> bytes);
    diff_record finish();
    bool publish(const diff_id& id);
};

struct spreading_exemplar_writer : exemplar_writer
{
    struct deferred
    {
        void run();
    };
    bool write_part(std::span<const std::byte>& bytes, deferred& left);
};
struct restless_writer : exemplar_writer
{
    struct deferred
    {
    };
    bool write_part(std::span<const std::byte>& bytes, deferred& left);
};
static_assert(spreading_writer<spreading_exemplar_writer> && spreading_writer<on_disk_storage::writer>);
static_assert(!spreading_writer<exemplar_writer> && !spreading_writer<restless_writer> &&
              !spreading_writer<virtual_storage::writer>);

struct exemplar
{
    using writer = exemplar_writer;
    explicit exemplar(storage_place place);
    writer create(const write_context& context);
    bool contains(const diff_id& id) const;
    diff_record record(const diff_id& id) const;
    void erase(const diff_id& id);
    void make_durable(const diff_id& id, int, const std::function<void()>& poll);
    static std::string_view form();
};

struct mountable_exemplar : exemplar
{
    using exemplar::exemplar;
    lower_directory lower(const diff_id& id) const;
};

// The name of each type says which requirement it breaks.
struct unmoved_writer : exemplar_writer
{
    unmoved_writer(unmoved_writer&&) = delete;
};
struct mutable_bytes : exemplar_writer
{
    void write(std::span<std::byte> bytes);
};
struct no_record : exemplar_writer
{
    void finish();
};
struct no_answer : exemplar_writer
{
    void publish(const diff_id& id);
};

struct no_place : exemplar
{
    no_place();
};
struct other_writer : exemplar
{
    int create(const write_context& context);
};
struct changing_contains : exemplar
{
    using exemplar::exemplar;
    bool contains(const diff_id& id);
};
struct optional_record : exemplar
{
    using exemplar::exemplar;
    std::optional<diff_record> record(const diff_id& id) const;
};
struct no_erase : exemplar
{
    using exemplar::exemplar;
    void erase(const diff_id& id) = delete;
};
struct no_make_durable : exemplar
{
    using exemplar::exemplar;
    void make_durable(const diff_id& id, int, const std::function<void()>& poll) = delete;
};
struct form_of_an_object : exemplar
{
    using exemplar::exemplar;
    std::string_view form() const;
};
struct broken_writer : exemplar
{
    using exemplar::exemplar;
    using writer = no_answer;
    writer create(const write_context& context);
};

struct descriptor_alone : mountable_exemplar
{
    using mountable_exemplar::mountable_exemplar;
    int lower(const diff_id& id) const;
};
struct exemplar_reader
{
    std::size_t read(std::span<std::byte> into);
};
struct packable_exemplar : exemplar
{
    using exemplar::exemplar;
    using reader = exemplar_reader;
    reader pack(const diff_id& id) const;
};
struct unmoved_reader : exemplar_reader
{
    unmoved_reader(unmoved_reader&&) = delete;
};
struct endless_reader : exemplar_reader
{
    void read(std::span<std::byte> into);
};
struct changing_pack : packable_exemplar
{
    using packable_exemplar::packable_exemplar;
    reader pack(const diff_id& id);
};
struct other_reader : packable_exemplar
{
    using packable_exemplar::packable_exemplar;
    exemplar_reader* pack(const diff_id& id) const;
};

struct exemplar_entries
{
    bool next(tar::located_entry& into);
};
struct seeking_reader : exemplar_reader
{
    void seek(std::uint64_t offset);
};
struct indexed_exemplar : exemplar
{
    using exemplar::exemplar;
    using reader = seeking_reader;
    using entry_reader = exemplar_entries;
    reader pack(const diff_id& id) const;
    entry_reader entries(const diff_id& id) const;
};
struct unseeking : packable_exemplar
{
    using packable_exemplar::packable_exemplar;
    using entry_reader = exemplar_entries;
    entry_reader entries(const diff_id& id) const;
};
struct no_entries : indexed_exemplar
{
    using indexed_exemplar::indexed_exemplar;
    entry_reader entries(const diff_id& id) const = delete;
};

struct mountable_without_storage
{
    lower_directory lower(const diff_id& id) const;
};

} // namespace

TEST_CASE("a type that takes the bytes of a tar is a diff_writer")
{
    STATIC_REQUIRE(diff_writer<exemplar_writer>);
    STATIC_REQUIRE(diff_writer<on_disk_storage::writer>);
    STATIC_REQUIRE(diff_writer<test::minimal_writer>);
    STATIC_REQUIRE_FALSE(diff_writer<unmoved_writer>);
    STATIC_REQUIRE_FALSE(diff_writer<mutable_bytes>);
    STATIC_REQUIRE_FALSE(diff_writer<no_record>);
    STATIC_REQUIRE_FALSE(diff_writer<no_answer>);
}

TEST_CASE("a type that stores diffs is a storage_policy")
{
    STATIC_REQUIRE(storage_policy<exemplar>);
    STATIC_REQUIRE(storage_policy<on_disk_storage>);
    STATIC_REQUIRE(storage_policy<test::minimal_storage>);
    STATIC_REQUIRE_FALSE(storage_policy<no_place>);
    STATIC_REQUIRE_FALSE(storage_policy<other_writer>);
    STATIC_REQUIRE_FALSE(storage_policy<changing_contains>);
    STATIC_REQUIRE_FALSE(storage_policy<optional_record>);
    STATIC_REQUIRE_FALSE(storage_policy<no_erase>);
    STATIC_REQUIRE_FALSE(storage_policy<no_make_durable>);
    STATIC_REQUIRE_FALSE(storage_policy<form_of_an_object>);
    STATIC_REQUIRE_FALSE(storage_policy<broken_writer>);
}

TEST_CASE("a storage with lower directories is a mountable_storage")
{
    STATIC_REQUIRE(mountable_storage<mountable_exemplar>);
    STATIC_REQUIRE(mountable_storage<on_disk_storage>);
    STATIC_REQUIRE(mountable_storage<test::minimal_mountable_storage>);
    STATIC_REQUIRE_FALSE(mountable_storage<exemplar>);
    STATIC_REQUIRE_FALSE(mountable_storage<test::minimal_storage>);
    STATIC_REQUIRE_FALSE(mountable_storage<descriptor_alone>);
    STATIC_REQUIRE_FALSE(mountable_storage<mountable_without_storage>);
}

TEST_CASE("a storage that reproduces tars is a packable_storage")
{
    STATIC_REQUIRE(packable_storage<packable_exemplar>);
    STATIC_REQUIRE(packable_storage<virtual_storage>);
    STATIC_REQUIRE_FALSE(mountable_storage<virtual_storage>);
    STATIC_REQUIRE_FALSE(packable_storage<exemplar>);
    STATIC_REQUIRE_FALSE(packable_storage<changing_pack>);
    STATIC_REQUIRE_FALSE(packable_storage<other_reader>);
    STATIC_REQUIRE(diff_reader<exemplar_reader>);
    STATIC_REQUIRE_FALSE(diff_reader<unmoved_reader>);
    STATIC_REQUIRE_FALSE(diff_reader<endless_reader>);
}

TEST_CASE("a packable storage that lists entries and seeks is an indexed_storage")
{
    STATIC_REQUIRE(indexed_storage<indexed_exemplar>);
    STATIC_REQUIRE(indexed_storage<virtual_storage>);
    STATIC_REQUIRE_FALSE(indexed_storage<packable_exemplar>);
    STATIC_REQUIRE_FALSE(indexed_storage<unseeking>);
    STATIC_REQUIRE_FALSE(indexed_storage<no_entries>);
}

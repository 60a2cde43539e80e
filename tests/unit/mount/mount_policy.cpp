#include <overmount/mount/mount_policy.hpp>

#include <overmount/mount/no_mount.hpp>
#include <overmount/mount/overlay_mount.hpp>

#include "support/catch.hpp"

using namespace overmount;

namespace {

struct exemplar
{
    static unique_fd create(const mount_spec& spec);
    static mount_identity mount(const mount_spec& spec, const std::string& target);
    static std::optional<mount_identity> identify(const std::string& target);
    static void unmount(const mount_identity& identity, const std::string& target, bool detach);
    static bool alive(const mount_identity& identity, const mount_spec& probe);
};

// The name of each type says which requirement it breaks.
struct bare_descriptor : exemplar
{
    static int create(const mount_spec& spec);
};
struct mount_without_identity : exemplar
{
    static void mount(const mount_spec& spec, const std::string& target);
};
struct no_detach : exemplar
{
    static void unmount(const mount_identity& identity, const std::string& target);
};
struct unmount_by_path : exemplar
{
    static void unmount(const std::string& target, bool detach);
};
struct identify_that_must_find : exemplar
{
    static mount_identity identify(const std::string& target);
};
struct alive_without_probe : exemplar
{
    static bool alive(const mount_identity& identity);
};
struct object_needed : exemplar
{
    mount_identity mount(const mount_spec& spec, const std::string& target);
};

} // namespace

TEST_CASE("a type that makes the system calls of mounting is a mount_policy")
{
    STATIC_REQUIRE(mount_policy<exemplar>);
    STATIC_REQUIRE(mount_policy<overlay_mount>);
    STATIC_REQUIRE_FALSE(mount_policy<bare_descriptor>);
    STATIC_REQUIRE_FALSE(mount_policy<mount_without_identity>);
    STATIC_REQUIRE_FALSE(mount_policy<unmount_by_path>);
    STATIC_REQUIRE_FALSE(mount_policy<identify_that_must_find>);
    STATIC_REQUIRE_FALSE(mount_policy<alive_without_probe>);
    STATIC_REQUIRE_FALSE(mount_policy<no_detach>);
    STATIC_REQUIRE_FALSE(mount_policy<object_needed>);
}

TEST_CASE("no_mount is not a mount_policy, but a repository accepts it")
{
    STATIC_REQUIRE_FALSE(mount_policy<no_mount>);
    STATIC_REQUIRE(optional_mount_policy<no_mount>);
    STATIC_REQUIRE(optional_mount_policy<overlay_mount>);
    STATIC_REQUIRE_FALSE(optional_mount_policy<no_detach>);
}

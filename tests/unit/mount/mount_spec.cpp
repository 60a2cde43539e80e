#include <overmount/mount/mount_policy.hpp>
#include <overmount/mount/mount_spec.hpp>
#include <overmount/mount/no_mount.hpp>
#include <overmount/mount/overlay_mount.hpp>

#include "support/catch.hpp"

#include <fcntl.h>

#include <memory>
#include <type_traits>

using overmount::errc;
using overmount::lower;
using overmount::mount_directory;
using overmount::mount_option;
using overmount::mount_spec;

namespace {

static_assert(!overmount::mount_policy<overmount::no_mount>);
static_assert(!std::is_aggregate_v<mount_spec> && !std::is_aggregate_v<mount_directory>);

mount_spec stack(std::size_t count)
{
    mount_spec out;
    for (std::size_t i = 0; i < count; ++i)
        out.add_lower(lower("/l" + std::to_string(i)));
    return out;
}

boost::system::error_code refusal(const mount_spec& spec)
{
    try {
        spec.validate();
    } catch (const overmount::error& failure) {
        CHECK(failure.at() == overmount::stage::mount);
        return failure.code();
    }
    return {};
}

} // namespace

TEST_CASE("a directory with an open function is open only while it is given to the kernel")
{
    int times = 0;
    const mount_directory late(
        [&] {
            ++times;
            return std::make_shared<const overmount::unique_fd>(::open("/", O_PATH | O_CLOEXEC));
        },
        "/somewhere");
    CHECK((late.fd() == -1 && late.name() == "/somewhere" && times == 0));
    int fd = -1;
    {
        const mount_directory opened = late.opened();
        fd = opened.fd();
        CHECK((::fcntl(fd, F_GETFD) >= 0 && opened.path() == "/somewhere" && times == 1));
    }
    CHECK(::fcntl(fd, F_GETFD) == -1);
    CHECK(mount_directory("/a").opened().fd() == -1);
    CHECK(mount_directory::borrowed(7, "/a").opened().fd() == 7);
    CHECK_NOTHROW(mount_spec().add_lower(late).add_lower(late).validate());
}

TEST_CASE("a spec that overlayfs would refuse is refused before the system call")
{
    CHECK(refusal(stack(0)) == errc::mount_not_possible);
    CHECK(refusal(stack(1)) == errc::mount_not_possible);
    CHECK_FALSE(refusal(stack(2)));
    CHECK_FALSE(refusal(stack(500)));
    CHECK(refusal(stack(501)) == errc::too_many_layers);
    CHECK(refusal(stack(1).upper(mount_directory("/u"))) == errc::mount_not_possible);
    CHECK(refusal(stack(2).work(mount_directory("/w"))) == errc::mount_not_possible);
    CHECK_FALSE(refusal(stack(1).upper(mount_directory("/u")).work(mount_directory("/w"))));
}

TEST_CASE("names that would reach the kernel truncated are refused")
{
    CHECK(refusal(stack(2).add_lower(lower(std::string("/a\0b", 4)))) == errc::mount_not_possible);
    CHECK(refusal(stack(2).add_lower(lower(std::string()))) == errc::mount_not_possible);
    CHECK(refusal(stack(2).add_lower(lower(overmount::unique_fd()))) == errc::mount_not_possible);
    CHECK(refusal(stack(2).source("")) == errc::mount_not_possible);
    CHECK_FALSE(refusal(stack(2).source(std::string(255, 's'))));
    CHECK(refusal(stack(2).source(std::string(256, 's'))) == errc::mount_not_possible);
    CHECK(refusal(stack(2).source(std::string("a\0", 2))) == errc::mount_not_possible);
}

TEST_CASE("the refusal of a single lower says what to do")
{
    CHECK_THROWS_WITH(stack(1).validate(), Catch::Matchers::ContainsSubstring("add an empty one"));
}

TEST_CASE("options come in the order of the stack, and all features are explicit")
{
    const mount_spec spec = stack(2).source("me").upper(mount_directory("/u")).work(mount_directory("/w"));
    const std::vector<mount_option> wanted{
        {"source", "me"},    {"lowerdir+", "/l0"}, {"lowerdir+", "/l1"},
        {"upperdir", "/u"},  {"workdir", "/w"},    {"redirect_dir", "off"},
        {"metacopy", "off"}, {"index", "off"},     {"xino", "off"},
    };
    CHECK(option_list(spec) == wanted);
}

TEST_CASE("userxattr leaves out the options that it forbids")
{
    const std::vector<mount_option> wanted{
        {"source", "overmount"}, {"lowerdir+", "/l0"}, {"lowerdir+", "/l1"}, {"metacopy", "off"},
        {"index", "off"},        {"xino", "off"},      {"userxattr", {}}};
    CHECK(option_list(stack(2).userxattr(true)) == wanted);
}

TEST_CASE("volatile is an option only of mounts with an upper directory")
{
    const mount_option option{"volatile", {}};
    mount_spec spec = stack(2).volatile_(true);
    CHECK(option_list(spec).back() != option);
    spec.upper(mount_directory("/u")).work(mount_directory("/w"));
    CHECK(option_list(spec).back() == option);
}

TEST_CASE("the string for mount(2) escapes separators")
{
    const mount_spec spec = stack(1)
                                .add_lower(lower("/a:b,c\\d"))
                                .upper(mount_directory("/u,"))
                                .work(mount_directory("/w"))
                                .volatile_(true);
    CHECK(legacy_options(spec) == "lowerdir=/l0:/a\\:b\\,c\\\\d,upperdir=/u\\,,workdir=/w,"
                                  "redirect_dir=off,metacopy=off,index=off,xino=off,volatile");
}

TEST_CASE("the string for mount(2) may fill a page, but no more")
{
    const std::size_t rest = legacy_options(stack(2)).size();
    const std::size_t room = 4095 - rest;
    CHECK(legacy_options(stack(2).add_lower(lower(std::string(room - 1, 'x')))).size() == 4095);
    CHECK_THROWS_WITH(legacy_options(stack(2).add_lower(lower(std::string(room, 'x')))),
                      Catch::Matchers::ContainsSubstring("4095") && Catch::Matchers::ContainsSubstring("4096"));
}

TEST_CASE("a directory without a path is named by its descriptor")
{
    CHECK(mount_directory::borrowed(7).name() == "/proc/self/fd/7");
    CHECK(mount_directory::borrowed(7, "/p").name() == "/p");
    const auto shared = std::make_shared<const overmount::unique_fd>(::open("/", O_PATH | O_CLOEXEC));
    CHECK(mount_directory(shared).name() == "/proc/self/fd/" + std::to_string(shared->get()));
    CHECK(mount_directory(std::shared_ptr<const overmount::unique_fd>(), "/p").fd() == -1);
}

TEST_CASE("copies of a directory share its descriptor, and the last one closes it")
{
    const int fd = ::open("/", O_PATH | O_CLOEXEC);
    {
        auto first = std::make_unique<lower>(overmount::unique_fd(fd), "/");
        const lower second = *first;
        first.reset();
        CHECK(second.fd() == fd);
        CHECK(::fcntl(fd, F_GETFD) >= 0);
    }
    CHECK(::fcntl(fd, F_GETFD) == -1);
}

TEST_CASE("the kernel's refusal of a descriptor tells its age")
{
    using overmount::detail::descriptor_refusal;
    using overmount::detail::read_refusal;
    CHECK(read_refusal(EINVAL, "overlay: Bad value for 'lowerdir+'") == descriptor_refusal::no_fd);
    CHECK(read_refusal(EINVAL, "") == descriptor_refusal::no_fd);
    CHECK(read_refusal(EINVAL, "overlay: Unknown parameter 'lowerdir+'") == descriptor_refusal::no_lowerdir);
    CHECK(read_refusal(EINVAL, "VFS: Legacy: Parameter type for 'lowerdir+' not supported") ==
          descriptor_refusal::no_lowerdir);
    CHECK(read_refusal(EINVAL, "overlay: too many lower directories, limit is 500") ==
          descriptor_refusal::final);
    CHECK(read_refusal(ENOTDIR, "") == descriptor_refusal::final);
}

#include <overmount/registry/settings/host_settings.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"
#include "support/skip.hpp"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

using overmount::errc;
using overmount::reference;
using namespace overmount::registry;

class settings_tree
{
public:
    void write(const std::string& name, const std::string& text = "")
    {
        std::filesystem::create_directories((scratch_ / name).parent_path());
        std::ofstream(scratch_ / name) << text;
    }
    std::string path(const std::string& name) { return (scratch_ / name).string(); }

    // As for a user whose home is in the scratch directory, and a system there.
    host_settings_paths paths()
    {
        host_settings_paths out;
        out.registries = {{path("home/registries.conf"), {path("home/registries.conf.d")}, false},
                          {path("etc/registries.conf"), {path("etc/registries.conf.d"), path("home/registries.conf.d")}, false}};
        out.certs = {path("home/certs.d"), path("etc/certs.d")};
        out.hosts = path("containerd");
        return out;
    }
    host_settings load() { return host_settings::load(paths()); }

    // Loads, looks for the hosts of an image, and returns the failure.
    overmount::error failure()
    {
        try {
            (void)load().hosts_for(overmount::reference::parse("a.test/app"));
        } catch (const overmount::error& thrown) {
            return thrown;
        }
        return overmount::error(errc::invalid_handle);
    }

private:
    overmount::test::scratch_directory scratch_;
};

std::string conf(const std::string& location, const std::string& more = "")
{
    return "[[registry]]\nlocation = \"" + location + "\"\n" + more;
}

TEST_CASE("host settings: missing files and directories are skipped")
{
    settings_tree tree;
    const host_settings settings = tree.load();
    CHECK(settings.registries().entries().empty());
    CHECK(settings.hosts("a.test") == nullptr);
    CHECK(settings.certificates("a.test").authorities.empty());
    CHECK(settings.hosts_for(reference::parse("a.test/x")).size() == 1);
    tree.write("home", "a file"); // ENOTDIR
    CHECK(tree.load().registries().entries().empty());
    CHECK(host_settings::load(host_settings_paths()).registries().entries().empty());
}

TEST_CASE("host settings: drop-ins are merged in the order of their names, those of the user after the system's")
{
    settings_tree tree;
    tree.write("etc/registries.conf", conf("a.test") + conf("b.test") + conf("c.test"));
    tree.write("etc/registries.conf.d/10-x.conf", conf("b.test", "insecure = true\n") + conf("c.test", "insecure = true\n"));
    tree.write("etc/registries.conf.d/20-x.conf", conf("c.test") + conf("d.test"));
    tree.write("etc/registries.conf.d/30-x.conf.bak", "not TOML");
    tree.write("etc/registries.conf.d/40-x.conf/x", "a directory");
    tree.write("home/registries.conf.d/00-x.conf", conf("d.test", "insecure = true\n"));
    const registries_conf read = tree.load().registries();
    CHECK(read.entries().size() == 4);
    CHECK_FALSE(read.entries().at("a.test").insecure);
    CHECK(read.entries().at("b.test").insecure);
    CHECK_FALSE(read.entries().at("c.test").insecure);
    CHECK(read.entries().at("d.test").insecure);
}

TEST_CASE("host settings: the user's registries.conf replaces the system's with its drop-ins")
{
    settings_tree tree;
    tree.write("etc/registries.conf", conf("etc.test"));
    tree.write("etc/registries.conf.d/x.conf", conf("drop-in.etc.test"));
    tree.write("home/registries.conf", conf("home.test"));
    tree.write("home/registries.conf.d/x.conf", conf("drop-in.home.test"));
    const registries_conf read = tree.load().registries();
    CHECK(read.entries().size() == 2);
    CHECK(read.entries().contains("home.test"));
    CHECK(read.entries().contains("drop-in.home.test"));
}

TEST_CASE("host settings: a registries.conf that the user named must exist")
{
    settings_tree tree;
    host_settings_paths paths;
    paths.registries = {{tree.path("mine.conf"), {}, true}};
    try {
        (void)host_settings::load(paths);
        FAIL("accepted");
    } catch (const overmount::error& failure) {
        CHECK(failure.subject() == tree.path("mine.conf"));
        CHECK(failure.code().value() == ENOENT);
    }
    tree.write("mine.conf", conf("a.test"));
    CHECK(host_settings::load(paths).registries().entries().size() == 1);
}

TEST_CASE("host settings: malformed, large and unreadable files are errors that name the file")
{
    for (const std::string name : {"home/registries.conf", "etc/registries.conf.d/x.conf", "containerd/a.test/hosts.toml"}) {
        INFO(name);
        settings_tree tree;
        tree.write(name, "x = ");
        const overmount::error malformed = tree.failure();
        CHECK(malformed.code() == errc::invalid_settings);
        CHECK(malformed.subject() == tree.path(name));
        CHECK(malformed.detail().starts_with("line 1: "));
        tree.write(name, std::string((1 << 20) + 1, '\n'));
        const overmount::error large = tree.failure();
        CHECK(large.code().value() == EFBIG);
        CHECK(large.subject() == tree.path(name));
        if (::geteuid() != 0) {
            std::filesystem::permissions(tree.path(name), std::filesystem::perms::none);
            const overmount::error closed = tree.failure();
            CHECK(closed.code().value() == EACCES);
            CHECK(closed.subject() == tree.path(name));
        }
    }
    settings_tree tree;
    tree.write("home/certs.d/a.test/x.cert");
    CHECK(tree.failure().code() == errc::invalid_settings);
    CHECK(tree.failure().subject() == tree.path("home/certs.d/a.test/x.cert"));
}

TEST_CASE("host settings: the first certs.d with a directory for the registry counts")
{
    settings_tree tree;
    tree.write("home/certs.d/a.test:5000/ca.crt");
    tree.write("etc/certs.d/a.test:5000/other.crt");
    tree.write("etc/certs.d/b.test/ca.crt");
    tree.write("etc/certs.d/b.test/x.cert");
    tree.write("etc/certs.d/b.test/x.key");
    tree.write("etc/certs.d/README");
    std::filesystem::create_directory_symlink(tree.path("etc/certs.d/b.test"), tree.path("etc/certs.d/c.test"));
    const host_settings settings = tree.load();
    using paths = std::vector<std::string>;
    CHECK(settings.certificates("a.test:5000").authorities == paths{tree.path("home/certs.d/a.test:5000/ca.crt")});
    CHECK(settings.certificates("a.test").authorities.empty());
    CHECK(settings.certificates("b.test").authorities == paths{tree.path("etc/certs.d/b.test/ca.crt")});
    CHECK(settings.certificates("b.test").clients.size() == 1);
    CHECK(settings.certificates("c.test").authorities == paths{tree.path("etc/certs.d/c.test/ca.crt")});
    // `--cert-dir` is instead of all of them.
    tree.write("mine/my.crt");
    host_settings_paths named = tree.paths();
    named.certs_for_all = tree.path("mine");
    const host_settings other = host_settings::load(named);
    CHECK(other.certificates("b.test").authorities == paths{tree.path("mine/my.crt")});
    CHECK(other.certificates("z.test").authorities == paths{tree.path("mine/my.crt")});
}

TEST_CASE("host settings: a certs.d that this user may not enter is skipped")
{
    if (::geteuid() == 0)
        OVERMOUNT_SKIP("root may enter every directory");
    settings_tree tree;
    tree.write("etc/certs.d/a.test/ca.crt");
    for (const std::string name : {"etc/certs.d/a.test", "etc/certs.d", "etc"}) {
        INFO(name);
        std::filesystem::permissions(tree.path(name), std::filesystem::perms::none);
        host_settings_paths paths;
        paths.certs = {tree.path("etc/certs.d")};
        CHECK(host_settings::load(paths).certificates("a.test").authorities.empty());
    }
    std::filesystem::permissions(tree.path("etc"), std::filesystem::perms::owner_all);
    std::filesystem::permissions(tree.path("etc/certs.d"), std::filesystem::perms::owner_all);
    std::filesystem::permissions(tree.path("etc/certs.d/a.test"), std::filesystem::perms::owner_all);
}

TEST_CASE("host settings: the first directory of containerd's that exists counts, by hosts.toml or by its certificates")
{
    settings_tree tree;
    tree.write("containerd/a.test_5000_/hosts.toml", "server = \"https://one.test\"");
    tree.write("containerd/a.test:5000/hosts.toml", "server = \"https://two.test\"");
    tree.write("containerd/b.test/ca.crt");
    tree.write("containerd/_default/hosts.toml", "server = \"https://default.test\"\nca = \"d.pem\"");
    const host_settings settings = tree.load();
    const auto server = [&settings](const std::string& domain) {
        const hosts_toml* found = settings.hosts(domain);
        return found != nullptr ? found->server().root.host() : "none";
    };
    CHECK(server("a.test:5000") == "one.test");
    CHECK(server("a.test") == "default.test");
    CHECK(server("b.test") == "none");
    CHECK(settings.certificates("b.test").authorities == std::vector<std::string>{tree.path("containerd/b.test/ca.crt")});
    const auto hosts = settings.hosts_for(reference::parse("z.test/x"));
    REQUIRE(hosts.size() == 1);
    CHECK(hosts[0].base.host() == "default.test");
    CHECK(hosts[0].certificates.authorities == std::vector<std::string>{tree.path("containerd/_default/d.pem")});
}

TEST_CASE("host settings: each host gets the certificates of its own name")
{
    settings_tree tree;
    tree.write("etc/registries.conf", conf("a.test", "[[registry.mirror]]\nlocation = \"m.test:443\"\n"));
    tree.write("etc/certs.d/a.test/a.crt");
    tree.write("etc/certs.d/m.test:443/m.crt");
    tree.write("etc/certs.d/docker.io/hub.crt");
    const host_settings settings = tree.load();
    const auto hosts = settings.hosts_for(reference::parse("a.test/x"));
    REQUIRE(hosts.size() == 2);
    CHECK(hosts[0].certificates.authorities == std::vector<std::string>{tree.path("etc/certs.d/m.test:443/m.crt")});
    CHECK(hosts[1].certificates.authorities == std::vector<std::string>{tree.path("etc/certs.d/a.test/a.crt")});
    CHECK(settings.hosts_for(reference::parse("busybox")).at(0).certificates.authorities ==
          std::vector<std::string>{tree.path("etc/certs.d/docker.io/hub.crt")});
    CHECK(settings.hosts_for(reference::parse("a.test/x"), host_options().origin(false)).size() == 1);
}

TEST_CASE("host settings: the paths are those of podman, docker and containerd")
{
    const host_settings_paths paths(nullptr);
    CHECK(paths.registries.size() == 1);
    CHECK(paths.certs.size() == 2);
    CHECK(paths.hosts == "/etc/containerd/certs.d");
    CHECK(paths.certs_for_all.empty());
    CHECK_FALSE(process_environment()("OVERMOUNT_NO_SUCH_VARIABLE"));
}

} // namespace

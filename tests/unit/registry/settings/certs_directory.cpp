#include <overmount/registry/settings/certs_directory.hpp>

#include <overmount/core/error.hpp>

#include "support/catch.hpp"

#include <string>
#include <vector>

namespace {

using overmount::errc;
using namespace overmount::registry;

TEST_CASE("certs.d: the names of the files say what they are")
{
    const certificate_files files =
        read_certificate_names("/c/h", {"b.crt", "x.key", "README", "a.crt", "x.cert", "crt", "w.cert", "w.key", "y.crt.bak", "a.b.crt"});
    CHECK(files.authorities == std::vector<std::string>{"/c/h/a.b.crt", "/c/h/a.crt", "/c/h/b.crt"});
    CHECK(files.clients == std::vector<client_certificate>{{"/c/h/w.cert", "/c/h/w.key"}, {"/c/h/x.cert", "/c/h/x.key"}});
    CHECK(read_certificate_names("/c", {}).authorities.empty());
}

TEST_CASE("certs.d: a certificate without a key, and a key without a certificate, are refused by name")
{
    for (const std::string name : {"a.cert", "a.key"}) {
        try {
            (void)read_certificate_names("/c/h", {name, "a.crt", "b.key", "b.cert"});
            FAIL(name);
        } catch (const overmount::error& failure) {
            CHECK(failure.code() == errc::invalid_settings);
            CHECK(failure.subject() == "/c/h/" + name);
        }
    }
}

TEST_CASE("certs.d: the user's directory is before the system's")
{
    const auto home = [](const std::string& name) {
        return name == "HOME" ? std::optional<std::string>("/home/u") : std::nullopt;
    };
    CHECK(certs_directories(home) ==
          std::vector<std::string>{"/home/u/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"});
    CHECK(certs_directories(nullptr) == std::vector<std::string>{"/etc/containers/certs.d", "/etc/docker/certs.d"});
}

} // namespace

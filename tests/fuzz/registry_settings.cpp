#include "fuzz.hpp"

#include <overmount/registry/mirrors.hpp>
#include <overmount/registry/settings/hosts_toml.hpp>
#include <overmount/registry/settings/proxy.hpp>
#include <overmount/registry/settings/registries_conf.hpp>

using overmount::reference;
using namespace overmount::registry;

namespace {

void check_hosts(const registries_conf* conf, const hosts_toml* toml)
{
    for (const char* name : {"busybox:1", "a.test/ns/app", "b.a.test:5000/app"}) {
        const auto hosts = hosts_for(reference::parse(name), conf, toml);
        MUST(!hosts.empty());
        for (const registry_host& host : hosts) {
            MUST(host.pull || host.resolve);
            MUST(!host.credentials_domain.empty());
            MUST(!host.is_origin || host.ns.empty());
            MUST(host.url_of(api_path(host.repository, api_kind::tags)).same_origin(host.base));
        }
    }
}

} // namespace

// The first byte chooses the format.
void check(std::string_view input)
{
    if (input.empty())
        return;
    const std::string_view text = input.substr(1);
    if (input.front() == 'r') {
        registries_conf conf = registries_conf::parse(text, "registries.conf");
        for (const auto& [prefix, entry] : conf.entries()) {
            MUST(prefix == entry.prefix && !prefix.empty());
            MUST(!entry.location.empty() || prefix.starts_with("*."));
            for (const registry_mirror& mirror : entry.mirrors)
                MUST(!mirror.location.empty());
        }
        const std::size_t count = conf.entries().size();
        conf.merge(conf);
        MUST(conf.entries().size() == count);
        check_hosts(&conf, nullptr);
    } else if (input.front() == 'h') {
        const hosts_toml toml = hosts_toml::parse(text, "/certs/hosts.toml");
        for (const hosts_toml_host& host : toml.hosts()) {
            MUST(host.root != url());
            for (const auto& [name, value] : host.headers)
                MUST(!name.empty() && value.reveal().find_first_of("\r\n") == std::string::npos);
        }
        check_hosts(nullptr, &toml);
    } else if (input.front() == 'n') {
        for (const char* host : {"a.test", "10.1.2.3", "2001:db8::1"}) {
            const bool bypasses = bypasses_proxy(text, host, 443);
            MUST(bypasses_proxy("none.test," + std::string(text), host, 443) == bypasses);
            MUST(bypasses_proxy("*," + std::string(text), host, 443));
        }
    } else {
        const auto found = proxy_for(url::parse("https://a.test"), [text](const std::string& name) {
            return name == "HTTPS_PROXY" ? std::optional<std::string>(text) : std::nullopt;
        });
        MUST(!found || (found->port() != 0 && !found->host().empty()));
    }
}

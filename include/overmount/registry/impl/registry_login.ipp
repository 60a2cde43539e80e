#ifndef OVERMOUNT_REGISTRY_IMPL_REGISTRY_LOGIN_IPP
#define OVERMOUNT_REGISTRY_IMPL_REGISTRY_LOGIN_IPP

#include <overmount/posix/fs.hpp>
#include <overmount/registry/client.hpp>
#include <overmount/registry/registry_login.hpp>
#include <overmount/registry/settings/auth_files.hpp>
#include <overmount/registry/settings/credential_helper.hpp>
#include <overmount/runtime/operation.hpp>
#include <overmount/runtime/run_on.hpp>

#include <fcntl.h>

#include <optional>
#include <utility>

namespace overmount::OVERMOUNT_ABI {
namespace registry::detail {

// Where a login is kept: the file, and the helper that it names.
class login_place
{
public:
    login_place(std::string path, std::optional<named_helper> program) : file(std::move(path)), helper(std::move(program)) {}
    std::string file;
    std::optional<named_helper> helper;
};

inline login_place find_login_place(const std::string& domain, const registry_options& options)
{
    if (!options.settings_of_user() && options.auth_file().empty())
        throw error(errc::invalid_settings).at(stage::source).subject(domain).detail("the options name no file for logins");
    const std::string file = overmount::detail::from_working_directory(
        options.settings_of_user() ? auth_file_paths_of_process(options.auth_file()).front() : options.auth_file());
    const auto text = overmount::detail::read_file(AT_FDCWD, file, auth_file::max_bytes);
    return login_place(file, auth_file::parse(text.value_or(""), file).helper_of(domain));
}

inline boost::asio::awaitable<void> log_in(std::string domain, std::string user, std::string password, registry_options options,
                                           worker_pool workers)
{
    options.credentials(registry_credentials::password(user, password));
    reference somewhere = reference::parse(domain + "/login");
    if (somewhere.domain() != domain && domain != "index.docker.io")
        throw error(errc::invalid_reference).at(stage::source).subject(domain).detail("this is not the domain of a registry");
    const client there = co_await client::open(workers, std::move(somewhere), options, limits());
    co_await there.log_in();
    auto look = [domain, options](const overmount::detail::stop_flag&) { return find_login_place(domain, options); };
    const login_place place = co_await overmount::detail::run_on(workers, std::move(look));
    if (place.helper) {
        co_await store_in_helper(place.helper->name(), place.helper->server(), user, password);
        co_return;
    }
    auto write = [place, domain, user, password](const overmount::detail::stop_flag&) { write_login(place.file, domain, user, password); };
    co_await overmount::detail::run_on(workers, std::move(write));
}

inline boost::asio::awaitable<bool> log_out(std::string domain, registry_options options, worker_pool workers)
{
    auto look = [domain, options](const overmount::detail::stop_flag&) { return find_login_place(domain, options); };
    const login_place place = co_await overmount::detail::run_on(workers, std::move(look));
    if (place.helper)
        co_await erase_from_helper(place.helper->name(), place.helper->server());
    auto remove = [place, domain](const overmount::detail::stop_flag&) { return remove_login(place.file, domain); };
    const bool removed = co_await overmount::detail::run_on(workers, std::move(remove));
    co_return removed || place.helper.has_value();
}

} // namespace registry::detail

OVERMOUNT_DECL boost::asio::awaitable<void> registry_login(std::string domain, std::string user, std::string password,
                                                           registry_options options, worker_pool workers)
{
    return overmount::detail::operation(
        registry::detail::log_in(std::move(domain), std::move(user), std::move(password), std::move(options), std::move(workers)));
}

OVERMOUNT_DECL boost::asio::awaitable<bool> registry_logout(std::string domain, registry_options options, worker_pool workers)
{
    return overmount::detail::operation(registry::detail::log_out(std::move(domain), std::move(options), std::move(workers)));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

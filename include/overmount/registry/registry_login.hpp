#ifndef OVERMOUNT_REGISTRY_REGISTRY_LOGIN_HPP
#define OVERMOUNT_REGISTRY_REGISTRY_LOGIN_HPP

#include <overmount/registry/registry_options.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <string>

namespace overmount::OVERMOUNT_ABI {

/// Keeps a login where podman, skopeo and docker find it: with the credential helper that the user's files name for the registry, or
/// else in a file: the one in the options, or the first of `registry::auth_file_paths`. The registry is asked first whether it accepts it.
///
/// \param domain  such as `docker.io` or `localhost:5000`
/// \param user    `<token>` if the password is an identity token
/// \param workers read and write files
/// *Errors*: `login_refused` if the registry refuses it, or a part has control characters; `invalid_reference` for the domain; those of
/// `registry::client`, of settings, of credential helpers and of the file. *Cancellation*: all types.
[[nodiscard]] boost::asio::awaitable<void> registry_login(std::string domain, std::string user, std::string password,
                                                          registry_options options, worker_pool workers);

/// Removes the login from the file and from the helper. *Returns*: whether the file had it, or a helper was asked.
[[nodiscard]] boost::asio::awaitable<bool> registry_logout(std::string domain, registry_options options, worker_pool workers);

} // namespace overmount::OVERMOUNT_ABI

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/registry_login.ipp>
#endif

#endif

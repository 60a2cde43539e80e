#ifndef OVERMOUNT_REGISTRY_SETTINGS_CREDENTIAL_HELPER_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_CREDENTIAL_HELPER_HPP

#include <overmount/registry/credentials.hpp>
#include <overmount/runtime/asio.hpp>

#include <chrono>
#include <string>

// docker's credential helpers: programs `docker-credential-NAME` in an absolute directory of `$PATH`. They get the environment of
// this process, and a process group of their own. What a helper writes is never shown. See docker/docker-credential-helpers.
//
// *Errors* of all of them: `credential_helper_failed`, with the name of the program, if the name is not made of letters, digits
// and `._-`, or if the program is missing, fails, writes more than 64 KiB, or takes longer than `limit`; `operation_aborted`;
// errno values if this process is short of descriptors or memory.
//
// *Cancellation*: any type. However an operation ends but with success, the helper's process group is killed first. When it
// completes, the helper has been reaped. The executor's thread never waits for the helper, except when the execution context is
// destroyed: it then waits for a process that was killed.
//
// *Concurrency*: any number at a time. The program must not ignore SIGCHLD, nor wait for children that are not its own.
namespace overmount::OVERMOUNT_ABI::registry {

/// How long a helper may take unless the caller says otherwise: it may have to ask the user.
inline constexpr std::chrono::milliseconds credential_helper_limit = std::chrono::seconds(30);

/// Asks a helper for the credentials for a server.
///
/// \param name   as in `named_helper`: `pass` is the program `docker-credential-pass`
/// \param server at most 4096 bytes
///
/// *Returns*: credentials, which are empty (anonymous) if the helper says that it has none. The user `<token>` means an identity
/// token.
[[nodiscard]] asio::awaitable<registry_credentials>
ask_credential_helper(std::string name, std::string server, std::chrono::milliseconds limit = credential_helper_limit);

/// Has a helper keep a login; it replaces an earlier one. \param user `<token>` if the password is an identity token
[[nodiscard]] asio::awaitable<void> store_in_helper(std::string name, std::string server, std::string user, std::string password,
                                                    std::chrono::milliseconds limit = credential_helper_limit);

/// Has a helper forget a login. It is no error if the helper says that it has none.
[[nodiscard]] asio::awaitable<void> erase_from_helper(std::string name, std::string server,
                                                      std::chrono::milliseconds limit = credential_helper_limit);

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/credential_helper.ipp>
#endif

#endif

#ifndef OVERMOUNT_REGISTRY_CLIENT_HPP
#define OVERMOUNT_REGISTRY_CLIENT_HPP

#include <overmount/core/limits.hpp>
#include <overmount/io/byte_stream.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/registry/registry_options.hpp>
#include <overmount/runtime/worker_pool.hpp>

#include <boost/asio/awaitable.hpp>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry {

/// A manifest or an index, as the registry sent it.
class fetched_document
{
public:
    fetched_document(std::string content_type, std::string bytes) : content_type_(std::move(content_type)), bytes_(std::move(bytes)) {}

    /// The value of Content-Type, or empty.
    [[nodiscard]] const std::string& content_type() const noexcept { return content_type_; }
    [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::string& bytes() noexcept { return bytes_; }

private:
    std::string content_type_, bytes_;
};

/// Reads one image's repository of a registry: with logins, redirects, mirrors and repeated tries.
///
/// *Errors* of the operations: `error` at `stage::source`, whose subject is a URL without its query.
/// - `errc::not_in_registry`: status 401, 403 or 404, which all mean "not there, or not yours"
/// - `errc::login_refused`: the token server refuses the credentials
/// - `errc::registry_unavailable`: another status of failure, still after the last try
/// - `errc::registry_busy`: the registry asks to wait for longer than a minute
/// - `errc::redirect_refused`, `errc::malformed_answer`; those of `exchange`, of the settings and of credential helpers
/// With several hosts, the error is the last one's, and its explanation names what happened at the others.
/// *Cancellation*: all types that the coroutine lets through take effect at once.
/// *Lifetimes*: a copy shares its state, which the operations and streams keep alive.
/// *Concurrency*: operations may run at the same time, on one strand: not thread-safe.
class client
{
public:
    /// An empty handle.
    client() = default;

    /// Reads the settings, on a worker thread; connects to nothing.
    /// \param image  its domain and path are the repository; its tag and digest do not matter but for rules of mirrors
    /// \param bounds for documents
    /// Throws `registry_blocked`, `invalid_settings`, or the kernel's error for a settings file.
    [[nodiscard]] static boost::asio::awaitable<client> open(worker_pool workers, reference image, registry_options options,
                                                             limits bounds);

    /// Fetches a manifest or index, whichever it is; see `classify`.
    /// \param tag_or_digest a digest is verified
    /// \param size          of the descriptor, in bytes, if there is one; verified
    [[nodiscard]] boost::asio::awaitable<fetched_document> manifest(std::string tag_or_digest,
                                                                    std::optional<std::uint64_t> size = std::nullopt) const;
    /// The digest that the registry states for a tag, by HEAD: a hint, never a proof. nullopt if the registry does not say.
    [[nodiscard]] boost::asio::awaitable<std::optional<digest>> digest_of(std::string tag) const;
    /// Fetches a small blob, such as a config, and verifies it.
    [[nodiscard]] boost::asio::awaitable<std::string> document(descriptor what) const;
    /// Asks the base of the API, with the credentials of the options if the registry wants any: `login_refused` if it refuses them.
    [[nodiscard]] boost::asio::awaitable<void> log_in() const;
    /// All tags of the repository, in the registry's order.
    [[nodiscard]] boost::asio::awaitable<std::vector<std::string>> tags() const;
    /// Opens a blob as a stream, which carries on where it stopped after a failure. The caller verifies the digest.
    [[nodiscard]] boost::asio::awaitable<byte_stream> blob(descriptor what) const;

private:
    struct state;
    explicit client(std::shared_ptr<state> owned) noexcept;
    std::shared_ptr<state> state_;
};

} // namespace overmount::OVERMOUNT_ABI::registry

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/impl/client.ipp>
#endif

#endif

#ifndef OVERMOUNT_REGISTRY_IMPL_CLIENT_IPP
#define OVERMOUNT_REGISTRY_IMPL_CLIENT_IPP

#include <overmount/core/handle.hpp>
#include <overmount/io/resuming_stream.hpp>
#include <overmount/registry/ascii.hpp>
#include <overmount/registry/challenge.hpp>
#include <overmount/registry/client.hpp>
#include <overmount/registry/document.hpp>
#include <overmount/registry/host_memory.hpp>
#include <overmount/registry/link_header.hpp>
#include <overmount/registry/range_answer.hpp>
#include <overmount/registry/redirect.hpp>
#include <overmount/registry/retry.hpp>
#include <overmount/registry/settings/auth_files.hpp>
#include <overmount/registry/settings/credential_helper.hpp>
#include <overmount/registry/settings/host_settings.hpp>
#include <overmount/registry/settings/proxy.hpp>
#include <overmount/registry/token_request.hpp>
#include <overmount/runtime/pause.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/semaphore.hpp>

#include <boost/asio/error.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/this_coro.hpp>

#include <openssl/err.h>
#include <openssl/sslerr.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <random>
#include <span>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

namespace asio = boost::asio;
using overmount::detail::pause;
using overmount::detail::run_on;
using overmount::detail::semaphore;
using overmount::detail::stop_flag;

inline constexpr std::size_t most_token_bytes = 1 << 20, most_pages = 10'000;

// The same URL without TLS.
inline url without_tls(const url& from)
{
    const std::string port = from.port() == 443 ? "" : ":" + std::to_string(from.port());
    return url::parse("http://" + from.bracketed_host() + port + from.target());
}

// A host, and what was learned of it during a pull.
struct host_in_use
{
    explicit host_in_use(registry_host where) : host(std::move(where)) {}

    registry_host host;
    bool spoke_tls = false, speaks_no_tls = false;
    bool credentials_known = false;
    registry_credentials credentials;
    std::optional<challenge> asked_for; // what it wants to be shown
    semaphore login{1}; // one search for credentials at a time
};

// What a request shows, and the token that it is of.
class proof
{
public:
    proof() = default;
    explicit proof(secret value) : header(std::move(value)) {}
    proof(secret value, std::shared_ptr<shared_token> from, bool was_there)
        : header(std::move(value)), token(std::move(from)), remembered(was_there)
    {
    }
    secret header; // Authorization; empty if there is nothing to show
    std::shared_ptr<shared_token> token;
    bool remembered = false; // not fetched for this request
};

// What is asked of a host.
class question
{
public:
    question(std::string verb, api_kind what, std::string tag_or_digest = {})
        : method(std::move(verb)), kind(what), name(std::move(tag_or_digest))
    {
    }
    [[nodiscard]] url url_at(const host_in_use& at) const
    {
        const url out = exactly ? *exactly : at.host.url_of(api_path(at.host.repository, kind, name));
        return at.speaks_no_tls && out.is_https() ? without_tls(out) : out;
    }

    std::string method;
    api_kind kind;
    std::string name;
    std::optional<url> exactly;        // a further page
    std::string_view accept;
    std::optional<std::uint64_t> from; // first byte of a blob
    bool by_tag = false;               // a question for hosts that may resolve tags
    bool fresh_token = false;          // a remembered one proves nothing
};

inline bool refuses_certificate(const error& failure)
{
    return failure.code().category() == asio::error::get_ssl_category() &&
           ERR_GET_REASON(static_cast<unsigned long>(failure.code().value())) == SSL_R_CERTIFICATE_VERIFY_FAILED;
}

// Whether another try may help, at this host or another.
inline bool is_passing(const error& failure)
{
    const auto& code = failure.code();
    if (code.category() != error_category())
        return code != asio::error::operation_aborted && code != asio::error::host_not_found &&
               code != boost::system::errc::invalid_argument && code != condition::permission_denied &&
               code != condition::not_found && !refuses_certificate(failure);
    return code == errc::registry_unavailable || code == errc::truncated_stream;
}

// Whether another host may do better: always, but for a cancellation and for mistakes of this machine.
inline bool means_other_host(const error& failure)
{
    return failure.code() != asio::error::operation_aborted && failure.code() != errc::invalid_settings;
}

// Whether a host answered to TLS with something else.
inline bool means_no_tls(const error& failure)
{
    if (failure.code().category() != asio::error::get_ssl_category())
        return false;
    switch (ERR_GET_REASON(static_cast<unsigned long>(failure.code().value()))) {
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_UNKNOWN_PROTOCOL:
    case SSL_R_HTTP_REQUEST:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
        return true;
    default:
        return false;
    }
}

// Whether plain HTTP is tried after this failure of TLS. A host that has spoken TLS once does so always.
inline bool may_use_plain_http(const host_in_use& at, const error& failure)
{
    return at.host.plain_http && !at.spoke_tls &&
           (means_no_tls(failure) || (at.host.skip_verify && failure.code() == asio::error::connection_refused));
}

// What an answer that is no success means.
inline error failure_of(unsigned status, std::string_view method, const url& asked)
{
    const errc code = status == 401 || status == 403 || status == 404 ? errc::not_in_registry
                      : is_retried(status)                            ? errc::registry_unavailable
                                                                      : errc::malformed_answer;
    error out(code);
    out.at(stage::source).operation(method).subject(asked.without_query()).detail("status " + std::to_string(status));
    return out;
}

// All that the token of these requests depends on. It is for one registry: another could not have had it fetched.
inline std::string key_of(const std::vector<token_request>& plan, const registry_host& host)
{
    std::vector<std::string> parts{host.base.origin(), host.skip_verify ? "unverified" : "verified"};
    parts.insert(parts.end(), host.certificates.authorities.begin(), host.certificates.authorities.end());
    for (const client_certificate& own : host.certificates.clients)
        parts.insert(parts.end(), {own.certificate, own.key});
    for (const token_request& one : plan)
        parts.insert(parts.end(), {std::string(one.method()), one.target().string(), std::string(one.content_type()),
                                   one.body().reveal(), one.authorization_header().reveal()});
    std::string out;
    for (const std::string& part : parts)
        out += std::to_string(part.size()) + ':' + part;
    return out;
}

// Whether a header of the settings is sent: not if the request has it, or the exchange writes it.
inline bool may_add_header(const request& to, std::string_view name)
{
    return !belongs_to_exchange(name) && std::none_of(to.headers().begin(), to.headers().end(), [name](const auto& header) {
        return equal_ignoring_case(header.first, name);
    });
}

// The body of a blob from some byte on.
class blob_body
{
public:
    // \param size  of the part of the blob that this body has, in bytes
    // \param whole whether the blob ends there
    blob_body(exchange answer, std::uint64_t skip, std::uint64_t size, bool whole)
        : answer_(std::move(answer)), skip_(skip), left_(size), whole_(whole)
    {
    }

    asio::awaitable<std::size_t> read_some(std::span<std::byte> into) { return read(this, into); }

private:
    // The caller keeps the body alive.
    static asio::awaitable<std::size_t> read(blob_body* self, std::span<std::byte> into)
    {
        while (self->skip_ != 0) {
            const auto room = static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), self->skip_));
            const std::size_t count = co_await self->answer_.read_some(into.first(room));
            if (count == 0)
                co_return 0;
            self->skip_ -= count;
        }
        into = into.first(static_cast<std::size_t>(std::min<std::uint64_t>(into.size(), self->left_)));
        if (into.empty())
            co_return 0;
        const std::size_t count = co_await self->answer_.read_some(into);
        self->left_ -= count;
        if (self->left_ == 0 && self->whole_ && !self->answer_.is_complete()) {
            std::byte beyond;
            if (const std::size_t more = co_await self->answer_.read_some(std::span(&beyond, 1)); more != 0)
                throw error(errc::size_mismatch).at(stage::source).operation("GET").detail("the registry sends more bytes than the descriptor says");
        }
        co_return count;
    }

    exchange answer_;
    std::uint64_t skip_;
    std::uint64_t left_;
    bool whole_;
};

} // namespace detail

struct client::state
{
    using hosts = std::vector<std::unique_ptr<detail::host_in_use>>;
    using self_type = std::shared_ptr<state>;

    state(worker_pool pool, registry_options chosen, limits of_documents)
        : workers(std::move(pool)), options(std::move(chosen)), bounds(of_documents), random(std::random_device()())
    {
    }

    worker_pool workers;
    registry_options options;
    limits bounds;
    environment variables; // empty unless the user's settings are read
    hosts all;
    std::shared_ptr<detail::host_memory> memory;
    std::mt19937 random;
    const retry_policy policy{};

    static boost::asio::awaitable<self_type> make(worker_pool pool, reference image, registry_options chosen, limits of_documents)
    {
        auto made = std::make_shared<state>(pool, chosen, of_documents);
        made->memory = detail::host_memory::of(co_await boost::asio::this_coro::executor);
        host_settings_paths paths;
        if (chosen.settings_of_user()) {
            made->variables = process_environment();
            paths = host_settings_paths(made->variables);
        }
        paths.certs_for_all = chosen.certificates();
        auto load = [paths, image, chosen](const detail::stop_flag&) {
            return host_settings::load(paths).hosts_for(image, host_options().origin(chosen.origin()).tls(chosen.tls()));
        };
        for (registry_host& host : co_await detail::run_on(pool, std::move(load)))
            made->all.push_back(std::make_unique<detail::host_in_use>(std::move(host)));
        co_return made;
    }

    [[nodiscard]] connection_target target_of(const detail::host_in_use& at, const url& to) const
    {
        connection_target out = connection_target::plain(to.host(), to.port());
        if (to.is_https()) {
            tls_settings settings;
            settings.verify(!at.host.skip_verify);
            for (const std::string& file : at.host.certificates.authorities)
                settings.ca_file(file);
            if (to.same_origin(at.host.base) && !at.host.certificates.clients.empty()) {
                const client_certificate& own = at.host.certificates.clients.front();
                settings.client_certificate(own.certificate, own.key.empty() ? own.certificate : own.key);
            }
            out = connection_target::tls(to.host(), to.port(), std::move(settings));
        }
        if (const auto through = proxy_for(to, variables)) {
            if (through->scheme() != "http")
                throw error(errc::invalid_settings).at(stage::source).subject(through->host()).detail("the proxy wants TLS: only http:// is supported");
            out.proxy(proxy_server(through->host(), through->port(), authorization::basic_header(through->credentials()).reveal()));
        }
        return out;
    }

    static boost::asio::awaitable<exchange> send(self_type self, detail::host_in_use* at, request what)
    {
        const auto gate = self->memory->gate(what.url(), !at->host.skip_verify);
        for (auto now = host_gate::time_point::clock::now(); gate->not_before() > now; now = host_gate::time_point::clock::now()) {
            const std::chrono::milliseconds apart(std::uniform_int_distribution<int>(0, 500)(self->random)); // not all at once
            co_await detail::pause(gate->not_before() - now + apart);
        }
        exchange_options limits = self->options.limits_of_time();
        if (at->host.dial_timeout) {
            connection_options connecting = limits.connecting();
            limits.connecting(connecting.time_limit(*at->host.dial_timeout));
        }
        connection_target target = self->target_of(*at, what.url());
        const auto executor = co_await boost::asio::this_coro::executor;
        co_return co_await exchange::send(connection_pool::of(executor), std::move(target), std::move(what), std::move(limits));
    }

    // Closes the gate of a host that asks to be left alone. Throws if that is for too long.
    void heed_retry_after(const detail::host_in_use& at, const url& asked, const answer_head& head) const
    {
        const auto text = head.header("Retry-After");
        const auto after = text ? retry_after(*text, std::chrono::system_clock::now()) : std::nullopt;
        if (!after || !is_retried(head.status()))
            return;
        static_cast<void>(decide_retry(head.status(), after, 1, 0, policy)); // throws if it is too long
        memory->gate(asked, !at.host.skip_verify)->close_until(host_gate::time_point::clock::now() + *after);
    }

    static boost::asio::awaitable<void> find_credentials(self_type self, detail::host_in_use* at)
    {
        const auto turn = co_await at->login.acquire();
        if (at->credentials_known)
            co_return;
        if (self->options.credentials() && at->host.is_origin) {
            at->credentials = self->options.credentials();
        } else if (self->options.settings_of_user() || !self->options.auth_file().empty()) {
            std::vector<std::string> paths{self->options.auth_file()};
            if (self->options.settings_of_user())
                paths = auth_file_paths_of_process(self->options.auth_file());
            auto look = [paths, domain = at->host.credentials_domain, repository = at->host.repository](const detail::stop_flag&) {
                return find_login(paths, domain, repository);
            };
            const auth_lookup found = co_await detail::run_on(self->workers, std::move(look));
            at->credentials = found.credentials();
            if (found.helper())
                at->credentials = co_await ask_credential_helper(found.helper()->name(), found.helper()->server());
        }
        at->credentials_known = true;
    }

    // Learns from a 401 what the host wants. False if that cannot be shown.
    static boost::asio::awaitable<bool> learn(self_type self, detail::host_in_use* at, url asked, std::vector<std::string> challenges)
    {
        co_await find_credentials(self, at);
        if (challenges.empty()) { // some challenge at the base only
            request ping("GET", detail::question("GET", api_kind::base).url_at(*at));
            exchange answer = co_await send(self, at, std::move(ping));
            challenges = answer.head().headers("WWW-Authenticate");
            co_await answer.drain();
        }
        auto chosen = choose_challenge(parse_challenges(challenges), static_cast<bool>(at->credentials));
        if (!chosen)
            co_return false;
        if (chosen->scheme == "bearer")
            static_cast<void>(realm_url(asked, *chosen)); // refuses a bad one before anything is sent
        at->asked_for = std::move(chosen);
        co_return true;
    }

    // What the host wants to be shown, as far as is known.
    static boost::asio::awaitable<detail::proof> authorize(self_type self, detail::host_in_use* at, url asked, bool fresh)
    {
        if (!at->asked_for)
            co_return detail::proof();
        if (secret own = authorization::bearer_header(at->credentials); !own.empty())
            co_return detail::proof(std::move(own));
        if (at->asked_for->scheme == "basic")
            co_return detail::proof(authorization::basic_header(at->credentials));
        const challenge& what = *at->asked_for;
        const std::vector<std::string> known{pull_scope(at->host.repository)};
        auto plan = token_request::plan_token_requests(realm_url(asked, what), what, merge_scopes(what.scope, known), at->credentials);
        const auto shared = self->memory->token(detail::key_of(plan, at->host));
        const unsigned failures = shared->failures();
        secret token = fresh ? secret() : shared->get(std::chrono::steady_clock::now());
        if (!token.empty())
            co_return detail::proof(authorization::bearer_header(token.reveal()), shared, true);
        const auto turn = co_await shared->turn();
        token = fresh ? secret() : shared->get(std::chrono::steady_clock::now()); // others have fetched it meanwhile
        if (!token.empty())
            co_return detail::proof(authorization::bearer_header(token.reveal()), shared, true);
        if (shared->failures() != failures)
            shared->rethrow();
        try {
            token_answer answer = co_await fetch_token(self, at, std::move(plan), std::move(asked));
            token = answer.token();
            shared->set(std::move(answer));
        } catch (const error& failure) {
            if (failure.code() != boost::asio::error::operation_aborted)
                shared->fail(failure);
            throw;
        }
        co_return detail::proof(authorization::bearer_header(token.reveal()), shared, false);
    }

    static boost::asio::awaitable<token_answer> fetch_token(self_type self, detail::host_in_use* at, std::vector<token_request> plan,
                                                            url asked)
    {
        for (std::size_t i = 0; i < plan.size(); ++i) {
            request next(std::string(plan[i].method()), plan[i].target());
            if (!plan[i].content_type().empty())
                next.header("Content-Type", std::string(plan[i].content_type())).body(plan[i].body().reveal());
            if (!plan[i].authorization_header().empty())
                next.header("Authorization", plan[i].authorization_header().reveal());
            exchange answer = co_await send(self, at, std::move(next));
            const unsigned status = answer.head().status();
            if (status == 200) {
                const std::string body = co_await answer.read_all(detail::most_token_bytes);
                co_return parse_token_answer(body, std::chrono::steady_clock::now());
            }
            self->heed_retry_after(*at, plan[i].target(), answer.head());
            const error failure = detail::failure_of(status, plan[i].method(), plan[i].target());
            co_await answer.drain();
            if (plan[i].try_next(status) && i + 1 < plan.size())
                continue;
            if (status == 400 || status == 401 || status == 403 || status == 404)
                throw error(at->credentials ? errc::login_refused : errc::not_in_registry)
                    .at(stage::source)
                    .operation("login")
                    .subject(plan[i].target().without_query())
                    .detail("status " + std::to_string(status));
            throw failure;
        }
        throw error(errc::login_refused).at(stage::source).operation("login").subject(asked.without_query());
    }

    // Asks one host: follows redirects, and shows what the host wants to be shown. Returns an answer with status 200 or 206, and for
    // HEAD also one that says that HEAD is not possible.
    static boost::asio::awaitable<exchange> ask(self_type self, detail::host_in_use* at, detail::question what)
    {
        bool fresh_link = false;
        unsigned refusals = 0; // of what was shown
        for (;;) { // from the registry's own URL
            url to = what.url_at(*at);
            bool ours = true;
            for (unsigned redirects = 0;; ++redirects) {
                request next(what.method, to);
                if (!what.accept.empty())
                    next.header("Accept", std::string(what.accept));
                if (what.from)
                    next.header("Range", range_header(*what.from));
                detail::proof shown;
                if (ours) {
                    shown = co_await authorize(self, at, to, what.fresh_token);
                    if (!shown.header.empty())
                        next.header("Authorization", shown.header.reveal());
                    for (const auto& [name, value] : at->host.headers)
                        if (detail::may_add_header(next, name))
                            next.header(name, value.reveal());
                }
                std::optional<exchange> answer;
                std::optional<error> failed;
                try {
                    answer.emplace(co_await send(self, at, std::move(next)));
                } catch (const error& failure) {
                    failed = failure;
                }
                if (failed && ours && to.is_https() && detail::may_use_plain_http(*at, *failed)) {
                    at->speaks_no_tls = true; // plain HTTP is allowed
                    break;
                }
                if (failed)
                    throw *failed;
                at->spoke_tls = at->spoke_tls || (ours && to.is_https());
                const unsigned status = answer->head().status();
                if (status == 200 || status == 206)
                    co_return std::move(*answer);
                if (is_redirect(status)) {
                    const auto location = answer->head().header("Location");
                    const redirect_decision decided = follow(to, status, location.value_or(""), redirects);
                    ours = ours && decided.same_origin;
                    to = decided.target;
                    co_await answer->drain();
                    continue;
                }
                const bool may_lack_rights = status == 401 || status == 403 || (status == 404 && what.kind == api_kind::manifest);
                if (ours && shown.token && may_lack_rights)
                    shown.token->forget(shown.header); // unless another request has a new one already
                if (ours && status == 401) {
                    const auto challenges = answer->head().headers("WWW-Authenticate");
                    co_await answer->drain();
                    // One new token, then an error. A remembered one that is refused does not count, but not for ever.
                    bool can = ++refusals == 1 || (shown.remembered && refusals <= 3);
                    if (can)
                        can = co_await learn(self, at, to, challenges);
                    if (!can)
                        throw detail::failure_of(status, what.method, to);
                    break;
                }
                if (!ours && wants_fresh_link(status) && !fresh_link && what.method == "GET") {
                    fresh_link = true;
                    co_await answer->drain();
                    break;
                }
                if (what.method == "HEAD" && (status == 403 || status == 405))
                    co_return std::move(*answer);
                self->heed_retry_after(*at, to, answer->head());
                const error failure = detail::failure_of(status, what.method, to);
                co_await answer->drain();
                throw failure;
            }
        }
    }

    // Asks the hosts in order, from `*first` on, and leaves there the one that answered.
    static boost::asio::awaitable<exchange> ask_hosts(self_type self, std::shared_ptr<std::size_t> first, detail::question what)
    {
        std::string others;
        const std::size_t begin = *first;
        std::optional<error> failure;
        for (std::size_t i = 0; i < self->all.size(); ++i) {
            const std::size_t number = (begin + i) % self->all.size();
            detail::host_in_use* const at = self->all[number].get();
            if (what.exactly && i != 0)
                break; // a further page is of the host that has the first
            if (what.by_tag ? !at->host.resolve : !at->host.pull)
                continue;
            if (failure)
                others += (others.empty() ? "" : "; ") + escape(failure->what());
            try {
                exchange answer = co_await ask(self, at, what);
                *first = number;
                co_return answer;
            } catch (const error& failed) {
                failure = failed;
            }
            const auto cancelled = co_await boost::asio::this_coro::cancellation_state;
            if (!detail::means_other_host(*failure) || cancelled.cancelled() != boost::asio::cancellation_type::none)
                throw *failure;
        }
        if (!failure)
            failure = error(errc::registry_blocked).at(stage::source).detail("the settings leave no host to ask for it");
        if (!others.empty())
            failure->detail(failure->detail() + (failure->detail().empty() ? "" : "; ") + "before it: " + others);
        throw *failure;
    }

    static boost::asio::awaitable<std::string> read_document(exchange answer, std::size_t most)
    {
        std::string out;
        for (;;) {
            std::array<char, 16 * 1024> piece;
            const std::size_t count = co_await answer.read_some(std::as_writable_bytes(std::span(piece)));
            if (count == 0)
                co_return out;
            if (count > most - out.size())
                throw error(errc::json_limit_exceeded).at(stage::source).detail("a document of a registry");
            out.append(piece.data(), count);
        }
    }

    // Asks for a document, again after failures that pass, and other hosts if one has sent it broken.
    // \param first the host to begin with; afterwards, the one that has it
    static boost::asio::awaitable<std::pair<answer_head, std::string>> fetch(self_type self, std::shared_ptr<std::size_t> first,
                                                                             detail::question what, std::optional<digest> wanted,
                                                                             std::optional<std::uint64_t> size)
    {
        std::size_t broken = 0; // hosts that sent something else
        for (unsigned failures = 1;;) {
            std::optional<error> failure;
            bool began = false;
            try {
                exchange answer = co_await ask_hosts(self, first, what);
                began = true;
                answer_head head = answer.head();
                if (const auto encoding = head.header("Content-Encoding"); encoding && *encoding != "identity" && !encoding->empty())
                    throw error(errc::malformed_answer).at(stage::source).operation(what.method).detail("it has a Content-Encoding that was not asked for");
                if (head.content_length().value_or(0) > self->bounds.json_bytes)
                    throw error(errc::json_limit_exceeded).at(stage::source).operation(what.method);
                std::string body = co_await read_document(std::move(answer), self->bounds.json_bytes);
                if (what.method == "GET")
                    verify_document(body, wanted, size);
                co_return std::pair(std::move(head), std::move(body));
            } catch (const error& failed) {
                failure = failed;
            }
            const auto cancelled = co_await boost::asio::this_coro::cancellation_state;
            if (cancelled.cancelled() != boost::asio::cancellation_type::none || !detail::means_other_host(*failure))
                throw *failure;
            if (began && !what.exactly && ++broken < self->all.size()) {
                *first = (*first + 1) % self->all.size();
                continue;
            }
            const double random = std::uniform_real_distribution<double>(0, 1)(self->random);
            retry_decision decided;
            if (detail::is_passing(*failure))
                decided = decide_retry(0, std::nullopt, failures++, random, self->policy);
            if (!decided.retries())
                throw *failure;
            co_await detail::pause(decided.wait());
        }
    }

    // One blob, however often it is opened.
    class blob_in_use
    {
    public:
        explicit blob_in_use(descriptor described) : what(std::move(described)) {}

        descriptor what;
        std::shared_ptr<std::size_t> host = std::make_shared<std::size_t>(0);
        bool skipped = false;
        std::optional<std::uint64_t> began_at;
        std::size_t refused = 0; // answers that do not continue it
    };

    static boost::asio::awaitable<byte_stream> open_at(self_type self, std::shared_ptr<blob_in_use> blob, std::uint64_t offset)
    {
        detail::question what("GET", api_kind::blob, blob->what.digest().string());
        if (offset != 0)
            what.from = offset;
        if (std::exchange(blob->began_at, offset) == offset) // the last try brought no byte
            *blob->host = (*blob->host + 1) % self->all.size();
        exchange answer = co_await ask_hosts(self, blob->host, std::move(what));
        const answer_head& head = answer.head();
        const range_answer means =
            read_range_answer(head.status(), head.header("Content-Range"), head.content_length(),
                              head.header("Content-Encoding").value_or(""), offset, blob->what.size(), offset != 0);
        // Without ranges a failure near the end of each try could fetch a blob over and over.
        if (means.skip() != 0 && std::exchange(blob->skipped, true))
            throw error(errc::malformed_answer).at(stage::source).operation("GET").detail("the registry sends the whole blob for each range");
        const std::uint64_t size = blob->what.size(), end = means.end().value_or(size);
        co_return byte_stream(detail::blob_body(std::move(answer), means.skip(), end - offset, end == size));
    }
};

OVERMOUNT_DECL client::client(std::shared_ptr<state> owned) noexcept : state_(std::move(owned)) {}

OVERMOUNT_DECL boost::asio::awaitable<client> client::open(worker_pool workers, reference image, registry_options options, limits bounds)
{
    co_return client(co_await state::make(std::move(workers), std::move(image), std::move(options), bounds));
}

OVERMOUNT_DECL boost::asio::awaitable<fetched_document> client::manifest(std::string tag_or_digest, std::optional<std::uint64_t> size) const
{
    const auto self = overmount::detail::valid(state_);
    return [](state::self_type from, std::string name, std::optional<std::uint64_t> bytes) -> boost::asio::awaitable<fetched_document> {
        std::optional<digest> wanted;
        if (name.find(':') != std::string::npos)
            wanted = digest::parse(name);
        detail::question what("GET", api_kind::manifest, name);
        what.accept = accept_header();
        what.by_tag = !wanted;
        const auto first = std::make_shared<std::size_t>(0);
        auto [head, body] = co_await state::fetch(from, first, std::move(what), wanted, bytes);
        co_return fetched_document(std::string(head.header("Content-Type").value_or("")), std::move(body));
    }(self, std::move(tag_or_digest), size);
}

OVERMOUNT_DECL boost::asio::awaitable<std::optional<digest>> client::digest_of(std::string tag) const
{
    const auto self = overmount::detail::valid(state_);
    return [](state::self_type from, std::string name) -> boost::asio::awaitable<std::optional<digest>> {
        detail::question what("HEAD", api_kind::manifest, name);
        what.accept = accept_header();
        what.by_tag = true;
        const auto first = std::make_shared<std::size_t>(0);
        const auto [head, body] = co_await state::fetch(from, first, std::move(what), std::nullopt, std::nullopt);
        const auto stated = head.header("Docker-Content-Digest");
        if (!head_is_trusted(head.status(), stated, head.content_length()))
            co_return std::nullopt;
        co_return digest::parse(*stated);
    }(self, std::move(tag));
}

OVERMOUNT_DECL boost::asio::awaitable<std::string> client::document(descriptor what) const
{
    const auto self = overmount::detail::valid(state_);
    return [](state::self_type from, descriptor wanted) -> boost::asio::awaitable<std::string> {
        if (wanted.size() > from->bounds.json_bytes)
            throw error(errc::json_limit_exceeded).at(stage::source).subject(wanted.digest().string());
        detail::question asked("GET", api_kind::blob, wanted.digest().string());
        const auto first = std::make_shared<std::size_t>(0);
        const auto answer = co_await state::fetch(from, first, std::move(asked), wanted.digest(), wanted.size());
        co_return answer.second;
    }(self, std::move(what));
}

OVERMOUNT_DECL boost::asio::awaitable<void> client::log_in() const
{
    const auto self = overmount::detail::valid(state_);
    return [](state::self_type from) -> boost::asio::awaitable<void> {
        detail::question what("GET", api_kind::base);
        what.by_tag = true;
        what.fresh_token = true;
        std::optional<error> failure;
        try {
            const auto first = std::make_shared<std::size_t>(0);
            static_cast<void>(co_await state::fetch(from, first, std::move(what), std::nullopt, std::nullopt));
        } catch (const error& failed) {
            failure = failed;
        }
        if (!failure)
            co_return;
        if (failure->code() == errc::not_in_registry)
            throw error(errc::login_refused).at(stage::source).operation("login").subject(failure->subject()).detail(failure->detail());
        throw *failure;
    }(self);
}

OVERMOUNT_DECL boost::asio::awaitable<std::vector<std::string>> client::tags() const
{
    const auto self = overmount::detail::valid(state_);
    return [](state::self_type from) -> boost::asio::awaitable<std::vector<std::string>> {
        std::vector<std::string> out;
        page_guard pages(detail::most_pages);
        // All pages are of the host that has the first.
        const auto host = std::make_shared<std::size_t>(0);
        std::optional<url> page;
        for (;;) {
            detail::question what("GET", api_kind::tags);
            what.exactly = page;
            what.by_tag = true;
            const auto [head, body] = co_await state::fetch(from, host, what, std::nullopt, std::nullopt);
            const url here = what.url_at(*from->all[*host]);
            pages.enter(here.string());
            for (std::string& tag : parse_tag_list(body, from->bounds))
                out.push_back(std::move(tag));
            if (out.size() > from->bounds.json_values)
                throw error(errc::json_limit_exceeded).at(stage::source).subject(here.without_query()).detail("too many tags");
            const auto next = next_link(head.headers("Link"));
            if (!next)
                co_return out;
            page = here.resolve(*next);
            if (!page->same_origin(here))
                throw error(errc::redirect_refused).at(stage::source).subject(page->without_query()).detail("the next page is at another host");
        }
    }(self);
}

OVERMOUNT_DECL boost::asio::awaitable<byte_stream> client::blob(descriptor what) const
{
    const auto self = overmount::detail::valid(state_);
    return [](state::self_type from, descriptor wanted) -> boost::asio::awaitable<byte_stream> {
        const std::uint64_t size = wanted.size();
        auto blob = std::make_shared<state::blob_in_use>(std::move(wanted));
        auto open = [from, blob](std::uint64_t offset) { return state::open_at(from, blob, offset); };
        resume_policy policy;
        policy.attempts(retry_policy().tries - 1);
        policy.only_after([blob, hosts = from->all.size()](const error& failure) {
            return detail::is_passing(failure) || (failure.code() == errc::malformed_answer && ++blob->refused < hosts);
        });
        co_return resuming_stream(std::move(open), size, std::move(policy));
    }(self, std::move(what));
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif

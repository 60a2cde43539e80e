#ifndef OVERMOUNT_REGISTRY_IMPL_CHALLENGE_IPP
#define OVERMOUNT_REGISTRY_IMPL_CHALLENGE_IPP

#include <overmount/registry/ascii.hpp>
#include <overmount/registry/challenge.hpp>
#include <overmount/registry/redirect.hpp>

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace overmount::OVERMOUNT_ABI::registry {
namespace detail {

// Reads the value of one header. Every function takes what it reads off the front, so that the time is linear.
class challenge_reader
{
public:
    static constexpr std::size_t max_value_bytes = 16 * 1024;
    static constexpr std::size_t max_challenges = 16;

    challenge_reader(std::string_view value, std::vector<challenge>& out) : rest_(value), out_(out) {}

    void read()
    {
        bool in_challenge = false; // no parameter stands before the first scheme
        for (skip(" \t,"); !rest_.empty(); skip(" \t,")) {
            const std::string_view name = take_token();
            const bool spaced = skip(" \t");
            if (rest_.starts_with('=') && !name.empty()) {
                rest_.remove_prefix(1);
                skip(" \t");
                const std::optional<std::string> value = take_value();
                if (in_challenge && value)
                    set(out_.back(), ascii_lower(name), *value);
            } else if (name.empty() || (!spaced && !rest_.empty() && rest_.front() != ',')) {
                skip_to_comma();
            } else {
                if (out_.size() == max_challenges)
                    return;
                out_.emplace_back().scheme = ascii_lower(name);
                in_challenge = true;
                skip_token68();
            }
        }
    }

private:
    static constexpr std::string_view letters_and_digits = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

    static bool is_one_of(char c, std::string_view set) noexcept { return set.find(c) != std::string_view::npos; }

    static void set(challenge& to, std::string_view name, const std::string& value)
    {
        std::string* const member = name == "realm"     ? &to.realm
                                    : name == "service" ? &to.service
                                    : name == "scope"   ? &to.scope
                                    : name == "error"   ? &to.error
                                                        : nullptr;
        if (member != nullptr && member->empty())
            *member = value;
    }

    bool skip(std::string_view any_of)
    {
        const std::size_t count = std::min(rest_.find_first_not_of(any_of), rest_.size());
        rest_.remove_prefix(count);
        return count != 0;
    }

    std::string_view take_token()
    {
        std::size_t count = 0;
        while (count < rest_.size() &&
               (is_one_of(rest_[count], letters_and_digits) || is_one_of(rest_[count], "!#$%&'*+-.^_`|~")))
            ++count;
        const std::string_view out = rest_.substr(0, count);
        rest_.remove_prefix(count);
        return out;
    }

    // A quoted string, or what servers write without quotes, URLs among it. Nothing if it has control characters or no end.
    std::optional<std::string> take_value()
    {
        std::string out;
        bool valid = true;
        const bool quoted = rest_.starts_with('"');
        std::size_t at = quoted ? 1 : 0;
        for (;; ++at) {
            if (at == rest_.size() || (!quoted && is_one_of(rest_[at], " \t,"))) {
                valid = valid && !quoted;
                break;
            }
            if (quoted && rest_[at] == '"') {
                ++at;
                break;
            }
            if (quoted && rest_[at] == '\\' && at + 1 < rest_.size())
                ++at;
            valid = valid && static_cast<unsigned char>(rest_[at]) >= ' ' && rest_[at] != '\x7f';
            out += rest_[at];
        }
        rest_.remove_prefix(at);
        return valid ? std::optional(std::move(out)) : std::nullopt;
    }

    // What some schemes have instead of parameters, such as `Negotiate YII=`. It ends its challenge.
    void skip_token68()
    {
        std::string_view after = rest_;
        const auto drop = [&after](auto wanted) {
            while (!after.empty() && wanted(after.front()))
                after.remove_prefix(1);
        };
        drop([](char c) { return is_one_of(c, letters_and_digits) || is_one_of(c, "-._~+/"); });
        drop([](char c) { return c == '='; });
        drop([](char c) { return c == ' ' || c == '\t'; });
        if (after.empty() || after.front() == ',')
            rest_ = after;
    }

    void skip_to_comma()
    {
        while (!rest_.empty() && rest_.front() != ',') {
            if (rest_.front() == '"')
                (void)take_value();
            else
                rest_.remove_prefix(1);
        }
    }

    std::string_view rest_;
    std::vector<challenge>& out_;
};

} // namespace detail

OVERMOUNT_DECL std::vector<challenge> parse_challenges(const std::vector<std::string>& header_values)
{
    std::vector<challenge> out;
    for (const std::string& value : header_values)
        if (value.size() <= detail::challenge_reader::max_value_bytes)
            detail::challenge_reader(value, out).read();
    return out;
}

OVERMOUNT_DECL std::optional<challenge> choose_challenge(const std::vector<challenge>& offered, bool have_credentials)
{
    const auto is_bearer = [](const challenge& each) { return each.scheme == "bearer" && !each.realm.empty(); };
    const auto is_basic = [&](const challenge& each) { return have_credentials && each.scheme == "basic"; };
    auto found = std::find_if(offered.begin(), offered.end(), is_bearer);
    if (found == offered.end())
        found = std::find_if(offered.begin(), offered.end(), is_basic);
    return found == offered.end() ? std::nullopt : std::optional(*found);
}

OVERMOUNT_DECL url realm_url(const url& registry, const challenge& bearer)
{
    url out = registry.resolve(bearer.realm);
    require_safe_destination(registry, out);
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::registry

#endif

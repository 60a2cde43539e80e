// A reader of TOML 1.0, for registries.conf and hosts.toml. toml++ 3.3 is not fit for hostile text: `[&` or `a = [2,}` run into its
// assertions, which are undefined behaviour in release builds (tomlplusplus#294), and a long dotted key overflows the stack.
#ifndef OVERMOUNT_REGISTRY_SETTINGS_TOML_HPP
#define OVERMOUNT_REGISTRY_SETTINGS_TOML_HPP

#include <overmount/core/error.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::OVERMOUNT_ABI::registry::detail {

inline constexpr std::size_t max_settings_bytes = 1 << 20;
inline constexpr std::size_t max_settings_entries = 10'000; // in one table or list

// `why` is printed as it is: no text of the file, which may hold passwords.
inline error settings_error(std::string_view file, std::uint32_t line, std::string_view why)
{
    error out(errc::invalid_settings);
    out.at(stage::source).subject(file);
    out.detail(line == 0 ? std::string(why) : "line " + std::to_string(line) + ": " + std::string(why));
    return out;
}

struct toml_node
{
    enum class form : unsigned char
    {
        text,
        flag,
        other, // a number or a date: no key that is read has one
        list,
        table,
    };

    explicit toml_node(form what, std::uint32_t where) : kind(what), line(where) {}

    [[nodiscard]] const toml_node* get(std::string_view key) const
    {
        const auto found = keys.find(key);
        return found != keys.end() ? &children[found->second] : nullptr;
    }

    form kind;
    std::uint32_t line;
    bool flag = false;
    bool has_header = false; // a table with a header of its own, or a list made by `[[headers]]`
    bool is_closed = false;  // an inline table or a list that is a value: complete
    std::string text;
    std::vector<toml_node> children;                      // of a list or a table, in the order of the file
    std::map<std::string, std::size_t, std::less<>> keys; // of a table
};

// Throws `errc::invalid_settings`, which names file and line.
[[nodiscard]] toml_node parse_toml(std::string_view text, std::string_view file);

// Reads members of a table. A missing one is the default; one of another type is refused.
class toml_members
{
public:
    toml_members(const toml_node& from, std::string_view file) : from_(from), file_(file) {}

    [[nodiscard]] error refuse(const toml_node& at, const std::string& why) const { return settings_error(file_, at.line, why); }
    [[nodiscard]] error refuse(std::string_view key, const std::string& why) const
    {
        const toml_node* at = get(key);
        return refuse(at != nullptr ? *at : from_, why);
    }

    [[nodiscard]] const toml_node* get(std::string_view key) const { return from_.get(key); }

    // The member, which must be of that form.
    [[nodiscard]] const toml_node* get(std::string_view key, toml_node::form kind, const std::string& what) const
    {
        const toml_node* node = get(key);
        if (node != nullptr && node->kind != kind)
            throw refuse(*node, "`" + std::string(key) + "` must be " + what);
        return node;
    }
    [[nodiscard]] std::string text_of(const toml_node& node, const std::string& why) const
    {
        if (node.kind != toml_node::form::text)
            throw refuse(node, why);
        for (const char c : node.text)
            if (static_cast<unsigned char>(c) < ' ' || c == '\x7f')
                throw refuse(node, "control characters are not allowed");
        return node.text;
    }
    [[nodiscard]] const toml_node& table_of(const toml_node& node, const std::string& why) const
    {
        if (node.kind != toml_node::form::table)
            throw refuse(node, why);
        return node;
    }

    // Empty if it is missing.
    [[nodiscard]] std::string text(const std::string& key) const
    {
        const toml_node* node = get(key);
        return node != nullptr ? text_of(*node, "`" + key + "` must be a string") : std::string();
    }
    [[nodiscard]] std::optional<bool> flag(const std::string& key) const
    {
        const toml_node* node = get(key, toml_node::form::flag, "true or false");
        return node != nullptr ? std::optional(node->flag) : std::nullopt;
    }
    [[nodiscard]] const toml_node* list(const std::string& key, const std::string& of) const
    {
        return get(key, toml_node::form::list, "a list of " + of);
    }
    [[nodiscard]] std::optional<std::vector<std::string>> texts(const std::string& key) const
    {
        const toml_node* nodes = list(key, "strings");
        if (nodes == nullptr)
            return std::nullopt;
        std::vector<std::string> out;
        for (const toml_node& node : nodes->children)
            out.push_back(text_of(node, "`" + key + "` must be a list of strings"));
        return out;
    }
    // A string, or a list of them.
    [[nodiscard]] std::vector<std::string> text_or_texts(const std::string& key) const
    {
        const toml_node* node = get(key);
        if (node != nullptr && node->kind == toml_node::form::text)
            return {text(key)};
        return texts(key).value_or(std::vector<std::string>());
    }
    [[nodiscard]] const toml_node* table(const std::string& key) const { return get(key, toml_node::form::table, "a table"); }

private:
    const toml_node& from_;
    std::string_view file_;
};

} // namespace overmount::OVERMOUNT_ABI::registry::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/registry/settings/impl/toml.ipp>
#endif

#endif

#ifndef OVERMOUNT_REGISTRY_SETTINGS_IMPL_TOML_IPP
#define OVERMOUNT_REGISTRY_SETTINGS_IMPL_TOML_IPP

#include <overmount/registry/settings/toml.hpp>

namespace overmount::OVERMOUNT_ABI::registry::detail {

// Recursion is bounded by `max_depth`. Bytes above 0x7f are not checked to be UTF-8, and numbers and dates not to be valid.
class toml_parser
{
public:
    toml_parser(std::string_view text, std::string_view file) : rest_(text), file_(file) {}

    toml_node parse()
    {
        toml_node root(toml_node::form::table, 1);
        toml_node* current = &root;
        if (rest_.starts_with("\xef\xbb\xbf"))
            rest_.remove_prefix(3);
        for (skip_lines(); !rest_.empty(); skip_lines()) {
            if (peek() == '[')
                current = &header(root);
            else
                member(*current, 0);
            skip_spaces();
            if (!rest_.empty() && peek() != '#' && peek() != '\n' && !rest_.starts_with("\r\n"))
                throw refuse();
        }
        return root;
    }

private:
    static constexpr std::size_t max_depth = 16;
    using form = toml_node::form;

    [[nodiscard]] error refuse(std::string_view why = "not valid TOML") const { return settings_error(file_, line_, why); }

    [[nodiscard]] char peek() const { return rest_.empty() ? '\0' : rest_.front(); }
    bool take(std::string_view text)
    {
        if (!rest_.starts_with(text))
            return false;
        rest_.remove_prefix(text.size());
        return true;
    }
    void expect(std::string_view text)
    {
        if (!take(text))
            throw refuse();
    }
    static bool is_control(char c) { return (static_cast<unsigned char>(c) < ' ' && c != '\t') || c == '\x7f'; }

    void skip_spaces() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size())); }
    // A line break, if there is one here.
    bool take_newline()
    {
        if (!take("\n") && !take("\r\n"))
            return false;
        ++line_;
        return true;
    }
    // Spaces, comments and line breaks.
    void skip_lines()
    {
        do {
            skip_spaces();
            if (take("#"))
                while (!rest_.empty() && peek() != '\n' && !rest_.starts_with("\r\n")) {
                    if (is_control(peek()))
                        throw refuse();
                    rest_.remove_prefix(1);
                }
        } while (take_newline());
    }

    std::vector<std::string> key()
    {
        std::vector<std::string> parts;
        do {
            skip_spaces();
            if (peek() == '"' || peek() == '\'') {
                if (rest_.starts_with("\"\"\"") || rest_.starts_with("'''"))
                    throw refuse();
                parts.push_back(text());
            } else {
                constexpr std::string_view bare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
                parts.emplace_back(rest_.substr(0, std::min(rest_.find_first_not_of(bare), rest_.size())));
                if (parts.back().empty())
                    throw refuse();
                rest_.remove_prefix(parts.back().size());
            }
            if (parts.size() > max_depth)
                throw refuse("nested too deeply");
            skip_spaces();
        } while (take("."));
        return parts;
    }

    toml_node& add(toml_node& to, toml_node child)
    {
        if (to.children.size() == max_settings_entries)
            throw refuse("more than 10000 entries");
        to.children.push_back(std::move(child));
        return to.children.back();
    }
    // The child of that name; it is made as a `what` if there is none.
    toml_node& child(toml_node& of, const std::string& name, form what)
    {
        const auto [found, is_new] = of.keys.try_emplace(name, of.children.size());
        return is_new ? add(of, toml_node(what, line_)) : of.children[found->second];
    }
    // The table for the last part of a key.
    toml_node& descend(toml_node& from, const std::vector<std::string>& parts)
    {
        toml_node* at = &from;
        for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
            at = &child(*at, parts[i], form::table);
            if (at->kind == form::list && at->has_header)
                at = &at->children.back();
            if (at->kind != form::table || at->is_closed)
                throw refuse();
        }
        return *at;
    }

    // Returns the table that the following lines are for.
    toml_node& header(toml_node& root)
    {
        const bool of_list = take("[[");
        if (!of_list)
            expect("[");
        const auto parts = key();
        expect(of_list ? "]]" : "]");
        toml_node& parent = descend(root, parts);
        const bool is_new = parent.get(parts.back()) == nullptr;
        toml_node& found = child(parent, parts.back(), of_list ? form::list : form::table);
        if (of_list ? found.kind != form::list || (!is_new && !found.has_header)
                    : found.kind != form::table || found.has_header || found.is_closed)
            throw refuse();
        found.has_header = true;
        found.line = of_list ? found.line : line_;
        return of_list ? add(found, toml_node(form::table, line_)) : found;
    }

    // `key = value`
    void member(toml_node& table, std::size_t depth)
    {
        const auto parts = key();
        toml_node& parent = descend(table, parts);
        if (parent.get(parts.back()) != nullptr)
            throw refuse();
        expect("=");
        toml_node read = value(depth);
        child(parent, parts.back(), form::other) = std::move(read);
    }

    toml_node value(std::size_t depth)
    {
        if (depth > max_depth)
            throw refuse("nested too deeply");
        skip_spaces();
        toml_node out(form::other, line_);
        if (peek() == '"' || peek() == '\'') {
            out.kind = form::text;
            out.text = text();
        } else if (peek() == '[' || peek() == '{') {
            out.is_closed = true;
            out.kind = peek() == '[' ? form::list : form::table;
            if (take("["))
                list(out, depth);
            else
                table(out, depth);
        } else {
            constexpr std::string_view allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.:_";
            constexpr std::string_view digits = "0123456789";
            auto end = std::min(rest_.find_first_not_of(allowed), rest_.size());
            // Between a date and a time there may be a space.
            if (end == 10 && rest_[4] == '-' && rest_.size() > 11 && rest_[10] == ' ' &&
                digits.find(rest_[11]) != std::string_view::npos)
                end = std::min(rest_.find_first_not_of(allowed, 11), rest_.size());
            const std::string_view word = rest_.substr(0, end);
            if (word == "true" || word == "false") {
                out.kind = form::flag;
                out.flag = word == "true";
            } else if (word.empty() || (digits.find(word.front()) == std::string_view::npos && word != "inf" && word != "nan" &&
                                        word.front() != '+' && word.front() != '-')) {
                throw refuse();
            }
            rest_.remove_prefix(end);
        }
        return out;
    }
    void list(toml_node& into, std::size_t depth)
    {
        for (skip_lines(); !take("]"); skip_lines()) {
            add(into, value(depth + 1));
            skip_lines();
            if (!take(",") && peek() != ']')
                throw refuse();
        }
    }
    void table(toml_node& into, std::size_t depth)
    {
        expect("{");
        skip_spaces();
        if (take("}"))
            return;
        do {
            member(into, depth + 1);
            skip_spaces();
        } while (take(","));
        expect("}");
    }

    std::string text()
    {
        const char quote = peek();
        const bool multiline = take(std::string(3, quote));
        if (!multiline)
            rest_.remove_prefix(1);
        else
            take_newline(); // the first one is not a part of the string
        std::string out;
        for (;;) {
            if (multiline ? take(std::string(3, quote)) : take(std::string(1, quote))) {
                for (int more = 0; multiline && more < 2 && peek() == quote; ++more) { // quotes before the closing ones
                    out += quote;
                    rest_.remove_prefix(1);
                }
                return out;
            }
            if (multiline && take_newline())
                out += '\n';
            else if (rest_.empty() || is_control(peek()))
                throw refuse();
            else if (quote == '"' && take("\\"))
                escape(out, multiline);
            else {
                out += peek();
                rest_.remove_prefix(1);
            }
        }
    }
    // What follows a backslash.
    void escape(std::string& out, bool multiline)
    {
        const char c = peek();
        constexpr std::string_view names = "btnfr\"\\", values = "\b\t\n\f\r\"\\";
        if (const auto at = names.find(c); c != '\0' && at != std::string_view::npos) {
            rest_.remove_prefix(1);
            out += values[at];
        } else if (c == 'u' || c == 'U') {
            rest_.remove_prefix(1);
            append_code_point(out, c == 'u' ? 4 : 8);
        } else {
            // A backslash at the end of a line joins it with the next one that is not empty.
            skip_spaces();
            if (!multiline || !take_newline())
                throw refuse();
            do
                skip_spaces();
            while (take_newline());
        }
    }
    void append_code_point(std::string& out, std::size_t digits)
    {
        std::uint32_t point = 0;
        const std::string_view hex = rest_.substr(0, digits);
        const auto [end, failure] = std::from_chars(hex.data(), hex.data() + hex.size(), point, 16);
        if (hex.size() != digits || failure != std::errc() || end != hex.data() + digits || point > 0x10ffff ||
            (point >= 0xd800 && point < 0xe000))
            throw refuse();
        rest_.remove_prefix(digits);
        const int more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
        constexpr unsigned first[] = {0, 0xc0, 0xe0, 0xf0};
        out += static_cast<char>(first[more] | (point >> (6 * more)));
        for (int i = more - 1; i >= 0; --i)
            out += static_cast<char>(0x80 | ((point >> (6 * i)) & 0x3f));
    }

    std::string_view rest_, file_;
    std::uint32_t line_ = 1;
};

OVERMOUNT_DECL toml_node parse_toml(std::string_view text, std::string_view file)
{
    if (text.size() > max_settings_bytes)
        throw settings_error(file, 0, "the file is larger than 1 MiB");
    return toml_parser(text, file).parse();
}

} // namespace overmount::OVERMOUNT_ABI::registry::detail

#endif

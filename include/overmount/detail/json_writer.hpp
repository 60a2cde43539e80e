#ifndef OVERMOUNT_DETAIL_JSON_WRITER_HPP
#define OVERMOUNT_DETAIL_JSON_WRITER_HPP

#include <overmount/detail/config.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Writes an object, compact; members in the order in which they are added. A record of the repository has them in the order
// of their names. Text must be UTF-8.
class json_writer
{
public:
    OVERMOUNT_LAZY json_writer& text(std::string_view name, std::string_view value)
    {
        begin(name);
        add_text(value);
        return *this;
    }
    OVERMOUNT_LAZY json_writer& number(std::string_view name, std::uint64_t value)
    {
        return add(name, std::to_string(value));
    }
    OVERMOUNT_LAZY json_writer& flag(std::string_view name, bool value) { return add(name, value ? "true" : "false"); }
    OVERMOUNT_LAZY json_writer& null(std::string_view name) { return add(name, "null"); }
    OVERMOUNT_LAZY json_writer& texts(std::string_view name, const std::vector<std::string>& values)
    {
        begin(name);
        out_ += '[';
        for (const std::string& value : values) {
            if (out_.back() != '[')
                out_ += ',';
            add_text(value);
        }
        out_ += ']';
        return *this;
    }
    OVERMOUNT_LAZY json_writer& object(std::string_view name, const json_writer& value) { return add(name, value.string()); }

    OVERMOUNT_LAZY [[nodiscard]] std::string string() const { return out_ + '}'; }

private:
    OVERMOUNT_LAZY json_writer& add(std::string_view name, std::string_view value)
    {
        begin(name);
        out_ += value;
        return *this;
    }
    OVERMOUNT_LAZY void begin(std::string_view name)
    {
        if (out_.size() > 1)
            out_ += ',';
        add_text(name);
        out_ += ':';
    }
    OVERMOUNT_LAZY void add_text(std::string_view text)
    {
        constexpr std::string_view special = "\b\t\n\f\r\"\\", letters = "btnfr\"\\";
        constexpr std::string_view digits = "0123456789abcdef";
        out_ += '"';
        for (const char c : text) {
            const auto code = static_cast<unsigned char>(c);
            if (const auto at = special.find(c); at != std::string_view::npos)
                (out_ += '\\') += letters[at];
            else if (code < 0x20)
                ((out_ += "\\u00") += digits[code >> 4]) += digits[code & 15];
            else
                out_ += c;
        }
        out_ += '"';
    }

    std::string out_ = "{";
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

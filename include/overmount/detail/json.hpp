#ifndef OVERMOUNT_DETAIL_JSON_HPP
#define OVERMOUNT_DETAIL_JSON_HPP

#include <overmount/error.hpp>
#include <overmount/limits.hpp>

#include <nlohmann/json.hpp>

#include <string_view>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Counts what a document holds and stops where a limit is reached, before anything is kept of it.
class json_bounds final : public nlohmann::json_sax<nlohmann::json>
{
public:
    explicit json_bounds(const limits& bounds) : values_left_(bounds.json_values), depth_left_(bounds.json_depth) {}

    [[nodiscard]] bool exceeded() const noexcept { return exceeded_; }

    bool null() override { return count(); }
    bool boolean(bool) override { return count(); }
    bool number_integer(number_integer_t) override { return count(); }
    bool number_unsigned(number_unsigned_t) override { return count(); }
    bool number_float(number_float_t, const string_t&) override { return count(); }
    bool string(string_t&) override { return count(); }
    bool binary(binary_t&) override { return count(); }
    bool start_object(std::size_t) override { return enter(); }
    bool key(string_t&) override { return count(); }
    bool end_object() override { return leave(); }
    bool start_array(std::size_t) override { return enter(); }
    bool end_array() override { return leave(); }
    bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

private:
    bool count()
    {
        if (values_left_ == 0)
            exceeded_ = true;
        else
            --values_left_;
        return !exceeded_;
    }
    bool enter()
    {
        if (depth_left_ == 0)
            exceeded_ = true;
        else
            --depth_left_;
        return count();
    }
    bool leave()
    {
        ++depth_left_;
        return true;
    }

    std::uint64_t values_left_;
    unsigned depth_left_;
    bool exceeded_ = false;
};

// Reads a foreign document: its size, depth and number of values are checked first, so that the tree that it
// becomes for a moment is bounded. `read` gets the tree; what it lacks, or has of another type, is `code`.
template <class Read>
auto read_json(std::string_view text, const limits& bounds, errc code, Read read)
{
    json_bounds counter(bounds);
    if (text.size() > bounds.json_bytes)
        throw error(errc::json_limit_exceeded).at(stage::manifest);
    // nlohmann takes a NUL for the end, whatever follows, and skips a byte order mark: other readers do not.
    if (text.find('\0') != std::string_view::npos || text.starts_with("\xef\xbb\xbf"))
        throw error(errc::malformed_json).at(stage::manifest);
    if (!nlohmann::json::sax_parse(text, &counter))
        throw error(counter.exceeded() ? errc::json_limit_exceeded : errc::malformed_json).at(stage::manifest);
    try {
        return read(nlohmann::json::parse(text));
    } catch (const nlohmann::json::parse_error&) {
        throw error(errc::malformed_json).at(stage::manifest);
    } catch (const nlohmann::json::exception& failure) {
        // "[json.exception.out_of_range.403] key 'x' not found": the part behind the bracket is for people.
        const std::string_view words = failure.what();
        throw error(code).at(stage::manifest).subject(words.substr(words.find(']') + 2));
    }
}

// A member that must be a list: a loop over another JSON value would take it, or its parts, for elements.
inline const nlohmann::json& list_at(const nlohmann::json& object, const char* key, errc code)
{
    const auto& list = object.at(key);
    if (!list.is_array())
        throw error(code).at(stage::manifest).subject(key).detail("not a list");
    return list;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

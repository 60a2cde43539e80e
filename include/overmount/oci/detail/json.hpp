#ifndef OVERMOUNT_OCI_DETAIL_JSON_HPP
#define OVERMOUNT_OCI_DETAIL_JSON_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/oci/detail/json_field.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Handler for nlohmann's SAX interface: matches the document against the tree of fields. It keeps one `level` for each
// open object or list; everything else is kept by the handlers of the fields.
class json_reader
{
public:
    json_reader(const json_field& root, const limits& bounds, errc code, stage at)
        : root_(root), code_(code), stage_(at), depth_(bounds.json_depth), values_left_(bounds.json_values)
    {}

    bool null()
    {
        const json_field* field = next();
        const bool member = !open_.empty() && !open_.back().is_list;
        if (field != nullptr && (!member || field->presence_ == json_field::presence::required))
            throw wrong(*field);
        return true;
    }
    bool boolean(bool value) { return take(json_field::form::flag, &json_field::flag_, value); }
    bool number_integer(std::int64_t) { return refuse(); } // called for negative numbers only
    bool number_unsigned(std::uint64_t value) { return take(json_field::form::number, &json_field::number_, value); }
    bool number_float(double, const std::string&) { return refuse(); }
    bool string(std::string& value) { return take(json_field::form::text, &json_field::text_, std::move(value)); }
    bool binary(std::vector<std::uint8_t>&) { return refuse(); } // does not occur in JSON
    bool start_object(std::size_t) { return enter(false, json_field::form::object, json_field::form::dictionary); }
    bool start_array(std::size_t) { return enter(true, json_field::form::list, json_field::form::list); }

    OVERMOUNT_LAZY bool key(const std::string& name)
    {
        count();
        level& top = open_.back();
        next_ = nullptr;
        if (top.field == nullptr)
            return true;
        if (top.field->form_ == json_field::form::dictionary) {
            key_ = name;
            next_ = &top.field->element_.front();
            add_field_path_to_errors([&] { top.field->text_(name); });
            return true;
        }
        const auto& members = top.field->members_;
        for (std::size_t i = 0; i < members.size() && next_ == nullptr; ++i) {
            if (members[i].first == name) {
                top.index = i;
                next_ = &members[i].second;
                if ((std::exchange(top.seen, top.seen | bit(i)) & bit(i)) != 0)
                    throw fail(field_path(), "the field occurs twice");
            } else if (!top.field->any_keys_ && members[i].first == matched_by_go(members[i].first, name)) {
                open_.pop_back();
                throw fail(field_path(name), "its name differs from a known field only in case: some readers take one for the other");
            }
        }
        return true;
    }

    OVERMOUNT_LAZY bool end_object()
    {
        const level done = open_.back();
        open_.pop_back();
        if (done.field == nullptr || done.field->form_ == json_field::form::dictionary)
            return true;
        const auto& members = done.field->members_;
        for (std::size_t i = 0; i < members.size(); ++i)
            if (members[i].second.presence_ != json_field::presence::optional && (done.seen & bit(i)) == 0)
                throw fail(field_path(members[i].first), "the field is missing");
        if (done.field->done_)
            add_field_path_to_errors(done.field->done_);
        return true;
    }
    bool end_array()
    {
        open_.pop_back();
        return true;
    }

    OVERMOUNT_LAZY bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&)
    {
        throw error(errc::malformed_json).at(stage_).detail("at byte " + std::to_string(position));
    }

private:
    struct level
    {
        const json_field* field; // null: the whole value is skipped
        bool is_list;
        std::size_t index = 0;  // of an object: index of the current member; of a list: number of elements begun
        std::uint64_t seen = 0; // known members that occurred, one bit each
    };

    static constexpr std::uint64_t bit(std::size_t i) { return std::uint64_t{1} << i; }

    // Go's JSON reader, which most tools use, ignores case: it takes `Digest` for `digest`, and U+017F and U+212A for `s`
    // and `k`. Returns `known` if Go would take `key` for it, otherwise an empty text.
    OVERMOUNT_LAZY static std::string_view matched_by_go(std::string_view known, std::string_view key)
    {
        const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
        for (const char c : known) {
            std::size_t size = 1;
            if (key.empty())
                return {};
            if (lower(c) == 's' && key.starts_with("\xc5\xbf"))
                size = 2;
            else if (lower(c) == 'k' && key.starts_with("\xe2\x84\xaa"))
                size = 3;
            else if (lower(key.front()) != lower(c))
                return {};
            key.remove_prefix(size);
        }
        return key.empty() ? known : std::string_view();
    }

    OVERMOUNT_LAZY void count()
    {
        if (values_left_-- == 0)
            throw error(errc::json_limit_exceeded).at(stage_).detail("the document has too many values");
    }

    // The field that the next value belongs to; null if it is unknown.
    OVERMOUNT_LAZY const json_field* next()
    {
        count();
        if (open_.empty())
            return &root_;
        level& top = open_.back();
        if (!top.is_list)
            return next_;
        ++top.index;
        if (top.field == nullptr)
            return nullptr;
        if (top.index > top.field->max_elements_)
            throw fail(field_path(), "the list has too many elements");
        return &top.field->element_.front();
    }

    template <class Handler, class Value>
    bool take(json_field::form wanted, Handler json_field::*handler, Value value)
    {
        const json_field* field = next();
        if (field == nullptr)
            return true;
        if (field->form_ != wanted)
            throw wrong(*field);
        add_field_path_to_errors([&] { (field->*handler)(std::move(value)); });
        return true;
    }

    OVERMOUNT_LAZY bool enter(bool is_list, json_field::form one, json_field::form other)
    {
        const json_field* field = next();
        if (open_.size() >= depth_)
            throw error(errc::json_limit_exceeded).at(stage_).detail("the document is nested too deeply");
        if (field != nullptr && field->form_ != one && field->form_ != other)
            throw wrong(*field);
        open_.push_back({field, is_list});
        return true;
    }

    OVERMOUNT_LAZY bool refuse()
    {
        if (const json_field* field = next())
            throw wrong(*field);
        return true;
    }

    // The path of the current value, such as `layers[3].digest`, or of its member `member`.
    OVERMOUNT_LAZY [[nodiscard]] std::string field_path(std::string_view member = {}) const
    {
        std::string out;
        const auto add = [&out](std::string_view name) { (out += out.empty() ? "" : ".") += name; };
        for (const level& each : open_) {
            if (each.is_list)
                out += "[" + std::to_string(each.index - 1) + "]";
            else if (each.field->form_ == json_field::form::dictionary)
                add(key_);
            else
                add(each.field->members_[each.index].first);
        }
        if (!member.empty())
            add(member);
        return out.empty() ? "the document" : out;
    }

    OVERMOUNT_LAZY [[nodiscard]] error fail(std::string_view field, std::string_view why) const
    {
        return error(code_).at(stage_).subject(field).detail(why);
    }
    OVERMOUNT_LAZY [[nodiscard]] error wrong(const json_field& field) const
    {
        static constexpr const char* expectations[] = {"",
                                                "it is not a string",
                                                "it is not a whole number",
                                                "it is not true or false",
                                                "it is not an object",
                                                "it is not a list",
                                                "it is not an object"};
        return fail(field_path(), field.why_ != nullptr ? field.why_ : expectations[static_cast<std::size_t>(field.form_)]);
    }

    template <class Call>
    void add_field_path_to_errors(const Call& call)
    {
        try {
            call();
        } catch (error& failure) {
            const std::string more = failure.detail().empty() ? "" : ": " + failure.detail();
            failure.at(stage_).detail(escape(field_path()) + more);
            throw;
        }
    }

    const json_field& root_;
    const json_field* next_ = nullptr;
    errc code_;
    stage stage_;
    std::vector<level> open_;
    std::string key_; // current key of the open dictionary; dictionaries do not nest
    std::size_t depth_;
    std::uint64_t values_left_;
};

// Reads a document within the limits on its size, depth and number of values. Throws `code`, with the path of the field, if
// a required field is missing, or a known field occurs twice or has the wrong type.
OVERMOUNT_LAZY inline void read_json(std::string_view text, const limits& bounds, errc code, const json_field& root,
                                     stage at = stage::manifest)
{
    if (text.size() > bounds.json_bytes)
        throw error(errc::json_limit_exceeded).at(at).detail("the document has too many bytes");
    // nlohmann ends at a NUL, whatever follows, and skips a byte order mark; other readers do not.
    if (text.find('\0') != std::string_view::npos || text.starts_with("\xef\xbb\xbf"))
        throw error(errc::malformed_json).at(at);
    json_reader reader(root, bounds, code, at);
    nlohmann::json::sax_parse(text, &reader);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_OCI_DETAIL_JSON_HPP
#define OVERMOUNT_OCI_DETAIL_JSON_HPP

#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// What is known of a document: a tree of fields, each with what takes its value. What it does not name is
// skipped, null is the same as absent, and nothing of the document is kept but what the takers keep. Takers
// may throw `error`: the reader adds the place. Made by the functions below; keys must outlive it.
class json_field
{
public:
    using text_taker = std::function<void(std::string)>;
    using number_taker = std::function<void(std::uint64_t)>;
    using flag_taker = std::function<void(bool)>;
    using member = std::pair<std::string_view, json_field>;
    using action = std::function<void()>;
    struct refused
    {
        const char* why;
    };
    struct object
    {
        std::vector<member> members; // at most 64
        bool any_keys;
    };
    struct list
    {
        std::vector<json_field> element; // one
        std::size_t most;
    };
    struct dictionary
    {
        std::vector<json_field> element; // one
        text_taker key;
    };
    enum class form : unsigned char
    {
        refused,
        text,
        number,
        flag,
        object,
        list,
        dictionary,
    };
    enum class presence : unsigned char
    {
        optional,
        required,
        required_or_null,
    };

    explicit json_field(refused value) : form_(form::refused), why_(value.why) {}
    explicit json_field(text_taker take) : form_(form::text), text_(std::move(take)) {}
    explicit json_field(number_taker take) : form_(form::number), number_(std::move(take)) {}
    explicit json_field(flag_taker take) : form_(form::flag), flag_(std::move(take)) {}
    OVERMOUNT_LAZY json_field(object value, action done)
        : form_(form::object), done_(std::move(done)), members_(std::move(value.members)), any_keys_(value.any_keys)
    {}
    OVERMOUNT_LAZY explicit json_field(list value)
        : form_(form::list), element_(std::move(value.element)), most_(value.most)
    {}
    OVERMOUNT_LAZY explicit json_field(dictionary value)
        : form_(form::dictionary), text_(std::move(value.key)), element_(std::move(value.element))
    {}

    [[nodiscard]] json_field required() &&
    {
        presence_ = presence::required;
        return std::move(*this);
    }
    // It must be there, but Go writes null for a list without elements.
    [[nodiscard]] json_field required_or_null() &&
    {
        presence_ = presence::required_or_null;
        return std::move(*this);
    }

private:
    friend class json_reader;
    // No variant: a compiler takes more for it than for all the rest here.
    form form_;
    presence presence_ = presence::optional;
    const char* why_ = nullptr;
    action done_;
    text_taker text_; // of a dictionary, what takes the keys
    number_taker number_;
    flag_taker flag_;
    std::vector<member> members_;
    bool any_keys_ = false;
    std::vector<json_field> element_;
    std::size_t most_ = 0;
};

OVERMOUNT_LAZY [[nodiscard]] inline json_field json_text(json_field::text_taker take)
{
    return json_field(std::move(take));
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_text(std::string& out)
{
    return json_text([&out](std::string value) { out = std::move(value); });
}
// A whole number that is not negative.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_number(json_field::number_taker take)
{
    return json_field(std::move(take));
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_number(std::uint64_t& out)
{
    return json_number([&out](std::uint64_t value) { out = value; });
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_flag(bool& out)
{
    return json_field(json_field::flag_taker([&out](bool value) { out = value; }));
}
// Whatever its value is, the field must not be there.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_refused(const char* why)
{
    return json_field(json_field::refused{why});
}
// `done` is called when all of it was read.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_object(std::vector<json_field::member> members,
                                                           json_field::action done = {})
{
    return json_field(json_field::object{std::move(members), false}, std::move(done));
}
// An object whose keys are anybody's: annotations, labels.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_map(std::vector<json_field::member> members)
{
    return json_field(json_field::object{std::move(members), true}, {});
}
// The same where all its members are of one form: `key` is called with the name of each, before it is read.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_dictionary(json_field element, json_field::text_taker key)
{
    return json_field(json_field::dictionary{{std::move(element)}, std::move(key)});
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_list(json_field element, std::size_t most = ~std::size_t{0})
{
    return json_field(json_field::list{{std::move(element)}, most});
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_texts(std::vector<std::string>& out)
{
    return json_list(json_text([&out](std::string value) { out.push_back(std::move(value)); }));
}

// nlohmann's SAX interface: follows the document through the tree of fields. Its memory is one level for each
// that is open, and what the takers keep.
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
    bool number_integer(std::int64_t) { return refuse(); } // the negative ones
    bool number_unsigned(std::uint64_t value) { return take(json_field::form::number, &json_field::number_, value); }
    bool number_float(double, const std::string&) { return refuse(); }
    bool string(std::string& value) { return take(json_field::form::text, &json_field::text_, std::move(value)); }
    bool binary(std::vector<std::uint8_t>&) { return refuse(); } // not in JSON
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
            with_place([&] { top.field->text_(name); });
            return true;
        }
        const auto& members = top.field->members_;
        for (std::size_t i = 0; i < members.size() && next_ == nullptr; ++i) {
            if (members[i].first == name) {
                top.index = i;
                next_ = &members[i].second;
                if ((std::exchange(top.seen, top.seen | bit(i)) & bit(i)) != 0)
                    throw fail(where(), "it is there twice");
            } else if (!top.field->any_keys_ && members[i].first == as_go_reads(members[i].first, name)) {
                open_.pop_back();
                throw fail(where(name), "its name has other letters: readers disagree about it");
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
                throw fail(where(members[i].first), "it is missing");
        if (done.field->done_)
            with_place(done.field->done_);
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
        const json_field* field; // none: all of it is skipped
        bool is_list;
        std::size_t index = 0;  // of the member that is read; of a list, the elements that were begun
        std::uint64_t seen = 0; // known members, one bit each
    };

    static constexpr std::uint64_t bit(std::size_t i) { return std::uint64_t{1} << i; }

    // Go's reader, which most tools use, takes `Digest` for `digest`, and U+017F and U+212A for `s` and `k`.
    // The known name where it would take `key` for it.
    OVERMOUNT_LAZY static std::string_view as_go_reads(std::string_view known, std::string_view key)
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
            throw error(errc::json_limit_exceeded).at(stage_).detail("too many values");
    }

    // The field that the value that comes is of; none when it is unknown.
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
        if (top.index > top.field->most_)
            throw fail(where(), "too many of them");
        return &top.field->element_.front();
    }

    template <class Taker, class Value>
    bool take(json_field::form wanted, Taker json_field::*taker, Value value)
    {
        const json_field* field = next();
        if (field == nullptr)
            return true;
        if (field->form_ != wanted)
            throw wrong(*field);
        with_place([&] { (field->*taker)(std::move(value)); });
        return true;
    }

    OVERMOUNT_LAZY bool enter(bool is_list, json_field::form one, json_field::form other)
    {
        const json_field* field = next();
        if (open_.size() >= depth_)
            throw error(errc::json_limit_exceeded).at(stage_).detail("it nests too deep");
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

    // What is read, such as `layers[3].digest`, or its member `more`.
    OVERMOUNT_LAZY [[nodiscard]] std::string where(std::string_view more = {}) const
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
        if (!more.empty())
            add(more);
        return out.empty() ? "the document" : out;
    }

    OVERMOUNT_LAZY [[nodiscard]] error fail(std::string_view field, std::string_view why) const
    {
        return error(code_).at(stage_).subject(field).detail(why);
    }
    OVERMOUNT_LAZY [[nodiscard]] error wrong(const json_field& field) const
    {
        static constexpr const char* words[] = {"",
                                                "it is not a string",
                                                "it is not a whole number",
                                                "it is not true or false",
                                                "it is not an object",
                                                "it is not a list",
                                                "it is not an object"};
        return fail(where(), field.why_ != nullptr ? field.why_ : words[static_cast<std::size_t>(field.form_)]);
    }

    template <class Call>
    void with_place(const Call& call)
    {
        try {
            call();
        } catch (error& failure) {
            const std::string more = failure.detail().empty() ? "" : ": " + failure.detail();
            failure.at(stage_).detail(escape(where()) + more);
            throw;
        }
    }

    const json_field& root_;
    const json_field* next_ = nullptr;
    errc code_;
    stage stage_;
    std::vector<level> open_;
    std::string key_; // of the dictionary that is read; none is in another
    std::size_t depth_;
    std::uint64_t values_left_;
};

// Reads a document, whose size, depth and number of values are bounded. A known field that is missing, there
// twice or of another type is an error `code` that names it.
OVERMOUNT_LAZY inline void read_json(std::string_view text, const limits& bounds, errc code, const json_field& root,
                                     stage at = stage::manifest)
{
    if (text.size() > bounds.json_bytes)
        throw error(errc::json_limit_exceeded).at(at).detail("too many bytes");
    // nlohmann takes a NUL for the end, whatever follows, and skips a byte order mark: other readers do not.
    if (text.find('\0') != std::string_view::npos || text.starts_with("\xef\xbb\xbf"))
        throw error(errc::malformed_json).at(at);
    json_reader reader(root, bounds, code, at);
    nlohmann::json::sax_parse(text, &reader);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

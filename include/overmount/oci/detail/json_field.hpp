#ifndef OVERMOUNT_OCI_DETAIL_JSON_FIELD_HPP
#define OVERMOUNT_OCI_DETAIL_JSON_FIELD_HPP

#include <overmount/core/config.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// The known part of a document: a tree of fields, each with a handler that gets its value. Unknown members are skipped, null
// is the same as absent, and only the handlers keep anything of the document. A handler may throw `error`; the reader adds the
// path of the field. Made by the functions below; the keys must outlive it.
class json_field
{
public:
    using text_handler = std::function<void(std::string)>;
    using number_handler = std::function<void(std::uint64_t)>;
    using flag_handler = std::function<void(bool)>;
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
        std::vector<json_field> element; // exactly one; a vector because the type is incomplete here
        std::size_t max_elements;
    };
    struct dictionary
    {
        std::vector<json_field> element; // exactly one
        text_handler key;
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
    explicit json_field(text_handler handler) : form_(form::text), text_(std::move(handler)) {}
    explicit json_field(number_handler handler) : form_(form::number), number_(std::move(handler)) {}
    explicit json_field(flag_handler handler) : form_(form::flag), flag_(std::move(handler)) {}
    OVERMOUNT_LAZY json_field(object value, action done)
        : form_(form::object), done_(std::move(done)), members_(std::move(value.members)), any_keys_(value.any_keys)
    {}
    OVERMOUNT_LAZY explicit json_field(list value)
        : form_(form::list), element_(std::move(value.element)), max_elements_(value.max_elements)
    {}
    OVERMOUNT_LAZY explicit json_field(dictionary value)
        : form_(form::dictionary), text_(std::move(value.key)), element_(std::move(value.element))
    {}

    [[nodiscard]] json_field required() &&
    {
        presence_ = presence::required;
        return std::move(*this);
    }
    // Required, but may be null: Go writes null for a list without elements.
    [[nodiscard]] json_field required_or_null() &&
    {
        presence_ = presence::required_or_null;
        return std::move(*this);
    }

private:
    friend class json_reader;
    // Not a variant: it would take longer to compile than everything else here.
    form form_;
    presence presence_ = presence::optional;
    const char* why_ = nullptr;
    action done_;
    text_handler text_; // for a dictionary, it gets the keys
    number_handler number_;
    flag_handler flag_;
    std::vector<member> members_;
    bool any_keys_ = false;
    std::vector<json_field> element_;
    std::size_t max_elements_ = 0;
};

OVERMOUNT_LAZY [[nodiscard]] inline json_field json_text(json_field::text_handler handler)
{
    return json_field(std::move(handler));
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_text(std::string& out)
{
    return json_text([&out](std::string value) { out = std::move(value); });
}
// A whole number that is not negative.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_number(json_field::number_handler handler)
{
    return json_field(std::move(handler));
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_number(std::uint64_t& out)
{
    return json_number([&out](std::uint64_t value) { out = value; });
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_flag(bool& out)
{
    return json_field(json_field::flag_handler([&out](bool value) { out = value; }));
}
// A field that must not occur, whatever its value.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_refused(const char* why)
{
    return json_field(json_field::refused{why});
}
// `done` is called at the end of the object.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_object(std::vector<json_field::member> members,
                                                           json_field::action done = {})
{
    return json_field(json_field::object{std::move(members), false}, std::move(done));
}
// An object with arbitrary keys, such as annotations. Only `members` are read; keys that differ from them in case are allowed.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_map(std::vector<json_field::member> members)
{
    return json_field(json_field::object{std::move(members), true}, {});
}
// An object with arbitrary keys whose values all have the form of `element`. `key` is called with each key, before its value.
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_dictionary(json_field element, json_field::text_handler key)
{
    return json_field(json_field::dictionary{{std::move(element)}, std::move(key)});
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_list(json_field element, std::size_t max_elements = ~std::size_t{0})
{
    return json_field(json_field::list{{std::move(element)}, max_elements});
}
OVERMOUNT_LAZY [[nodiscard]] inline json_field json_texts(std::vector<std::string>& out)
{
    return json_list(json_text([&out](std::string value) { out.push_back(std::move(value)); }));
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_OCI_DETAIL_JSON_RECORD_HPP
#define OVERMOUNT_OCI_DETAIL_JSON_RECORD_HPP

#include <overmount/core/config.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Builds the JSON object of a record of the repository. There is one function per kind of value because an initializer list is
// slow to compile: it tries each constructor of nlohmann's type for each value. A template on that type, so that it is
// instantiated only where it is used.
template <class Json>
class basic_json_record
{
public:
    basic_json_record& text(const char* name, std::string value) { return put(name, Json(std::move(value))); }
    basic_json_record& number(const char* name, std::uint64_t value) { return put(name, Json(value)); }
    basic_json_record& flag(const char* name, bool value) { return put(name, Json(value)); }
    basic_json_record& null(const char* name) { return put(name, Json()); }
    basic_json_record& texts(const char* name, std::vector<std::string> values)
    {
        Json list = Json::array();
        for (std::string& value : values)
            list.push_back(Json(std::move(value)));
        return put(name, std::move(list));
    }
    basic_json_record& object(const char* name, basic_json_record value) { return put(name, std::move(value.tree_)); }

    [[nodiscard]] std::string string() const { return tree_.dump(); }

private:
    basic_json_record& put(const char* name, Json value)
    {
        tree_[name] = std::move(value);
        return *this;
    }

    Json tree_ = Json::object();
};
using json_record = basic_json_record<nlohmann::json>; // members are sorted by name

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_OCI_IMPL_IMAGE_CONFIG_EDIT_IPP
#define OVERMOUNT_OCI_IMPL_IMAGE_CONFIG_EDIT_IPP

#include <overmount/core/error.hpp>
#include <overmount/oci/image_config_edit.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

namespace overmount::OVERMOUNT_ABI {

OVERMOUNT_LAZY_BODY image_config_edit::image_config_edit(const image_config& from)
    : base_(from.bytes()), old_environment_(from.environment()), old_labels_(from.labels()),
      old_ports_(from.exposed_ports()), layers_(from.diff_ids())
{
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::set_environment(std::string_view name, std::string_view value)
{
    if (name.empty() || name.find('=') != std::string_view::npos)
        throw error(errc::invalid_config).subject(name).detail("the name of a variable must not be empty or contain =");
    const std::string begin = std::string(name) + "=";
    auto all = environment_.value_or(old_environment_);
    const auto has_name = [&](const std::string& one) { return one.starts_with(begin); };
    const auto place = std::find_if(all.begin(), all.end(), has_name) - all.begin();
    std::erase_if(all, has_name);
    all.insert(all.begin() + place, begin + std::string(value));
    return environment(std::move(all));
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::label(std::string name, std::string value)
{
    if (!labels_)
        labels_ = old_labels_;
    labels_->insert_or_assign(std::move(name), std::move(value));
    return *this;
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::remove_label(std::string name)
{
    if (!labels_)
        labels_ = old_labels_;
    labels_->erase(name);
    return *this;
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::expose(std::string port)
{
    if (!ports_)
        ports_ = old_ports_;
    ports_->insert(std::move(port));
    return *this;
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::append_layer(const diff_id& diff, history_entry step)
{
    edits_layers_ = true;
    step.empty_layer = false;
    layers_.push_back(diff);
    steps_.push_back(std::move(step));
    return *this;
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::append_empty(history_entry step)
{
    edits_layers_ = true;
    step.empty_layer = true;
    steps_.push_back(std::move(step));
    return *this;
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::replace_layers(std::vector<diff_id> layers)
{
    edits_layers_ = true;
    layers_ = std::move(layers);
    return *this;
}

OVERMOUNT_LAZY_BODY image_config_edit& image_config_edit::replace_layers(std::vector<diff_id> layers,
                                                                         std::vector<history_entry> history)
{
    replaces_history_ = true;
    steps_ = std::move(history);
    return replace_layers(std::move(layers));
}

namespace detail {

OVERMOUNT_LAZY inline bool is_rfc3339(std::string_view text)
{
    constexpr std::string_view date_and_time = "0000-00-00T00:00:00";
    // The text must have digits where the model has zeros, and be equal elsewhere.
    const auto fits = [](std::string_view part, std::string_view model) {
        return std::equal(part.begin(), part.end(), model.begin(), model.end(),
                          [](char c, char m) { return m == '0' ? c >= '0' && c <= '9' : c == m; });
    };
    const auto number = [&](std::size_t at) {
        return static_cast<unsigned>((text[at] - '0') * 10 + (text[at + 1] - '0'));
    };
    if (!fits(text.substr(0, date_and_time.size()), date_and_time))
        return false;
    const std::chrono::year_month_day day(std::chrono::year(static_cast<int>(number(0) * 100 + number(2))),
                                          std::chrono::month(number(5)), std::chrono::day(number(8)));
    if (!day.ok() || number(11) > 23 || number(14) > 59 || number(17) > 59)
        return false;
    text.remove_prefix(date_and_time.size());
    if (text.starts_with('.')) {
        const auto end = std::min(text.find_first_not_of("0123456789", 1), text.size());
        if (end == 1)
            return false;
        text.remove_prefix(end);
    }
    return text == "Z" || ((fits(text, "+00:00") || fits(text, "-00:00")) && number(1) <= 23 && number(4) <= 59);
}

OVERMOUNT_LAZY inline const std::string& checked_time(const std::string& text, const char* what)
{
    if (!text.empty() && !is_rfc3339(text))
        throw error(errc::invalid_config).subject(what).detail("the time is not in the format of RFC 3339");
    return text;
}

// The member `name` as an object; replaces null, which Go writes for absent members.
template <class Json>
Json& object_at(Json& in, const std::string& name)
{
    Json& out = in[name];
    if (!out.is_object())
        out = Json::object();
    return out;
}

template <class Json, class Value>
void assign(Json& into, const char* name, const std::optional<Value>& value)
{
    if (!value)
        return;
    if (value->empty())
        into.erase(name);
    else
        into[name] = *value;
}

// Makes an object with arbitrary keys have exactly the keys of `wanted`; members that remain keep their position.
template <class Json, class Names, class Assign>
void assign_members(Json& into, const char* name, const std::optional<Names>& wanted, const Assign& assign_one)
{
    if (!wanted)
        return;
    Json& members = object_at(into, name);
    const Json old = std::exchange(members, Json::object());
    for (const auto& [key, value] : old.items())
        if (wanted->contains(key))
            members[key] = value;
    for (const auto& one : *wanted)
        assign_one(members, one);
    if (members.empty())
        into.erase(name);
}

// The same for a set of names, each with an empty object as value; existing values are kept.
template <class Json>
void assign_names(Json& into, const char* name, const std::optional<std::set<std::string>>& wanted)
{
    assign_members(into, name, wanted, [](Json& members, const std::string& one) { object_at(members, one); });
}

template <class Json>
void assign_texts(Json& into, const char* name, const std::optional<std::map<std::string, std::string>>& wanted)
{
    assign_members(into, name, wanted, [](Json& members, const auto& one) { members[one.first] = one.second; });
}

template <class Json>
Json step_of(const history_entry& from)
{
    Json out = Json::object();
    const auto put = [&](const char* name, const std::string& value) {
        if (!value.empty())
            out[name] = value;
    };
    put("created", checked_time(from.created, "history"));
    put("created_by", from.created_by);
    put("author", from.author);
    put("comment", from.comment);
    if (from.empty_layer)
        out["empty_layer"] = true;
    return out;
}

template <class Json>
std::size_t count_layer_steps(const Json& history)
{
    return static_cast<std::size_t>(std::count_if(history.begin(), history.end(), [](const Json& step) {
        const auto empty = step.find("empty_layer");
        return empty == step.end() || !empty->is_boolean() || !empty->template get<bool>();
    }));
}

// Appends steps until there are as many steps that created a layer as there are layers.
template <class Json>
void add_missing_steps(Json& history, std::size_t layers)
{
    for (std::size_t have = count_layer_steps(history); have < layers; ++have)
        history.push_back({{"comment", "how this layer was made is not recorded"}});
}

} // namespace detail

// A template on the document's type, so that it is instantiated only where it is used.
template <class Json>
std::string image_config_edit::document() const
{
    using detail::assign;
    Json out = base_.empty() ? Json::object() : Json::parse(base_);
    if (created_)
        detail::checked_time(*created_, "created");
    assign(out, "created", created_);
    assign(out, "author", author_);
    if (platform_) {
        out["architecture"] = platform_->architecture();
        out["os"] = platform_->os();
        assign(out, "variant", std::optional(platform_->variant()));
    }

    if (working_directory_ || user_ || stop_signal_ || environment_ || entrypoint_ || command_ || labels_ || ports_ ||
        volumes_) {
        Json& config = detail::object_at(out, "config");
        assign(config, "User", user_);
        detail::assign_names(config, "ExposedPorts", ports_);
        assign(config, "Env", environment_);
        assign(config, "Entrypoint", entrypoint_);
        assign(config, "Cmd", command_);
        detail::assign_names(config, "Volumes", volumes_);
        assign(config, "WorkingDir", working_directory_);
        detail::assign_texts(config, "Labels", labels_);
        assign(config, "StopSignal", stop_signal_);
    }

    if (edits_layers_ || base_.empty()) {
        Json& rootfs = detail::object_at(out, "rootfs");
        rootfs["type"] = "layers";
        rootfs["diff_ids"] = Json::array();
        for (const diff_id& layer : layers_)
            rootfs["diff_ids"].push_back(layer.string());
    }
    if (edits_layers_) {
        Json history = Json::array();
        if (const auto old = out.find("history"); !replaces_history_ && old != out.end() && old->is_array())
            history = std::move(*old);
        Json steps = Json::array();
        for (const history_entry& step : steps_)
            steps.push_back(detail::step_of<Json>(step));
        if (!replaces_history_ && !(history.empty() && steps.empty())) {
            const std::size_t later = detail::count_layer_steps(steps);
            detail::add_missing_steps(history, layers_.size() - std::min(later, layers_.size()));
        }
        for (Json& step : steps)
            history.push_back(std::move(step));
        if (!history.empty() && detail::count_layer_steps(history) != layers_.size())
            throw error(errc::invalid_config).subject("history").detail("the history must have exactly one step for each layer");
        if (history.empty())
            out.erase("history");
        else
            out["history"] = std::move(history);
    }

    try {
        return out.dump();
    } catch (const typename Json::type_error&) {
        throw error(errc::invalid_config).detail("a text that was set is not UTF-8");
    }
}

OVERMOUNT_LAZY_BODY image_config image_config_edit::build(const limits& bounds) const
{
    return image_config::parse(document<nlohmann::ordered_json>(), bounds); // ordered: keeps the order of members
}

} // namespace overmount::OVERMOUNT_ABI

#endif

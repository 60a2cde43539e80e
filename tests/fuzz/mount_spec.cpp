// A spec of hostile names against the rules by which the kernel takes the option string apart: no name can add
// an option or a directory, or be cut. The input is split at 0xff: flags, then the source, then directories.
#include "fuzz.hpp"

#include <overmount/mount/mount_spec.hpp>

#include <string>
#include <vector>

namespace {

using overmount::mount_directory;
using overmount::mount_option;
using overmount::mount_spec;

// Splits where no backslash takes the meaning of `separator`, and keeps the backslashes: ovl_next_opt().
std::vector<std::string> split(std::string_view text, char separator)
{
    std::vector<std::string> out{{}};
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == separator) {
            out.emplace_back();
            continue;
        }
        out.back() += text[i];
        if (text[i] == '\\' && i + 1 < text.size())
            out.back() += text[++i];
    }
    return out;
}

// ovl_unescape().
std::string unescape(std::string_view text)
{
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\')
            MUST(++i < text.size());
        out += text[i];
    }
    return out;
}

bool can_be_given(const mount_directory& directory)
{
    return (directory.fd() >= 0 || !directory.path().empty()) &&
           directory.path().find('\0') == std::string::npos;
}

// Borrowed numbers: nothing here makes a system call, so they need not be open.
mount_directory make_directory(std::string_view part)
{
    if (part.starts_with('#'))
        return mount_directory::borrowed(static_cast<int>(part.size()) - 2, std::string(part.substr(1)));
    if (part.starts_with('@'))
        return mount_directory::borrowed(static_cast<int>(part.size()) - 2);
    return mount_directory(std::string(part));
}

mount_spec make_spec(std::string_view input)
{
    std::vector<std::string_view> parts;
    while (!input.empty()) {
        const auto at = input.find('\xff');
        parts.push_back(input.substr(0, at));
        input.remove_prefix(at == std::string_view::npos ? input.size() : at + 1);
    }
    mount_spec out;
    std::size_t next = 0;
    const auto take = [&] { return next < parts.size() ? parts[next++] : std::string_view(); };
    const std::string_view flags = take();
    const auto has = [flags](char flag) { return flags.find(flag) != std::string_view::npos; };
    out.userxattr(has('x')).volatile_(has('v'));
    if (has('s'))
        out.source(std::string(take()));
    if (has('u'))
        out.upper(make_directory(take()));
    if (has('w'))
        out.work(make_directory(take()));
    while (next < parts.size())
        out.add_lower(make_directory(take()));
    return out;
}

// What validate() promises, once more and in other words.
bool is_sound(const mount_spec& spec)
{
    bool out = spec.lowers().size() <= 500 && spec.lowers().size() >= (spec.upper() ? 1u : 2u) &&
               spec.upper().has_value() == spec.work().has_value() && !spec.source().empty() &&
               spec.source().size() < 256 && spec.source().find('\0') == std::string::npos;
    for (const auto& directory : spec.lowers())
        out = out && can_be_given(directory);
    return out && (!spec.upper() || can_be_given(*spec.upper())) &&
           (!spec.work() || can_be_given(*spec.work()));
}

// Every option but the source and the lower directories, as the kernel should see it.
std::vector<mount_option> wanted_options(const mount_spec& spec)
{
    std::vector<mount_option> out;
    if (spec.upper())
        out.push_back({"upperdir", spec.upper()->name()});
    if (spec.work())
        out.push_back({"workdir", spec.work()->name()});
    if (!spec.userxattr())
        out.push_back({"redirect_dir", "off"});
    for (const char* key : {"metacopy", "index", "xino"})
        out.push_back({key, "off"});
    if (spec.userxattr())
        out.push_back({"userxattr", {}});
    if (spec.volatile_() && spec.upper())
        out.push_back({"volatile", {}});
    return out;
}

void check_list(const mount_spec& spec)
{
    std::vector<mount_option> wanted{{"source", spec.source()}};
    for (const auto& directory : spec.lowers())
        wanted.push_back({"lowerdir+", directory.name()});
    for (auto& option : wanted_options(spec))
        wanted.push_back(std::move(option));
    MUST(option_list(spec) == wanted);
}

void check_text(const mount_spec& spec, std::string_view text)
{
    MUST(text.size() <= 4095 && text.find('\0') == std::string_view::npos);
    std::vector<mount_option> options;
    for (const std::string& part : split(text, ',')) {
        const auto at = part.find('=');
        if (at == std::string::npos)
            options.push_back({part, {}});
        else
            options.push_back({part.substr(0, at), part.substr(at + 1)});
    }
    MUST(options.front().key == "lowerdir" && options.front().value);
    const auto lowers = split(*options.front().value, ':');
    MUST(lowers.size() == spec.lowers().size());
    for (std::size_t i = 0; i < lowers.size(); ++i)
        MUST(!lowers[i].empty() && unescape(lowers[i]) == spec.lowers()[i].name());
    options.erase(options.begin());
    for (mount_option& option : options)
        if (option.value)
            option.value = unescape(*option.value);
    MUST(options == wanted_options(spec));
}

// How long the string has to be: each byte once, and a backslash before those that need one.
std::size_t length(const mount_spec& spec)
{
    std::size_t out = std::string_view("lowerdir=").size() + spec.lowers().size() - 1;
    const auto add = [&out](std::string_view name) {
        for (const char byte : name)
            out += byte == ',' || byte == ':' || byte == '\\' ? 2 : 1;
    };
    for (const auto& directory : spec.lowers())
        add(directory.name());
    for (const mount_option& option : wanted_options(spec)) {
        out += 1 + option.key.size() + (option.value ? 1 : 0);
        add(option.value.value_or(""));
    }
    return out;
}

} // namespace

void check(std::string_view input)
{
    const mount_spec spec = make_spec(input);
    bool refused = false;
    try {
        spec.validate();
    } catch (const overmount::error& failure) {
        refused = true;
        MUST(failure.at() == overmount::stage::mount);
        MUST((failure.code() == overmount::errc::too_many_layers) == (spec.lowers().size() > 500));
    }
    MUST(refused != is_sound(spec));
    if (refused)
        return;
    check_list(spec);
    std::string text;
    try {
        text = legacy_options(spec);
    } catch (const overmount::error& failure) {
        MUST(failure.code() == overmount::errc::mount_not_possible && length(spec) > 4095);
        return;
    }
    MUST(text.size() == length(spec));
    check_text(spec, text);
}

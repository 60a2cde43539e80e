// What the parts of om share: what a command is given, and how the parts offer theirs.
#ifndef OVERMOUNT_EXAMPLES_OM_HPP
#define OVERMOUNT_EXAMPLES_OM_HPP

#include <overmount/overmount.hpp>

#include <boost/asio/posix/stream_descriptor.hpp>

#include <CLI/CLI.hpp>

#include <sys/types.h>
#include <unistd.h>

#include <exception>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace asio = boost::asio;
namespace om = overmount;

// What the options in front of the command say.
class settings
{
public:
    std::string directory, storage, durability = "batch";
    std::optional<uid_t> owner;
    bool as_tars = false, quiet = false, json = false;
};

// What a command was given.
class arguments
{
public:
    std::string first, second, target, parent, arch, message;
    std::string compress, format = "docker-archive";
    std::vector<std::string> tags, images;
    bool writable = false, again = false, accept_not_durable = false, records = false, keep_blobs = false;
    bool dry_run = false, unused = false, accept_damaged = false, repair = false;
    std::string least_age;
    // Of a config that is made or changed.
    std::string config, from, working_directory, user;
    std::vector<std::string> environment, entrypoint, command, labels, ports;
};

// `TRANSPORT:PATH[:NAME]`, cut at its colons; a path of an existing file may hold some.
class location
{
public:
    explicit location(const std::string& text)
    {
        const auto colon = text.find(':');
        transport = text.substr(0, colon);
        path = colon == std::string::npos ? "" : text.substr(colon + 1);
        for (auto cut = path.find(':'); cut != std::string::npos; cut = path.find(':', cut + 1)) {
            if (::access(path.c_str(), F_OK) == 0)
                break;
            if (::access(path.substr(0, cut).c_str(), F_OK) == 0) {
                name = path.substr(cut + 1);
                path.resize(cut);
                break;
            }
        }
    }
    std::string transport, path, name;
};

// A command that did not succeed and has said so itself.
class said_failure : public std::exception
{
};

// A command for each form of a repository; both are one function template.
class command
{
public:
    asio::awaitable<void> (*on_disk)(om::repository, settings, arguments) = nullptr;
    asio::awaitable<void> (*on_tars)(om::virtual_repository, settings, arguments) = nullptr;
};

// The words of the command line.
class words
{
public:
    words(CLI::App& app, arguments& given, command& chosen) : app_(app), given_(given), chosen_(chosen) {}

    [[nodiscard]] arguments& given() const noexcept { return given_; }

    CLI::App* group(const char* name, const char* help)
    {
        CLI::App* made = app_.add_subcommand(name, help);
        made->require_subcommand(1);
        made->fallthrough();
        return made;
    }
    // Below a group, or without one.
    CLI::App* verb(CLI::App* parent, const char* name, const char* help, command function)
    {
        CLI::App* made = (parent != nullptr ? *parent : app_).add_subcommand(name, help);
        made->fallthrough();
        made->callback([this, function] { chosen_ = function; });
        return made;
    }

private:
    CLI::App& app_;
    arguments& given_;
    command& chosen_;
};

void add_image_commands(words& to);
void add_compose_command(words& to, CLI::App* images);
void add_export_command(words& to, CLI::App* images);
void add_merged_commands(words& to, CLI::App* images);
void add_layer_commands(words& to);
void add_tag_commands(words& to);
void add_check_command(words& to);
void add_space_commands(words& to);

// Standard input, or a file that cannot be read by offset.
asio::posix::stream_descriptor open_stream(const std::string& name, const asio::any_io_executor& executor);

// To standard output or a file; an error names it.
void write_out(int fd, const std::string& name, std::span<const std::byte> bytes);

// To a file that shows when it is whole, or with `-` to standard output.
asio::awaitable<void> write_stream(om::asset_stream from, std::string where);

// What is read of a file, to standard output or another descriptor; an error names it.
asio::awaitable<void> copy_stream(om::asset_stream from, int fd, std::string name);

// Prints entries one after another, as a worker tells of them: a line each, or a JSON array.
class entry_list
{
public:
    explicit entry_list(bool json) : json_(json) {}
    // \param layer whose it is, where it may be one of several
    void add(const om::tar::entry& entry, const om::chain_id* layer = nullptr);
    void finish();

private:
    bool json_, first_ = true;
    std::string text_; // not printed yet
};

std::string readable(std::uint64_t bytes);

// Says on standard error what a listing leaves out.
void warn(const om::error& damaged);

#endif

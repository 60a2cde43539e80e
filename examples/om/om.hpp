// Shared by the parts of om: the options and arguments of commands, their registration, and output.
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

// The global options.
class settings
{
public:
    std::string directory, storage, durability = "batch";
    std::optional<uid_t> owner;
    bool as_tars = false, quiet = false, json = false;
};

// The arguments and options of a command.
class arguments
{
public:
    std::string first, second, target, parent, arch, message;
    std::string compress, format = "docker-archive";
    std::vector<std::string> tags, images;
    bool writable = false, again = false, accept_not_durable = false, records = false, keep_blobs = false;
    bool dry_run = false, unused = false, accept_damaged = false, repair = false;
    std::string least_age;
    // For registries.
    std::string credentials, auth_file, certificates, password;
    bool password_from_input = false, tls_verify = true, all_tags = false, raw = false;
    // For a config that is created or changed.
    std::string config, from, working_directory, user;
    std::vector<std::string> environment, entrypoint, command, labels, ports;
};

// `TRANSPORT:PATH[:NAME]`, split at its colons; the path of an existing file may contain colons.
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

// A command has failed, and has already printed why.
class reported_failure : public std::exception
{
};

// The function of a command, for each kind of repository, which are instances of one template; or one that needs no repository.
class command
{
public:
    asio::awaitable<void> (*on_disk)(om::repository, settings, arguments) = nullptr;
    asio::awaitable<void> (*on_tars)(om::virtual_repository, settings, arguments) = nullptr;
    asio::awaitable<void> (*alone)(settings, arguments) = nullptr;
};

// Registers the commands of the command line.
class command_line
{
public:
    command_line(CLI::App& app, arguments& given, command& chosen) : app_(app), given_(given), chosen_(chosen) {}

    [[nodiscard]] arguments& given() const noexcept { return given_; }
    void choose(command function) { chosen_ = function; }

    CLI::App* add_group(const char* name, const char* help)
    {
        CLI::App* made = app_.add_subcommand(name, help);
        made->require_subcommand(1);
        made->fallthrough();
        return made;
    }
    // \param parent a group, or nullptr
    CLI::App* add_command(CLI::App* parent, const char* name, const char* help, command function)
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

void add_image_commands(command_line& to);
void add_compose_command(command_line& to, CLI::App* images);
void add_export_command(command_line& to, CLI::App* images);
void add_merged_commands(command_line& to, CLI::App* images);
void add_registry_commands(command_line& to, CLI::App* images);
void add_layer_commands(command_line& to);
void add_tag_commands(command_line& to);
void add_check_command(command_line& to);
void add_space_commands(command_line& to);

// How registries are reached: --tls-verify, --creds and the like.
void add_registry_options(CLI::App* sub, arguments& given);
asio::awaitable<void> pull_image(om::repository repository, settings set, arguments given);
asio::awaitable<void> pull_image(om::virtual_repository repository, settings set, arguments given);
asio::awaitable<void> inspect_in_registry(settings set, arguments given);

// Opens standard input (`-`), or a file that cannot be read by offset.
asio::posix::stream_descriptor open_stream(const std::string& name, const asio::any_io_executor& executor);

// Writes to standard output or a file; `name` is for errors.
void write_out(int fd, const std::string& name, std::span<const std::byte> bytes);

// Writes the stream to a file, which becomes visible when it is complete, or to standard output (`-`).
asio::awaitable<void> write_stream(om::asset_stream from, std::string where);

// Writes the stream to a descriptor; `name` is for errors.
asio::awaitable<void> copy_stream(om::asset_stream from, int fd, std::string name);

// Prints entries as they come from a worker thread: one line each, or a JSON array.
class entry_list
{
public:
    explicit entry_list(bool json) : json_(json) {}
    // \param layer the layer of the entry, if several are listed
    void add(const om::tar::entry& entry, const om::chain_id* layer = nullptr);
    void finish();

private:
    bool json_, first_ = true;
    std::string text_; // not printed yet
};

std::string readable(std::uint64_t bytes);

// Prints on standard error what a listing leaves out because it is damaged.
void warn(const om::error& damaged);

#endif

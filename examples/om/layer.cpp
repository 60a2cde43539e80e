// om layer: create, list, read, export and remove layers.
#include "om.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <iostream>

namespace {

template <class Repository>
asio::awaitable<void> layer_create(Repository repository, settings, arguments given)
{
    std::optional<om::chain_id> parent;
    std::optional<typename Repository::layer_type> made;
    if (!given.parent.empty())
        parent = om::chain_id::parse(given.parent);
    if (given.first == "-" && ::isatty(STDIN_FILENO) == 1)
        throw om::error::from_errno(EINVAL).detail("standard input is a terminal");
    const std::string file = given.first == "-" ? "/proc/self/fd/0" : given.first;
    if (!std::filesystem::exists(file) || std::filesystem::is_regular_file(file)) {
        made = co_await repository.create_layer(file, std::move(parent));
    } else {
        auto stream = open_stream(given.first, co_await asio::this_coro::executor);
        made = co_await repository.create_layer(std::move(stream), std::move(parent));
    }
    std::cout << *made << '\n';
}

template <class Repository>
asio::awaitable<void> layer_list(Repository repository, settings set, arguments)
{
    auto out = nlohmann::json::array();
    for (const auto& layer : repository.layers(warn))
        out.push_back({{"chain_id", layer.id().string()},
                       {"diff_id", layer.diff().string()},
                       {"parent", layer.parent_id() ? nlohmann::json(layer.parent_id()->string()) : nlohmann::json()}});
    if (set.json)
        std::cout << out.dump(2) << '\n';
    else
        for (const auto& layer : out)
            std::cout << layer["chain_id"].get<std::string>() << "  diff " << layer["diff_id"].get<std::string>() << '\n';
    co_return;
}

char letter_of(om::tar::entry_type type)
{
    switch (type) {
    case om::tar::entry_type::regular: return '-';
    case om::tar::entry_type::hard_link: return 'h';
    case om::tar::entry_type::symbolic_link: return 'l';
    case om::tar::entry_type::character_device: return 'c';
    case om::tar::entry_type::block_device: return 'b';
    case om::tar::entry_type::directory: return 'd';
    case om::tar::entry_type::fifo: break;
    }
    return 'p';
}

std::string time_of(const om::tar::timestamp& at)
{
    const std::time_t seconds = at.seconds;
    std::tm parts{};
    char text[64];
    if (::gmtime_r(&seconds, &parts) == nullptr) // the year is out of range
        return "@" + std::to_string(at.seconds);
    std::string out(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts));
    if (at.nanoseconds != 0)
        out.append(text, static_cast<std::size_t>(std::snprintf(text, sizeof text, ".%09u", at.nanoseconds)));
    return out + "Z";
}

// One line as of `tar tv`; control characters are escaped.
std::string line_of(const om::tar::entry& entry)
{
    constexpr std::size_t whole = 1 << 20;
    std::string mode = "?rwxrwxrwx";
    mode[0] = letter_of(entry.type);
    for (unsigned bit = 0; bit < 9; ++bit)
        if ((entry.mode >> (8 - bit) & 1) == 0)
            mode[bit + 1] = '-';
    const auto special = [&](unsigned bit, std::size_t at, char with, char without) {
        if ((entry.mode & bit) != 0)
            mode[at] = mode[at] == 'x' ? with : without;
    };
    special(04000, 3, 's', 'S');
    special(02000, 6, 's', 'S');
    special(01000, 9, 't', 'T');
    const bool device =
        entry.type == om::tar::entry_type::character_device || entry.type == om::tar::entry_type::block_device;
    const std::string size = device ? std::to_string(entry.device_major) + "," + std::to_string(entry.device_minor)
                                    : std::to_string(entry.size);
    char text[160];
    std::snprintf(text, sizeof text, "%s %u/%u %10s %s ", mode.c_str(), entry.uid, entry.gid, size.c_str(),
                  time_of(entry.mtime).c_str());
    std::string out = text + om::escape(entry.path, whole);
    if (entry.type == om::tar::entry_type::symbolic_link)
        out += " -> " + om::escape(entry.link_target, whole);
    if (entry.type == om::tar::entry_type::hard_link)
        out += " link to " + om::escape(entry.link_target, whole);
    return out + "\n";
}

std::string hex(std::string_view bytes)
{
    std::string out;
    for (const char c : bytes)
        for (const int shift : {4, 0})
            out += "0123456789abcdef"[static_cast<unsigned char>(c) >> shift & 15];
    return out;
}

std::string text_of(const nlohmann::json& value)
{
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Adds a string, and also its bytes in hex if they are not UTF-8.
void put(nlohmann::json& object, const std::string& key, const std::string& bytes)
{
    object[key] = bytes;
    try {
        static_cast<void>(object[key].dump());
    } catch (const nlohmann::json::exception&) {
        object[key + "_hex"] = hex(bytes);
    }
}

std::string json_of(const om::tar::entry& entry, const om::chain_id* layer)
{
    using om::tar::entry_type;
    nlohmann::json out{{"type", std::string(1, entry.type == entry_type::regular ? 'f' : letter_of(entry.type))},
                       {"mode", entry.mode},
                       {"uid", entry.uid},
                       {"gid", entry.gid},
                       {"size", entry.size},
                       {"mtime", time_of(entry.mtime)}};
    put(out, "path", entry.path);
    if (entry.type == entry_type::symbolic_link || entry.type == entry_type::hard_link)
        put(out, "link_target", entry.link_target);
    if (entry.type == entry_type::character_device || entry.type == entry_type::block_device) {
        out["major"] = entry.device_major;
        out["minor"] = entry.device_minor;
    }
    for (const om::tar::xattr& attribute : entry.xattrs)
        out["xattrs_hex"][attribute.name] = hex(attribute.value);
    if (layer != nullptr)
        out["layer"] = layer->string();
    return text_of(out);
}

void print(const std::string& text)
{
    write_out(STDOUT_FILENO, "standard output", std::as_bytes(std::span(text)));
}

template <class Repository>
asio::awaitable<void> layer_files(Repository repository, settings set, arguments given)
{
    // Printed from a worker thread, entry by entry, in bounded memory.
    auto list = std::make_shared<entry_list>(set.json);
    auto visitor = [list](const om::tar::entry& entry) { list->add(entry); };
    const auto layer = repository.find_layer(given.first);
    co_await layer.files(std::move(visitor));
    list->finish();
}

template <class Repository>
asio::awaitable<void> layer_cat(Repository repository, settings, arguments given)
{
    const auto layer = repository.find_layer(given.first);
    auto file = co_await layer.open(given.second);
    co_await copy_stream(std::move(file), STDOUT_FILENO, "standard output");
}

// A file that becomes visible when it is complete. An existing file that is not regular, such as a pipe, is written directly.
class output_file
{
public:
    explicit output_file(std::string name) : name_(std::move(name))
    {
        const bool there = std::filesystem::exists(name_);
        if (!there || std::filesystem::is_regular_file(name_))
            draft_ = name_ + ".partial-" + std::to_string(::getpid());
        const std::string& file = draft_.empty() ? name_ : draft_;
        fd_ = om::unique_fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (draft_.empty() ? 0 : O_EXCL), 0666));
        if (!fd_)
            throw om::error::from_errno(errno).operation("open").subject(file);
    }
    output_file(const output_file&) = delete;
    output_file& operator=(const output_file&) = delete;
    ~output_file()
    {
        if (!draft_.empty())
            ::unlink(draft_.c_str());
    }
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    void finish()
    {
        if (::close(fd_.release()) != 0)
            throw om::error::from_errno(errno).operation("close").subject(name_);
        if (!draft_.empty() && ::rename(draft_.c_str(), name_.c_str()) != 0)
            throw om::error::from_errno(errno).operation("rename").subject(name_);
        draft_.clear();
    }

private:
    std::string name_, draft_;
    om::unique_fd fd_;
};

template <class Repository>
asio::awaitable<void> layer_export(Repository repository, settings, arguments given)
{
    const auto layer = repository.find_layer(given.first);
    auto tar = co_await layer.pack();
    co_await write_stream(std::move(tar), given.second);
}

template <class Repository>
asio::awaitable<void> layer_remove(Repository repository, settings, arguments given)
{
    // A whole ID works also for a layer with a damaged record.
    const auto id = om::digest::try_parse(given.first);
    // Has a name: GCC 12 evaluates both sides of a condition in a co_await expression.
    const om::chain_id chain = id ? om::chain_id(*id) : repository.find_layer(given.first).id();
    co_await repository.remove_layer(chain);
}

} // namespace

void entry_list::add(const om::tar::entry& entry, const om::chain_id* layer)
{
    if (json_)
        text_ += (std::exchange(first_, false) ? "[" : ",\n ") + json_of(entry, layer);
    else
        text_ += line_of(entry);
    if (text_.size() > 1 << 16)
        print(std::exchange(text_, {}));
}

void entry_list::finish()
{
    if (json_)
        text_ += first_ ? "[]\n" : "]\n";
    print(std::exchange(text_, {}));
}

asio::awaitable<void> copy_stream(om::asset_stream from, int fd, std::string name)
{
    std::vector<std::byte> buffer(1 << 18);
    const std::span<std::byte> room(buffer);
    while (const std::size_t count = co_await from.read_some(room))
        write_out(fd, name, room.first(count));
}

asio::awaitable<void> write_stream(om::asset_stream from, std::string where)
{
    if (where == "-") {
        if (::isatty(STDOUT_FILENO) == 1)
            throw om::error::from_errno(EINVAL).detail("standard output is a terminal");
        co_await copy_stream(std::move(from), STDOUT_FILENO, "standard output");
    } else {
        output_file file(where);
        co_await copy_stream(std::move(from), file.fd(), where);
        file.finish();
    }
}

void add_layer_commands(command_line& to)
{
    arguments& given = to.given();
    CLI::App* layers = to.add_group("layer", "Create, list, read, export and remove layers");
    auto* sub = to.add_command(layers, "create", "Create a layer from a tar, compressed or not; prints its chain ID",
                        {layer_create, layer_create});
    sub->add_option("FILE", given.first, "the tar, or - for standard input")->required();
    sub->add_option("--parent", given.parent, "chain ID of the layer below");
    to.add_command(layers, "list", "List the layers", {layer_list, layer_list});
    const auto takes_layer = [&](const char* name, const char* help, command function) {
        CLI::App* made = to.add_command(layers, name, help, function);
        made->add_option("CHAIN-ID", given.first, "a chain ID, or its first digits")->required();
        return made;
    };
    takes_layer("files", "List the entries of a layer's tar", {layer_files, layer_files});
    sub = takes_layer("cat", "Print a file of a layer", {layer_cat, layer_cat});
    sub->add_option("PATH", given.second, "the file's path in the layer")->required();
    sub = takes_layer("export", "Write a layer's tar, byte for byte as it came", {layer_export, layer_export});
    sub->add_option("DEST", given.second, "a file, or - for standard output")->required();
    takes_layer("remove", "Remove a layer that no image, layer or lease needs", {layer_remove, layer_remove});
}

// om image pull, om image tags, om login and om logout, and what other commands do with docker://NAME.
#include "om.hpp"
#include "progress.hpp"

#include <overmount/registry.hpp>

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <iostream>

namespace {

om::registry_options options_of(const arguments& given)
{
    om::registry_options out;
    if (!given.tls_verify)
        out.tls(om::registry::tls_mode::unverified);
    if (!given.credentials.empty()) {
        const auto colon = given.credentials.find(':');
        if (colon == std::string::npos)
            throw om::error(om::errc::login_refused).detail("--creds wants USER:PASSWORD");
        out.credentials(om::registry_credentials::password(given.credentials.substr(0, colon), given.credentials.substr(colon + 1)));
    }
    out.auth_file(given.auth_file);
    out.certificates(given.certificates);
    return out;
}

// The images that a name may mean, with or without `docker://`.
asio::awaitable<std::vector<om::reference>> references_of(std::string given, om::registry_options options)
{
    const std::string name = given.starts_with("docker://") ? given.substr(9) : given;
    const bool has_credentials = static_cast<bool>(options.credentials());
    auto found = co_await om::registry_image::references_for(name, std::move(options), om::worker_pool(1));
    if (found.size() > 1 && has_credentials)
        throw om::error(om::errc::invalid_reference)
            .subject(name)
            .detail("the name may be of several registries, and --creds are for one: write the registry before it");
    co_return found;
}

// Calls `use` with one image after the other until one is there; the last failure counts.
template <class Use>
asio::awaitable<void> with_first(std::vector<om::reference> names, Use use)
{
    for (std::size_t i = 0;; ++i) {
        try {
            co_await use(names[i]);
            co_return;
        } catch (const om::error& failure) {
            if (i + 1 == names.size() || failure.at() != om::stage::source || failure.code() == asio::error::operation_aborted)
                throw;
        }
    }
}

// What the command has fetched of the image's layers.
nlohmann::json layers_of(const om::image_config& config, const progress& shown)
{
    auto out = nlohmann::json::array();
    const auto fetched = shown.layers();
    for (const om::diff_id& diff : config.diff_ids())
        if (const auto one = fetched.find(diff.string()); one != fetched.end())
            out.push_back({{"diff_id", one->first},
                           {"fetched", one->second.read},
                           {"unpacked", one->second.unpacked},
                           {"rate", static_cast<std::uint64_t>(one->second.rate())}});
    return out;
}

template <class Image>
void print(const settings& set, const Image& image, const om::registry_image& from, bool up_to_date, progress& shown)
{
    std::string text = image.id().string();
    if (set.json)
        text = nlohmann::json{{"id", text}, {"name", from.name().string()}, {"up_to_date", up_to_date}, {"layers", layers_of(image.config(), shown)}}
                   .dump();
    shown.print(std::cout, text + '\n');
}

// The image that the tag has, if the registry says that it has not changed: this costs one HEAD. An image that is damaged here, or would
// not last as asked, is pulled again, which fetches the layers that are lacking.
template <class Repository>
asio::awaitable<std::optional<typename Repository::image>> find_up_to_date(Repository repository, om::registry_image source)
{
    std::optional<om::tag_record> here;
    std::optional<typename Repository::image> image;
    try {
        here = repository.tag(source.name().string());
        image = repository.find_image(here->image.string());
        // From an index, the image of another platform may have been chosen.
        const om::platform has = image->config().platform(), wanted = om::platform::host();
        if (here->index && (has.os() != wanted.os() || has.architecture() != wanted.architecture()))
            co_return std::nullopt;
    } catch (const om::error& failure) {
        if (failure.code() != om::condition::not_found && failure.code() != om::condition::corrupt_input)
            throw;
        co_return std::nullopt; // a pull also replaces what is damaged
    }
    const std::optional<om::digest> there = co_await source.current_digest(om::worker_pool(1));
    if (!there || there != (here->index ? here->index : here->manifest))
        co_return std::nullopt;
    const bool kept = co_await repository.confirm_tag(here->name);
    if (!kept)
        co_return std::nullopt;
    co_return image;
}

// What the pulls of one command share.
template <class Repository>
class pulls
{
public:
    pulls(Repository into, settings chosen, arguments words)
        : repository(std::move(into)), set(std::move(chosen)), given(std::move(words)), options(options_of(given)), shown(progress_of(set))
    {
    }
    Repository repository;
    settings set;
    arguments given;
    om::registry_options options;
    std::shared_ptr<progress> shown;
    int failed = 0;
};

template <class Repository>
asio::awaitable<void> pull_one(std::shared_ptr<pulls<Repository>> all, om::reference name)
{
    const om::registry_image source(std::move(name), all->options);
    const arguments& given = all->given;
    std::optional<typename Repository::image> up_to_date;
    if (!source.name().digest() && given.arch.empty() && given.tags.empty() && !given.keep_blobs)
        up_to_date = co_await find_up_to_date(all->repository, source);
    if (up_to_date) {
        print(all->set, *up_to_date, source, true, *all->shown);
        co_return;
    }
    om::import_options options = import_options_of(given, all->shown);
    const auto images = co_await all->repository.import_images(source, std::move(options));
    for (const auto& image : images)
        print(all->set, image, source, false, *all->shown);
}

template <class Repository>
asio::awaitable<void> pull_all_tags(std::shared_ptr<pulls<Repository>> all, om::reference name)
{
    if (name.tag() || name.digest())
        throw om::error(om::errc::invalid_reference).subject(name.string()).detail("with --all-tags, the name has no tag");
    const om::registry_image source(name, all->options);
    for (const std::string& tag : co_await source.tags(om::worker_pool(1)))
        co_await pull_one(all, om::reference::parse(name.string() + ":" + tag));
}

template <class Repository>
asio::awaitable<void> pull_name(std::shared_ptr<pulls<Repository>> all, std::string given)
{
    const std::vector<om::reference> names = co_await references_of(std::move(given), all->options);
    auto pull = [&](const om::reference& name) { return all->given.all_tags ? pull_all_tags(all, name) : pull_one(all, name); };
    co_await with_first(names, std::move(pull));
}

// A pull beside others, which go on if it fails.
template <class Repository>
asio::awaitable<void> pull_or_report(std::shared_ptr<pulls<Repository>> all, std::string name)
{
    try {
        co_await pull_name(all, std::move(name));
    } catch (const om::error& failure) {
        if (failure.code() == asio::error::operation_aborted)
            throw;
        all->shown->print(std::cerr, "om: " + std::string(failure.what()) + '\n');
        ++all->failed;
    }
}

template <class Repository>
asio::awaitable<void> image_pull(Repository repository, settings set, arguments given)
{
    const auto all = std::make_shared<pulls<Repository>>(std::move(repository), std::move(set), std::move(given));
    const std::vector<std::string>& names = all->given.images;
    if (names.size() == 1) {
        co_await pull_name(all, names.front());
        co_return;
    }
    if (!all->given.tags.empty())
        throw om::error(om::errc::invalid_reference).subject(all->given.tags.front()).detail("--tag is for one image");
    om::task_group group;
    for (const std::string& name : names)
        group.add(pull_or_report(all, name));
    co_await group.join();
    if (all->failed != 0)
        throw reported_failure();
}

asio::awaitable<void> list_tags(settings set, arguments given, om::reference name)
{
    const om::registry_image source(std::move(name), options_of(given));
    const std::vector<std::string> tags = co_await source.tags(om::worker_pool(1));
    if (set.json) {
        std::cout << nlohmann::json(tags).dump(2) << '\n';
        co_return;
    }
    for (const std::string& tag : tags)
        std::cout << tag << '\n';
}

asio::awaitable<void> image_tags(settings set, arguments given)
{
    const std::vector<om::reference> names = co_await references_of(given.first, options_of(given));
    auto list = [&](const om::reference& name) { return list_tags(set, given, name); };
    co_await with_first(names, std::move(list));
}

asio::awaitable<void> inspect(arguments given, om::reference name)
{
    const om::registry_image source(std::move(name), options_of(given));
    om::worker_pool workers(1);
    if (given.raw) {
        std::cout << co_await source.manifest(workers);
        co_return;
    }
    const auto wanted = given.arch.empty() ? om::platform::host() : om::platform::parse(given.arch);
    const auto found = co_await source.discover(om::import_context(workers, om::limits(), wanted));
    std::cout << nlohmann::ordered_json::parse(found.front().config.bytes()).dump(2) << '\n';
}

// The first line of standard input, without its end.
std::string line_of_input()
{
    std::string out;
    if (!std::getline(std::cin, out))
        throw om::error(om::errc::login_refused).detail("standard input has no line with the password");
    if (out.ends_with('\r'))
        out.pop_back();
    return out;
}

asio::awaitable<void> login(settings, arguments given)
{
    const std::string password = given.password_from_input ? line_of_input() : given.password;
    co_await om::registry_login(given.first, given.user, password, options_of(given), om::worker_pool(1));
}

asio::awaitable<void> logout(settings, arguments given)
{
    const bool was_there = co_await om::registry_logout(given.first, options_of(given), om::worker_pool(1));
    if (!was_there)
        throw om::error(om::errc::login_refused).subject(given.first).detail("there is no login for it");
}

} // namespace

asio::awaitable<void> pull_image(om::repository repository, settings set, arguments given)
{
    return image_pull(std::move(repository), std::move(set), std::move(given));
}

asio::awaitable<void> pull_image(om::virtual_repository repository, settings set, arguments given)
{
    return image_pull(std::move(repository), std::move(set), std::move(given));
}

asio::awaitable<void> inspect_in_registry(settings, arguments given)
{
    const std::vector<om::reference> names = co_await references_of(given.first, options_of(given));
    auto show = [&](const om::reference& name) { return inspect(given, name); };
    co_await with_first(names, std::move(show));
}

void add_registry_options(CLI::App* sub, arguments& given)
{
    sub->add_flag("--tls-verify", given.tls_verify, "--tls-verify=false: no certificate is verified, and plain HTTP is allowed")
        ->default_val(true);
    sub->add_option("--creds", given.credentials, "credentials for the registry")->type_name("USER:PASSWORD");
    sub->add_option("--authfile", given.auth_file, "a file of credentials that is read first")->type_name("FILE");
    sub->add_option("--cert-dir", given.certificates, "a directory with *.crt, *.cert and *.key for the registry")->type_name("DIR");
}

void add_registry_commands(command_line& to, CLI::App* images)
{
    arguments& given = to.given();
    auto* sub = to.add_command(images, "pull", "Pull images from registries, all at the same time; prints their IDs", {image_pull, image_pull});
    sub->add_option("NAME", given.images, "such as busybox, ghcr.io/owner/name:tag or name@sha256:...")->required();
    sub->add_option("--platform", given.arch, "OS/ARCHITECTURE[/VARIANT] to choose from an index");
    sub->add_option("--tag,-t", given.tags, "a further name for the image; may be given more than once");
    sub->add_flag("--all-tags,-a", given.all_tags, "all images of the repository NAME");
    sub->add_flag("--keep-blobs", given.keep_blobs, "keep the compressed layers, to export them as they came");
    add_registry_options(sub, given);
    sub = to.add_command(nullptr, "login", "Check and keep a login for a registry", {nullptr, nullptr, login});
    sub->add_option("REGISTRY", given.first, "such as docker.io or localhost:5000")->required();
    sub->add_option("--username,-u", given.user, "the user")->required();
    CLI::App* secret = sub->add_option_group("password")->require_option(1);
    secret->add_option("--password,-p", given.password, "the password; others may see it in the list of processes");
    secret->add_flag("--password-stdin", given.password_from_input, "read the password from standard input");
    add_registry_options(sub, given);
    sub = to.add_command(nullptr, "logout", "Remove a login for a registry", {nullptr, nullptr, logout});
    sub->add_option("REGISTRY", given.first, "as it was given to om login")->required();
    add_registry_options(sub, given);
    sub = to.add_command(images, "tags", "List the tags of a repository in a registry", {nullptr, nullptr, image_tags});
    sub->add_option("NAME", given.first, "such as docker://busybox")->required();
    add_registry_options(sub, given);
}

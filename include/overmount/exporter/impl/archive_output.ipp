#ifndef OVERMOUNT_EXPORTER_IMPL_ARCHIVE_OUTPUT_IPP
#define OVERMOUNT_EXPORTER_IMPL_ARCHIVE_OUTPUT_IPP

#include <overmount/exporter/archive_output.hpp>
#include <overmount/exporter/archive_source.hpp>
#include <overmount/exporter/layer_encode.hpp>
#include <overmount/exporter/documents.hpp>
#include <overmount/posix/file_range.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <set>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

enum class archive_form
{
    oci,
    docker, // an OCI layout with docker's documents added
};

// Reads a range of a file that was written before.
class file_reader final : public layer_reader
{
public:
    explicit file_reader(file_range bytes) : bytes_(std::move(bytes)) {}
    std::size_t read(std::span<std::byte> into) override
    {
        const std::size_t count = bytes_.read(position_, into);
        position_ += count;
        return count;
    }

private:
    file_range bytes_;
    std::uint64_t position_ = 0;
};

// The directory and name of the file to write.
struct output_place
{
    output_place(std::shared_ptr<const unique_fd> in, std::string as) : directory(std::move(in)), name(std::move(as)) {}
    std::shared_ptr<const unique_fd> directory;
    std::string name;
};

OVERMOUNT_LAZY inline output_place open_output(const std::filesystem::path& named)
{
    const std::filesystem::path file = from_working_directory(named.string());
    std::error_code ignored;
    // If the path is a symbolic link, replace the file it points to, not the link.
    const auto real = std::filesystem::is_symlink(file, ignored) ? std::filesystem::canonical(file, ignored) : file;
    const auto status = std::filesystem::status(real, ignored);
    if (real.filename().empty() || (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)))
        throw error(errc::not_a_regular_file).subject(named.string());
    const std::string parent = real.has_parent_path() ? real.parent_path().string() : ".";
    const int fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return {new_shared<unique_fd>(checked(fd, "open directory", parent)), real.filename().string()};
}

// The members of an archive: the documents, then the layers.
OVERMOUNT_LAZY inline std::vector<archive_member> plan_archive(archive_form form, const std::vector<offered_image>& images,
                                                               const blob_table& blobs, std::vector<archive_member> layers)
{
    std::vector<archive_member> out{{"oci-layout", layout_version}};
    std::set<std::string> directories, seen;
    std::vector<archive_member> documents;
    std::vector<std::string> manifests;
    const auto add = [&](std::string text) {
        std::string path = layout_blob_path(digest::of(text));
        if (seen.insert(path).second)
            documents.push_back({std::move(path), std::move(text)});
    };
    for (const offered_image& image : images) {
        manifests.push_back(make_manifest(image, blobs));
        add(image.config.bytes());
        add(manifests.back());
    }
    out.push_back({"index.json", make_index(images, manifests)});
    if (form == archive_form::docker) {
        out.push_back({"manifest.json", make_docker_manifest(images, blobs)});
        out.push_back({"repositories", make_repositories(images, blobs)});
    }
    out.push_back({"blobs/", {}});
    for (archive_member& layer : layers)
        if (seen.insert(layer.path).second)
            documents.push_back(std::move(layer));
    for (archive_member& blob : documents) {
        std::string directory = blob.path.substr(0, blob.path.rfind('/') + 1);
        if (directories.insert(directory).second)
            out.push_back({std::move(directory), {}});
        out.push_back(std::move(blob));
    }
    return out;
}

OVERMOUNT_LAZY inline asio::awaitable<void> write_archive_file(worker_pool pool, std::shared_ptr<archive_source> source,
                                                               output_place place, durability sync)
{
    auto work = [source, place, sync](const stop_flag& stop) {
        draft_file draft(place.directory);
        constexpr std::size_t room = 1 << 20;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(room);
        while (const std::size_t count = source->read({buffer.get(), room})) {
            stop.throw_if_stopped();
            draft.write(std::span<const std::byte>(buffer.get(), count));
        }
        draft.place(place.name, sync);
    };
    co_await run_on(std::move(pool), std::move(work));
}

OVERMOUNT_LAZY inline asio::awaitable<void> write_archive_stream(worker_pool pool, std::shared_ptr<archive_source> source,
                                                                 byte_sink sink)
{
    constexpr std::size_t room = 256 << 10;
    const auto buffer = new_shared<std::vector<std::byte>>(room);
    for (;;) {
        auto work = [source, buffer](const stop_flag&) { return source->read(*buffer); };
        const std::size_t count = co_await run_on(pool, std::move(work));
        if (count == 0)
            break;
        co_await sink.write(pool, std::span<const std::byte>(*buffer).first(count));
    }
}

OVERMOUNT_LAZY inline asio::awaitable<void> write_planned(archive_form form, archive_output output,
                                                          std::vector<offered_image> images, export_context context)
{
    const auto* file = std::get_if<std::filesystem::path>(&output.where());
    output_place place(context.scratch(), {});
    if (file != nullptr) {
        auto open = [path = *file](const stop_flag&) { return new_shared<output_place>(open_output(path)); };
        place = *co_await run_on(context.pool(), std::move(open));
    }
    // Old versions of docker read only uncompressed layers, so kept blobs are not used.
    for (offered_image& image : images)
        if (form == archive_form::docker)
            image.kept.reset();
    blob_table blobs;
    std::vector<archive_member> members;
    std::shared_ptr<draft_file> encoded_layers;
    std::uint64_t encoded_bytes = 0; // in that file
    for (const kept_blob& blob : distinct_blobs(images)) {
        auto open = [blob] { return std::make_unique<verified_layer>(blob); };
        members.push_back({layout_blob_path(blob.id), {}, std::move(open), blob.size});
    }
    for (const offered_layer& layer : distinct_layers(images)) {
        if (context.encoding().kind() == compression::none) {
            blobs.insert({layer.diff, {layer.diff.value(), layer.size, compression::none}});
            auto open = [layer] { return std::make_unique<verified_layer>(layer); };
            members.push_back({layout_blob_path(layer.diff.value()), {}, std::move(open), layer.size});
            continue;
        }
        // Digests and sizes precede the bytes in the archive, so encode all layers to one unnamed file first.
        auto encoded = new_shared<layer_encode>(layer, context.encoding(), place.directory,
                                                      layer_encode::file::unnamed, encoded_layers);
        co_await layer_encode::run(encoded, context.pool());
        blobs.insert({layer.diff, {encoded->id(), encoded->size(), context.encoding().kind()}});
        encoded_layers = encoded->draft();
        file_range bytes(encoded_layers->fd(), std::exchange(encoded_bytes, encoded_bytes + encoded->size()), encoded->size());
        auto open = [bytes] { return std::make_unique<file_reader>(bytes); };
        members.push_back({layout_blob_path(encoded->id()), {}, std::move(open), encoded->size()});
    }
    auto source = new_shared<archive_source>(plan_archive(form, images, blobs, std::move(members)));
    if (file != nullptr)
        co_await write_archive_file(context.pool(), std::move(source), std::move(place), context.sync());
    else
        co_await write_archive_stream(context.pool(), std::move(source), std::get<byte_sink>(output.where()));
}

OVERMOUNT_LAZY inline asio::awaitable<void> write_archive(archive_form form, archive_output output,
                                                          std::vector<offered_image> images, export_context context)
{
    const auto* file = std::get_if<std::filesystem::path>(&output.where());
    std::string name = file != nullptr ? file->string() : std::string();
    return with_output_in_errors(std::move(name), write_planned(form, std::move(output), std::move(images), std::move(context)));
}

} // namespace detail

OVERMOUNT_LAZY_BODY boost::asio::awaitable<void> docker_archive_target::write(std::vector<offered_image> images,
                                                                              export_context context) const
{
    return detail::write_archive(detail::archive_form::docker, output_, std::move(images), std::move(context));
}

OVERMOUNT_LAZY_BODY boost::asio::awaitable<void> oci_archive_target::write(std::vector<offered_image> images,
                                                                           export_context context) const
{
    return detail::write_archive(detail::archive_form::oci, output_, std::move(images), std::move(context));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

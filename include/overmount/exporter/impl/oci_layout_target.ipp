#ifndef OVERMOUNT_EXPORTER_IMPL_OCI_LAYOUT_TARGET_IPP
#define OVERMOUNT_EXPORTER_IMPL_OCI_LAYOUT_TARGET_IPP

#include <overmount/exporter/layer_encode.hpp>
#include <overmount/exporter/oci_layout_target.hpp>
#include <overmount/exporter/documents.hpp>
#include <overmount/runtime/new_shared.hpp>

#include <sys/stat.h>

#include <map>
#include <utility>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

// Writes or extends a layout. The destructor removes everything that was created, unless the layout was finished.
class layout_run
{
public:
    using pointer = std::shared_ptr<layout_run>;

    layout_run(std::filesystem::path directory, std::vector<offered_image> images, export_context context)
        : directory_(std::move(directory)), images_(std::move(images)), context_(std::move(context))
    {
    }
    layout_run(const layout_run&) = delete;
    layout_run& operator=(const layout_run&) = delete;
    ~layout_run()
    {
        for (auto one = created_.rbegin(); one != created_.rend(); ++one)
            ::unlinkat(one->directory->get(), one->name.c_str(), one->flags);
    }

    OVERMOUNT_LAZY static asio::awaitable<void> run(pointer self)
    {
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_on(self->context_.pool(), std::move(begin));
        const auto blobs = distinct_blobs(self->images_);
        for (const kept_blob& blob : blobs) {
            auto copy = [self, blob](const stop_flag& stop) { self->copy(blob, stop); };
            co_await run_on(self->context_.pool(), std::move(copy));
        }
        const auto layers = distinct_layers(self->images_);
        for (const offered_layer& layer : layers) {
            auto encode = new_shared<layer_encode>(layer, self->context_.encoding(), self->folder_of(layer),
                                                         layer_encode::file::draft);
            co_await layer_encode::run(encode, self->context_.pool());
            auto keep = [self, encode, id = layer.diff](const stop_flag&) { self->keep(id, *encode); };
            co_await run_on(self->context_.pool(), std::move(keep));
        }
        auto end = [self](const stop_flag&) { self->end(); };
        co_await run_on(self->context_.pool(), std::move(end));
    }

private:
    struct created_item
    {
        std::shared_ptr<const unique_fd> directory;
        std::string name;
        int flags;
    };

    OVERMOUNT_LAZY [[nodiscard]] digest_algorithm algorithm_of(const offered_layer& layer) const
    {
        return context_.encoding().kind() == compression::none ? layer.diff.value().algorithm()
                                                               : digest_algorithm::sha256;
    }
    OVERMOUNT_LAZY [[nodiscard]] const std::shared_ptr<const unique_fd>& folder_of(const offered_layer& layer) const
    {
        return folders_.at(algorithm_of(layer));
    }

    OVERMOUNT_LAZY
    std::shared_ptr<const unique_fd> open_folder(std::shared_ptr<const unique_fd> parent, const std::string& name)
    {
        if (::mkdirat(parent->get(), name.c_str(), by_umask_of_process(0777)) == 0)
            created_.push_back({parent, name, AT_REMOVEDIR});
        else if (errno != EEXIST)
            throw_errno("mkdir", name);
        const int fd = ::openat(parent->get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return new_shared<unique_fd>(checked(fd, "open directory", name));
    }

    OVERMOUNT_LAZY void begin()
    {
        std::filesystem::path path =
            std::filesystem::absolute(from_working_directory(directory_.string())).lexically_normal();
        if (path.filename().empty())
            path = path.parent_path();
        const int fd = ::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const auto parent =
            new_shared<unique_fd>(checked(fd, "open directory", path.parent_path().string()));
        layout_ = open_folder(parent, path.filename().string());
        const std::vector<std::string> there = list_directory(layout_->get(), ".");
        if (!there.empty() && !exists(layout_->get(), "oci-layout"))
            throw error(errc::unknown_archive_format)
                .at(stage::target)
                .subject(directory_.string())
                .detail("the directory is neither empty nor an OCI layout");
        const auto blobs = open_folder(layout_, "blobs");
        folders_[digest_algorithm::sha256] = open_folder(blobs, "sha256");
        const auto need = [&](digest_algorithm kind) {
            if (!folders_.contains(kind))
                folders_[kind] = open_folder(blobs, std::string(to_string(kind)));
        };
        for (const offered_layer& layer : distinct_layers(images_))
            need(algorithm_of(layer));
        for (const kept_blob& blob : distinct_blobs(images_))
            need(blob.id.algorithm());
    }

    OVERMOUNT_LAZY void place(draft_file& draft, const std::shared_ptr<const unique_fd>& directory, const std::string& name)
    {
        const bool is_new = !exists(directory->get(), name);
        draft.place(name, context_.sync());
        if (is_new)
            created_.push_back({directory, name, 0});
    }

    OVERMOUNT_LAZY void copy(const kept_blob& blob, const stop_flag& stop)
    {
        const auto& directory = folders_.at(blob.id.algorithm());
        draft_file draft(directory);
        verified_layer from(blob);
        constexpr std::size_t room = 256 << 10;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(room);
        while (const std::size_t count = from.read({buffer.get(), room})) {
            stop.throw_if_stopped();
            draft.write(std::span<const std::byte>(buffer.get(), count));
        }
        place(draft, directory, blob.id.hex());
    }

    OVERMOUNT_LAZY void keep(const diff_id& id, layer_encode& encoded)
    {
        place(*encoded.draft(), folders_.at(encoded.id().algorithm()), encoded.id().hex());
        blobs_.insert({id, {encoded.id(), encoded.size(), context_.encoding().kind()}});
    }

    OVERMOUNT_LAZY
    void put(const std::shared_ptr<const unique_fd>& directory, const std::string& name, const std::string& text)
    {
        draft_file draft(directory);
        draft.write(text);
        place(draft, directory, name);
    }

    OVERMOUNT_LAZY void end()
    {
        std::vector<std::string> manifests;
        const auto& folder = folders_.at(digest_algorithm::sha256);
        for (const offered_image& image : images_) {
            manifests.push_back(make_manifest(image, blobs_));
            put(folder, image.config.id().hex(), image.config.bytes());
            put(folder, digest::of(manifests.back()).hex(), manifests.back());
        }
        const std::string old = read_file(layout_->get(), "index.json", limits().json_bytes).value_or("");
        const std::string index = make_index(images_, manifests, old);
        if (!exists(layout_->get(), "oci-layout"))
            put(layout_, "oci-layout", layout_version);
        put(layout_, "index.json", index);
        created_.clear();
    }

    std::filesystem::path directory_;
    std::vector<offered_image> images_;
    export_context context_;
    std::shared_ptr<const unique_fd> layout_;
    std::map<digest_algorithm, std::shared_ptr<const unique_fd>> folders_;
    blob_table blobs_;
    std::vector<created_item> created_; // files and directories to remove on failure, last one first
};

OVERMOUNT_LAZY inline asio::awaitable<void> write_layout(std::filesystem::path directory, std::vector<offered_image> images,
                                                         export_context context)
{
    std::string name = directory.string();
    auto run = new_shared<layout_run>(std::move(directory), std::move(images), std::move(context));
    return with_output_in_errors(std::move(name), layout_run::run(std::move(run)));
}

} // namespace detail

OVERMOUNT_LAZY_BODY boost::asio::awaitable<void> oci_layout_target::write(std::vector<offered_image> images,
                                                                          export_context context) const
{
    return detail::write_layout(directory_, std::move(images), std::move(context));
}

} // namespace overmount::OVERMOUNT_ABI

#endif

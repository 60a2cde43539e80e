// The sources for a repair: the repository's kept blobs and records, and the images of a given source.
#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_REPAIR_SOURCES_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_REPAIR_SOURCES_HPP

#include <overmount/core/hasher.hpp>
#include <overmount/importer/importer.hpp>
#include <overmount/repository/records/store.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/unpack/layer_flow.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

class repair_sources
{
public:
    // A source of a layer. Its bytes are verified while they are read.
    struct layer
    {
        std::function<layer_source()> open;
        layer_facts facts;
        std::string name;
        bool is_file = true;
    };

    repair_sources(std::shared_ptr<const store> records, const limits& bounds, std::vector<found_image> given)
        : records_(std::move(records)), bounds_(bounds), given_(std::move(given))
    {
        for (const found_image& image : given_) {
            documents_.emplace(image.config.id(), &image.config.bytes());
            for (const auto& text : {&image.manifest, &image.index})
                if (*text)
                    documents_.emplace(digest::of(**text), &**text);
        }
    }

    repair_sources(const repair_sources&) = delete; // `documents_` points into `given_`
    repair_sources& operator=(const repair_sources&) = delete;

    // The document with this digest, from any place that has it undamaged.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> document(const digest& id) const
    {
        if (const auto found = documents_.find(id); found != documents_.end())
            return *found->second;
        const std::function<std::optional<std::string>()> places[] = {
            [&] { return records_->image(id); },
            [&] { return records_->manifests.find(id); },
            [&] { return kept_text(id); },
        };
        for (const auto& read : places)
            if (auto text = read_or_nothing(read); text && digest::of(*text, id.algorithm()) == id)
                return text;
        return std::nullopt;
    }
    OVERMOUNT_LAZY [[nodiscard]] std::optional<image_config> config(const digest& id) const
    {
        auto text = document(id);
        if (!text)
            return std::nullopt;
        try {
            return image_config::parse(std::move(*text), bounds_);
        } catch (const error&) {
            return std::nullopt; // another kind of document
        }
    }

    // Finds all sources of these diffs, kept blobs first.
    OVERMOUNT_LAZY void find_layers(const std::set<diff_id>& wanted)
    {
        for (const digest& id : records_->manifests.list())
            if (auto text = document(id))
                find_kept_layers(std::move(*text), wanted);
        for (found_image& image : given_)
            for (found_layer& one : image.layers) {
                if (one.blob)
                    blobs_.emplace(*one.blob, one.bytes);
                if (wanted.contains(one.diff))
                    layers_.emplace(one.diff, layer{[bytes = one.bytes] { return bytes; }, {one.diff, one.blob, one.promised}, "the source", one.bytes.file() != nullptr});
            }
    }
    OVERMOUNT_LAZY [[nodiscard]] std::vector<const layer*> layers(const diff_id& diff) const
    {
        std::vector<const layer*> out;
        for (auto [at, end] = layers_.equal_range(diff); at != end; ++at)
            out.push_back(&at->second);
        return out;
    }
    [[nodiscard]] bool has_blob(const digest& id) const { return blobs_.contains(id); }
    // Writes a blob as `<directory>/<name>`: a document, or a layer of the given source. nullopt if the source does not have it as a
    // file; false if its content there has another digest.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<bool> write_blob(const digest& id, int directory, const std::string& name,
                                                                const stop_flag& stop) const
    {
        if (const auto text = document(id)) {
            write_file(directory, name, *text);
            return true;
        }
        const auto found = blobs_.find(id);
        const file_range* const bytes = found == blobs_.end() ? nullptr : found->second.file();
        if (bytes == nullptr)
            return std::nullopt;
        constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        const unique_fd file(checked(::openat(directory, name.c_str(), flags, 0600), "create", name));
        hasher sum(id.algorithm());
        std::vector<std::byte> buffer(256 << 10);
        for (std::uint64_t at = 0; const std::size_t count = bytes->read(at, buffer); at += count) {
            stop.throw_if_stopped();
            const auto piece = std::span<const std::byte>(buffer).first(count);
            sum.update(piece);
            write_all(file.get(), piece);
        }
        return sum.finish() == id;
    }

private:
    template <class Read>
    static std::optional<std::string> read_or_nothing(const Read& read)
    {
        try {
            return read();
        } catch (const error& failure) {
            if (failure.code() == boost::system::errc::too_many_files_open)
                throw;
            return std::nullopt; // an unreadable source is no source
        }
    }

    OVERMOUNT_LAZY [[nodiscard]] std::optional<file_range> kept(const digest& id) const
    {
        auto fd = new_shared<unique_fd>(records_->blobs.open(id));
        struct stat status;
        if (!*fd || ::fstat(fd->get(), &status) != 0 || !S_ISREG(status.st_mode))
            return std::nullopt;
        return file_range(std::move(fd), 0, static_cast<std::uint64_t>(status.st_size));
    }
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::string> kept_text(const digest& id) const
    {
        const auto found = kept(id);
        return found && found->size() <= bounds_.json_bytes ? std::optional(found->text()) : std::nullopt;
    }

    OVERMOUNT_LAZY void find_kept_layers(std::string text, const std::set<diff_id>& wanted)
    {
        std::optional<manifest> parsed;
        try {
            parsed = manifest::parse(std::move(text), bounds_);
        } catch (const error&) {
            return; // an index, which names no layers
        }
        const auto image = config(parsed->config().digest());
        if (!image || image->diff_ids().size() != parsed->layers().size())
            return;
        for (std::size_t i = 0; i < parsed->layers().size(); ++i) {
            const diff_id& diff = image->diff_ids()[i];
            const layer_descriptor& described = parsed->layers()[i];
            const digest& id = described.blob.digest();
            if (!wanted.contains(diff) || !kept(id))
                continue;
            auto open = [this, id]() -> layer_source {
                auto found = kept(id);
                if (!found)
                    throw error(errc::missing_blob).at(stage::storage).subject(id.string());
                return std::move(*found);
            };
            layers_.emplace(diff, layer{std::move(open), {diff, id, described.promised}, "the blob " + id.string()});
        }
    }

    std::shared_ptr<const store> records_;
    limits bounds_;
    std::vector<found_image> given_;
    std::map<digest, const std::string*> documents_; // of `given_`
    std::map<digest, layer_source> blobs_;             // of `given_`
    std::multimap<diff_id, layer> layers_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

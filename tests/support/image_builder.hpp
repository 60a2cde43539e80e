// Images made in a test: layers by tar_writer, put into an OCI layout or a docker archive.
#ifndef OVERMOUNT_TESTS_SUPPORT_IMAGE_BUILDER_HPP
#define OVERMOUNT_TESTS_SUPPORT_IMAGE_BUILDER_HPP

#include "support/tar_writer.hpp"

#include <overmount/core/compression.hpp>
#include <overmount/core/digest.hpp>

#include <bzlib.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace overmount::test {

// One gzip member.
[[nodiscard]] inline std::string gzip(std::string_view text, int level = 6)
{
    z_stream stream{};
    if (::deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::runtime_error("deflateInit2");
    std::string out(::deflateBound(&stream, text.size()), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    const int code = ::deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    ::deflateEnd(&stream);
    if (code != Z_STREAM_END)
        throw std::runtime_error("deflate");
    return out;
}

// One zstd frame.
[[nodiscard]] inline std::string zstd(std::string_view text, int level = 3)
{
    std::string out(::ZSTD_compressBound(text.size()), '\0');
    const auto size = ::ZSTD_compress(out.data(), out.size(), text.data(), text.size(), level);
    if (::ZSTD_isError(size))
        throw std::runtime_error(::ZSTD_getErrorName(size));
    out.resize(size);
    return out;
}

// One stream of xz.
[[nodiscard]] inline std::string xz(std::string_view text)
{
    std::string out(text.size() + text.size() / 8 + 1000, '\0');
    std::size_t size = 0;
    if (::lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const std::uint8_t*>(text.data()),
                                  text.size(), reinterpret_cast<std::uint8_t*>(out.data()), &size,
                                  out.size()) != LZMA_OK)
        throw std::runtime_error("lzma_easy_buffer_encode");
    out.resize(size);
    return out;
}

// One stream of bzip2.
[[nodiscard]] inline std::string bzip2(std::string_view text)
{
    std::string out(text.size() + text.size() / 8 + 1000, '\0');
    auto size = static_cast<unsigned>(out.size());
    if (::BZ2_bzBuffToBuffCompress(out.data(), &size, const_cast<char*>(text.data()),
                                   static_cast<unsigned>(text.size()), 1, 0, 0) != BZ_OK)
        throw std::runtime_error("BZ2_bzBuffToBuffCompress");
    out.resize(size);
    return out;
}

[[nodiscard]] inline std::string compress(std::string_view text, compression kind)
{
    switch (kind) {
    case compression::gzip:
        return gzip(text);
    case compression::zstd:
        return zstd(text);
    case compression::xz:
        return xz(text);
    case compression::bzip2:
        return bzip2(text);
    case compression::none:
        break;
    }
    return std::string(text);
}

// A JSON string.
[[nodiscard]] inline std::string json_string(std::string_view text)
{
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\')
            (out += '\\') += c;
        else if (static_cast<unsigned char>(c) < 0x20)
            (out += "\\u00") += {"01"[c >> 4], "0123456789abcdef"[c & 15]};
        else
            out += c;
    }
    return out + "\"";
}

// `{"key":value,...}` and `[value,...]` of values that are JSON already; empty values are left out.
[[nodiscard]] inline std::string
json_object(std::initializer_list<std::pair<const char*, std::string>> members)
{
    std::string out;
    for (const auto& [key, value] : members)
        if (!value.empty())
            out += (out.empty() ? "" : ",") + json_string(key) + ":" + value;
    return "{" + out + "}";
}

[[nodiscard]] inline std::string json_array(const std::vector<std::string>& values)
{
    std::string out;
    for (const auto& value : values)
        out += (out.empty() ? "" : ",") + value;
    return "[" + out + "]";
}

// A layer: a whole tar, and how to store it. Without a compression: gzip in an OCI layout, none for docker.
struct layer_source
{
    std::string tar;
    std::optional<compression> kind = {};
};

// An image: its layers, lowest first.
struct image_source
{
    std::vector<layer_source> layers = {};
    std::vector<std::string> tags = {}; // OCI: the reference name; docker: `name:tag`
    std::string architecture = "amd64";
    std::string os = "linux";
    std::string variant = {};
    std::string runtime = "{}"; // the config's own `config` object, as JSON
    std::string config = {};    // the whole config, as JSON, in place of a made one

    [[nodiscard]] std::string config_text() const
    {
        if (!config.empty())
            return config;
        std::vector<std::string> diffs, history;
        for (const auto& layer : layers) {
            diffs.push_back(json_string(digest::of(layer.tar).string()));
            history.push_back(json_object(
                {{"created", json_string("2023-11-14T22:13:20Z")}, {"created_by", json_string("test")}}));
        }
        return json_object(
            {{"created", json_string("2023-11-14T22:13:20Z")},
             {"architecture", json_string(architecture)},
             {"variant", variant.empty() ? "" : json_string(variant)},
             {"os", json_string(os)},
             {"config", runtime},
             {"rootfs", json_object({{"type", json_string("layers")}, {"diff_ids", json_array(diffs)}})},
             {"history", json_array(history)}});
    }
};

// Files in the order they were added, to be written as a directory or as a tar.
class file_set
{
public:
    // The first content of a path stays, as equal blobs have equal names.
    void add(const std::string& path, std::string content) { insert(path, std::move(content), false); }
    void add_symlink(const std::string& path, std::string target) { insert(path, std::move(target), true); }
    // To damage an archive on purpose.
    void replace(const std::string& path, std::string content)
    {
        files_.at(path) = {std::move(content), false};
    }
    void remove(const std::string& path)
    {
        files_.erase(path);
        std::erase(order_, path);
    }
    void move_to_front(const std::string& path)
    {
        if (const auto at = std::ranges::find(order_, path); at != order_.end())
            std::rotate(order_.begin(), at, at + 1);
    }
    [[nodiscard]] const std::vector<std::string>& paths() const noexcept { return order_; }
    [[nodiscard]] const std::string& content(const std::string& path) const
    {
        return files_.at(path).content;
    }

    void write_directory(const std::filesystem::path& top) const
    {
        for (const auto& path : order_) {
            const auto& [content, is_link] = files_.at(path);
            std::filesystem::create_directories((top / path).parent_path());
            if (is_link)
                std::filesystem::create_symlink(content, top / path);
            else
                write(top / path, content);
        }
    }
    [[nodiscard]] std::string tar() const
    {
        tar_writer out;
        std::set<std::string> parents;
        for (const auto& path : order_) {
            const auto& [content, is_link] = files_.at(path);
            for (auto at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1))
                if (parents.insert(path.substr(0, at)).second)
                    out.directory(path.substr(0, at));
            if (is_link)
                out.symlink(path, content);
            else
                out.file(path, content);
        }
        return out.finish();
    }
    void write_tar(const std::filesystem::path& file) const { write(file, tar()); }

private:
    struct item
    {
        std::string content; // or a link's target
        bool is_link = false;
    };

    void insert(const std::string& path, std::string content, bool is_link)
    {
        if (files_.try_emplace(path, item{std::move(content), is_link}).second)
            order_.push_back(path);
    }
    static void write(const std::filesystem::path& path, std::string_view content)
    {
        std::ofstream out(path, std::ios::binary);
        out.write(content.data(), static_cast<std::streamsize>(content.size()));
        if (!out.flush())
            throw std::runtime_error("cannot write " + path.string());
    }

    std::map<std::string, item> files_;
    std::vector<std::string> order_;
};

// Collects images as an OCI layout. Change `files()` after `finish()` to spoil it.
class oci_layout_writer
{
public:
    explicit oci_layout_writer(compression usual = compression::gzip) : usual_(usual)
    {
        files_.add("oci-layout", json_object({{"imageLayoutVersion", json_string("1.0.0")}}));
    }

    // Returns the digest of the config, which is the image's ID.
    digest add(const image_source& image)
    {
        const auto config = digest::of(image.config_text());
        list(add_manifest(image), image.tags);
        return config;
    }
    // Several platforms under one name: an index in the index. Returns the IDs.
    std::vector<digest> add_index(const std::vector<image_source>& images,
                                  const std::vector<std::string>& tags)
    {
        std::vector<digest> out;
        std::vector<std::string> manifests;
        for (const auto& image : images) {
            out.push_back(digest::of(image.config_text()));
            manifests.push_back(add_manifest(image));
        }
        list(add_blob("application/vnd.oci.image.index.v1+json",
                      json_object({{"schemaVersion", "2"},
                                   {"mediaType", json_string("application/vnd.oci.image.index.v1+json")},
                                   {"manifests", json_array(manifests)}})),
             tags);
        return out;
    }
    // Adds a blob; its descriptor, with `more` members.
    std::string add_blob(const std::string& type, const std::string& content, const std::string& more = {})
    {
        const auto name = digest::of(content);
        files_.add("blobs/sha256/" + name.hex(), content);
        auto out = json_object({{"mediaType", json_string(type)},
                                {"digest", json_string(name.string())},
                                {"size", std::to_string(content.size())}});
        if (!more.empty())
            out.insert(out.size() - 1, "," + more);
        return out;
    }
    // Adds config, layers and manifest, and does not list them; the manifest's descriptor.
    std::string add_manifest(const image_source& image)
    {
        std::vector<std::string> layers;
        for (const auto& layer : image.layers) {
            const auto kind = layer.kind.value_or(usual_);
            const std::string suffix = kind == compression::none ? "" : "+" + std::string(to_string(kind));
            layers.push_back(
                add_blob("application/vnd.oci.image.layer.v1.tar" + suffix, compress(layer.tar, kind)));
        }
        const auto config = add_blob("application/vnd.oci.image.config.v1+json", image.config_text());
        const auto platform =
            json_object({{"architecture", json_string(image.architecture)},
                         {"os", json_string(image.os)},
                         {"variant", image.variant.empty() ? "" : json_string(image.variant)}});
        return add_blob("application/vnd.oci.image.manifest.v1+json",
                        json_object({{"schemaVersion", "2"},
                                     {"mediaType", json_string("application/vnd.oci.image.manifest.v1+json")},
                                     {"config", config},
                                     {"layers", json_array(layers)}}),
                        "\"platform\":" + platform);
    }
    // A line of index.json for each tag, or one without.
    void list(const std::string& descriptor, const std::vector<std::string>& tags)
    {
        const auto end = descriptor.size() - 1;
        for (const auto& tag : tags)
            listed_.push_back(
                std::string(descriptor)
                    .insert(end, ",\"annotations\":" +
                                     json_object({{"org.opencontainers.image.ref.name", json_string(tag)}})));
        if (tags.empty())
            listed_.push_back(descriptor);
    }

    // Adds index.json; to be called once, after the images.
    file_set& finish()
    {
        files_.add("index.json",
                   json_object({{"schemaVersion", "2"},
                                {"mediaType", json_string("application/vnd.oci.image.index.v1+json")},
                                {"manifests", json_array(listed_)}}));
        return files_;
    }
    [[nodiscard]] file_set& files() noexcept { return files_; }

private:
    compression usual_;
    file_set files_;
    std::vector<std::string> listed_;
};

enum class docker_layout
{
    legacy, // before docker 25: ID/layer.tar, ID.json
    blobs,  // since then: an OCI layout with a manifest.json
};

// Collects images as `docker save` writes them: manifest.json comes last.
class docker_archive_writer
{
public:
    explicit docker_archive_writer(docker_layout layout = docker_layout::legacy) : layout_(layout) {}

    // Legacy: a layer that is there already becomes a symbolic link to that one's layer.tar, as docker did.
    docker_archive_writer& link_equal_layers()
    {
        link_equal_ = true;
        return *this;
    }

    // Returns the digest of the config, which is the image's ID.
    digest add(const image_source& image)
    {
        const auto config = digest::of(image.config_text());
        std::vector<std::string> layers, tags;
        for (const auto& tag : image.tags)
            tags.push_back(json_string(tag));
        const bool legacy = layout_ == docker_layout::legacy;
        std::string parent;
        for (const auto& layer : image.layers)
            layers.push_back(json_string(legacy ? add_legacy_layer(layer, parent) : blob_name(layer)));
        if (legacy)
            oci_.files().add(config.hex() + ".json", image.config_text());
        else
            oci_.add(image);
        manifest_.push_back(json_object(
            {{"Config", json_string(legacy ? config.hex() + ".json" : "blobs/sha256/" + config.hex())},
             {"RepoTags", tags.empty() ? "null" : json_array(tags)},
             {"Layers", json_array(layers)}}));
        return config;
    }

    // Adds manifest.json; to be called once, after the images.
    file_set& finish()
    {
        if (layout_ == docker_layout::blobs)
            oci_.finish();
        else
            oci_.files().remove("oci-layout");
        oci_.files().add("manifest.json", json_array(manifest_));
        return oci_.files();
    }

private:
    static std::string blob_name(const layer_source& layer)
    {
        return "blobs/sha256/" +
               digest::of(compress(layer.tar, layer.kind.value_or(compression::none))).hex();
    }

    // The directory is named after the layer and all below it.
    std::string add_legacy_layer(const layer_source& layer, std::string& parent)
    {
        auto& files = oci_.files();
        const auto diff = digest::of(layer.tar).hex();
        const auto id = digest::of(parent + " " + diff).hex();
        const auto path = id + "/layer.tar";
        files.add(id + "/VERSION", "1.0");
        files.add(id + "/json", json_object({{"id", json_string(id)},
                                             {"parent", parent.empty() ? "" : json_string(parent)}}));
        const auto first = first_.try_emplace(diff, path).first->second;
        if (link_equal_ && first != path)
            files.add_symlink(path, "../" + first);
        else
            files.add(path, compress(layer.tar, layer.kind.value_or(compression::none)));
        parent = id;
        return path;
    }

    docker_layout layout_;
    bool link_equal_ = false;
    oci_layout_writer oci_{compression::none};
    std::vector<std::string> manifest_;
    std::map<std::string, std::string> first_; // the layer.tar that has a diff
};

} // namespace overmount::test

#endif

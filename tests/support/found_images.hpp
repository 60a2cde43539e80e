// What an importer finds, and the ways in which it fails.
#ifndef OVERMOUNT_TESTS_SUPPORT_FOUND_IMAGES_HPP
#define OVERMOUNT_TESTS_SUPPORT_FOUND_IMAGES_HPP

#include "support/image_builder.hpp"
#include "support/run_coroutine.hpp"
#include "support/scratch.hpp"

#include <overmount/importer/importer.hpp>
#include <overmount/unpack/pipeline.hpp>

#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace overmount::test {

template <importer Source>
boost::asio::awaitable<void> discover_into(Source source, import_context context,
                                           std::vector<found_image>& out)
{
    out = co_await source.discover(context);
}

template <importer Source>
[[nodiscard]] std::vector<found_image> discover(Source source, const platform& wanted = {"linux", "amd64"},
                                                const limits& bounds = limits())
{
    std::vector<found_image> out;
    ::test::run_coroutine(discover_into(source, import_context(worker_pool(1), bounds, wanted), out));
    return out;
}

// The error of discovering.
template <importer Source>
[[nodiscard]] error discovery_failure(Source source, const platform& wanted = {"linux", "amd64"},
                                      const limits& bounds = limits())
{
    try {
        static_cast<void>(discover(source, wanted, bounds));
    } catch (const error& failure) {
        return failure;
    }
    throw std::logic_error("it was found without an error");
}

// A storage's writer that keeps the tar.
class tar_keeper
{
public:
    explicit tar_keeper(std::string& out) : out_(&out) {}
    void write(std::span<const std::byte> bytes)
    {
        out_->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    diff_record finish() { return {}; }
    bool publish(const diff_id&) { return true; }

private:
    std::string* out_;
};

// The tar of a layer, read and checked as an import does.
[[nodiscard]] inline std::string tar_of(const found_layer& layer)
{
    std::string out;
    auto work = std::make_shared<detail::layer_work<tar_keeper>>(
        tar_keeper(out), detail::layer_facts{layer.diff, layer.blob, layer.promised}, limits());
    ::test::run_coroutine(
        detail::unpack_layer(worker_pool(1), std::move(work), std::make_unique<detail::file_input>(*layer.bytes.file())));
    return out;
}

[[nodiscard]] inline std::vector<std::string> tars_of(const found_image& image)
{
    std::vector<std::string> out;
    for (const found_layer& layer : image.layers)
        out.push_back(tar_of(layer));
    return out;
}

// Writes `content` into a file of its own.
inline std::string written(const std::filesystem::path& path, std::string_view content)
{
    std::ofstream out(path, std::ios::binary);
    out.write(content.data(), static_cast<std::streamsize>(content.size()));
    if (!out.flush())
        throw std::runtime_error("cannot write " + path.string());
    return path.string();
}

// A small layer that holds one file.
[[nodiscard]] inline std::string small_tar(const std::string& name)
{
    return tar_writer().file(name, "content of " + name).finish();
}

} // namespace overmount::test

#endif

// The blobs of an image, kept as they came.
#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_BLOB_KEEP_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_BLOB_KEEP_HPP

#include <overmount/importer/importer.hpp>
#include <overmount/repository/records/store.hpp>
#include <overmount/storage/storage_policy.hpp>
#include <overmount/unpack/layer_input.hpp>

#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Whether all blobs of the image are known by their digests: only then there is something that can go out as it came.
OVERMOUNT_LAZY [[nodiscard]] inline bool has_blobs(const found_image& image)
{
    return image.manifest &&
           std::all_of(image.layers.begin(), image.layers.end(),
                       [](const found_layer& layer) { return layer.blob.has_value(); });
}

// A blob that is being written beside the layers of an import; its file is open until its end. What is not shown goes with
// their directory.
class blob_draft
{
public:
    OVERMOUNT_LAZY blob_draft(int staging, std::string name, durability sync)
        : staging_(staging), name_(std::move(name)), sync_(sync)
    {
        constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        file_.reset(check(::openat(staging_, name_.c_str(), flags, 0600), "create", name_));
    }
    void write(std::span<const std::byte> bytes) { write_all(file_.get(), bytes); }
    // All of it was written.
    OVERMOUNT_LAZY void finish()
    {
        if (sync_ == durability::full)
            check(::fsync(file_.get()), "fsync", name_);
        file_.reset();
    }
    // It has its digest.
    OVERMOUNT_LAZY void publish(store& records, const digest& id) const
    {
        records.blobs.publish(staging_, name_, id, sync_);
    }

private:
    int staging_;
    std::string name_;
    durability sync_;
    unique_fd file_;
};

// An input that writes what is read of it to a draft, and finishes it at the end.
class kept_input final : public layer_input
{
public:
    kept_input(std::unique_ptr<layer_input> from, std::shared_ptr<blob_draft> into) : from_(std::move(from)), into_(std::move(into)) {}
    void set_reader(const std::weak_ptr<step>& reader) override { from_->set_reader(reader); }
    [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) override
    {
        const auto count = from_->read(into);
        if (count && *count == 0 && into_)
            std::exchange(into_, nullptr)->finish();
        else if (count && into_)
            into_->write(into.first(*count));
        return count;
    }

private:
    std::unique_ptr<layer_input> from_;
    std::shared_ptr<blob_draft> into_;
};

// `from` itself where there is no draft.
[[nodiscard]] inline std::unique_ptr<layer_input> keeping(std::unique_ptr<layer_input> from, std::shared_ptr<blob_draft> into)
{
    return into ? std::make_unique<kept_input>(std::move(from), std::move(into)) : std::move(from);
}

// Takes a tar that is only compared with its digests.
class null_writer
{
public:
    void write(std::span<const std::byte>) noexcept {}
    [[nodiscard]] diff_record finish() const { return {}; }
    bool publish(const diff_id&) noexcept { return true; }
};
static_assert(diff_writer<null_writer>);

// The blobs of an image whose blobs are kept.
OVERMOUNT_LAZY inline void lease_blobs(lease_content& lease, const found_image& image)
{
    lease.blob(image.config.id()).blob(digest::of(*image.manifest));
    for (const found_layer& layer : image.layers)
        lease.blob(*layer.blob);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

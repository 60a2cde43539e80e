// Keeps the blobs of an image byte for byte as they were imported.
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

namespace overmount::OVERMOUNT_ABI::detail {

// Whether the image has a manifest and the digests of all its blobs: only then can it be exported unchanged.
OVERMOUNT_LAZY [[nodiscard]] inline bool has_blobs(const found_image& image)
{
    return image.manifest &&
           std::all_of(image.layers.begin(), image.layers.end(),
                       [](const found_layer& layer) { return layer.blob.has_value(); });
}

// A blob that is being written in the staging directory of an import. Its file is open until `finish`. A blob that is not
// published is removed with the directory.
class blob_draft
{
public:
    OVERMOUNT_LAZY blob_draft(int staging, std::string name, durability sync)
        : staging_(staging), name_(std::move(name)), sync_(sync)
    {
        constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        file_.reset(checked(::openat(staging_, name_.c_str(), flags, 0600), "create", name_));
    }
    void write(std::span<const std::byte> bytes) { write_all(file_.get(), bytes); }
    // Called when all bytes are written.
    OVERMOUNT_LAZY void finish()
    {
        if (sync_ == durability::full)
            checked(::fsync(file_.get()), "fsync", name_);
        file_.reset();
    }
    // Called when the bytes are verified: they have the digest `id`.
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

// An input that writes all bytes read through it to a draft, and finishes the draft at the end.
class tee_input final : public layer_input
{
public:
    tee_input(std::unique_ptr<layer_input> from, std::shared_ptr<blob_draft> into) : from_(std::move(from)), into_(std::move(into)) {}
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

// An input that also writes to the draft `into`; `from` itself without a draft.
[[nodiscard]] inline std::unique_ptr<layer_input> tee_to(std::unique_ptr<layer_input> from, std::shared_ptr<blob_draft> into)
{
    return into ? std::make_unique<tee_input>(std::move(from), std::move(into)) : std::move(from);
}

// Discards a tar that is only decoded to verify its digests.
class null_writer
{
public:
    void write(std::span<const std::byte>) noexcept {}
    [[nodiscard]] diff_record finish() const { return {}; }
    bool publish(const diff_id&) noexcept { return true; }
};
static_assert(diff_writer<null_writer>);

// Adds all blobs of an image to a lease.
OVERMOUNT_LAZY inline void lease_blobs(lease_content& lease, const found_image& image)
{
    lease.blob(image.config.id()).blob(digest::of(*image.manifest));
    for (const found_layer& layer : image.layers)
        lease.blob(*layer.blob);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

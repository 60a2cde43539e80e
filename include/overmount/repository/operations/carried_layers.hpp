#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_CARRIED_LAYERS_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_CARRIED_LAYERS_HPP

#include <overmount/core/error.hpp>
#include <overmount/importer/importer.hpp>
#include <overmount/repository/operations/blob_keep.hpp>
#include <overmount/storage/storage_policy.hpp>

#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// The candidate layers of a one-pass archive: unpacked as they were read, before the images of the archive were known.
template <storage_policy Storage>
class carried_layers
{
public:
    struct candidate
    {
        typename Storage::writer writer;
        diff_record record;
        compression kind;
    };

    void add(const diff_id& diff, candidate one) { layers_.try_emplace(diff, std::move(one)); }
    void add_blob(const digest& blob, const diff_id& diff, std::shared_ptr<blob_draft> draft)
    {
        blobs_.try_emplace({blob, diff}, std::move(draft));
    }
    // Notes why a member could not be unpacked as a layer. The first such failure is thrown if a layer is missing at the end.
    void failed(std::exception_ptr why)
    {
        if (!failure_)
            failure_ = std::move(why);
    }

    // Throws if no candidate has this diff, or if its compression is not the promised one.
    [[nodiscard]] candidate& find(const found_layer& layer)
    {
        const auto found = layers_.find(layer.diff);
        if (found == layers_.end())
            missing(layer, "no member of the archive is this layer's tar");
        if (layer.promised && *layer.promised != found->second.kind)
            throw error(errc::unsupported_media_type)
                .at(stage::decode)
                .layer(layer.diff.string())
                .detail("its media type says " + std::string(to_string(*layer.promised)) + ", but the bytes are " +
                        std::string(to_string(found->second.kind)));
        return found->second;
    }
    [[nodiscard]] std::shared_ptr<blob_draft> find_blob(const found_layer& layer) const
    {
        const auto found = blobs_.find({*layer.blob, layer.diff});
        if (found == blobs_.end())
            missing(layer, "the blob " + layer.blob->string() + " is not this layer's tar");
        return found->second;
    }

private:
    [[noreturn]] void missing(const found_layer& layer, const std::string& why) const
    {
        if (failure_)
            std::rethrow_exception(failure_);
        throw error(errc::diff_id_mismatch).at(stage::decode).layer(layer.diff.string()).detail(why);
    }

    std::map<diff_id, candidate> layers_;
    std::map<std::pair<digest, diff_id>, std::shared_ptr<blob_draft>> blobs_;
    std::exception_ptr failure_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_IMPL_COLLECTION_READER_IPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_IMPL_COLLECTION_READER_IPP

#include <overmount/oci/image_config.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/repository/operations/collection_reader.hpp>
#include <overmount/repository/records/check_records.hpp>
#include <overmount/repository/records/mount_table.hpp>

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

namespace overmount::OVERMOUNT_ABI::detail {

// The result of `read`, which reads the record of a root. Throws `corrupt_repository` if it is damaged: it is then unknown what it
// needs.
template <class Read>
auto of_root(const std::string& path, const Read& read)
{
    try {
        return read();
    } catch (const error& failure) {
        if (!is_damage(failure))
            throw;
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .subject(path)
            .detail(std::string("nothing is removed while this record cannot be read: ") + failure.what());
    }
}

OVERMOUNT_LAZY inline std::vector<mount_record> all_mounts(std::shared_ptr<store> records)
{
    std::vector<error> damaged;
    auto out = mount_table(std::move(records)).list(&damaged);
    if (!damaged.empty())
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .subject(damaged.front().subject())
            .detail("nothing is removed while this record cannot be read");
    return out;
}

// Imports that are committed but not applied yet.
OVERMOUNT_LAZY inline import_records::records all_imports(const store& records)
{
    return of_root("imports", [&records] { return records.imports.pending([](const error& failure) { throw failure; }); });
}

OVERMOUNT_LAZY inline std::string config_path(const digest& id) { return "images/" + digest_path(id) + "/config.json"; }

OVERMOUNT_LAZY_BODY collection_reader::collection_reader(std::shared_ptr<store> records, const limits& bounds)
    : records_(std::move(records)), bounds_(&bounds)
{
}

OVERMOUNT_LAZY_BODY void collection_reader::list_things()
{
    for (const chain_id& chain : records_->layers.list())
        known_layers_.insert(chain);
    for (const char* algorithm : {"sha256", "sha512"}) {
        if (!exists(records_->diffs(), algorithm))
            continue;
        for (const std::string& name : list_directory(records_->diffs(), algorithm))
            if (const auto found = thing_of_lower(std::string(algorithm) + "/" + name)) {
                if (found->kind == kept_kind::diff)
                    marks_.add_diff(diff_id(found->id));
                else
                    marks_.add_old_tree(diff_id(found->id), found->number);
            }
    }
    for (const digest& id : records_->manifests.list())
        known_documents_.insert(id);
    for (const digest& id : records_->blobs.list())
        marks_.add_blob(id);
}

OVERMOUNT_LAZY_BODY void collection_reader::read(const stop_flag& stop)
{
    list_things();
    for (const digest& id : known_documents_) {
        stop.throw_if_stopped();
        read_document(id);
    }
    read_images(stop);
    // `read_layer` skips the records of layers that an image describes.
    for (const chain_id& chain : known_layers_) {
        stop.throw_if_stopped();
        read_layer(chain);
    }
    read_tags();
    read_mounts();
    read_leases();
}

OVERMOUNT_LAZY_BODY void collection_reader::read_again(const stop_flag& stop)
{
    for (const digest& id : records_->manifests.list())
        if (known_documents_.insert(id).second) {
            read_document(id);
            marks_.need(kept_thing{kept_kind::manifest, id});
        }
    read_images(stop);
    read_tags();
    read_mounts();
    read_leases();
    for (const chain_id& chain : records_->layers.list())
        if (known_layers_.insert(chain).second) {
            read_layer(chain);
            marks_.need(kept_thing{kept_kind::layer, chain.value()});
        }
}

OVERMOUNT_LAZY_BODY void collection_reader::read_images(const stop_flag& stop)
{
    for (const auto& [name, record] : all_imports(*records_))
        for (const import_record::image& one : record.images)
            need_image(one.id, one.config);
    for (const digest& id : records_->image_files.list()) {
        stop.throw_if_stopped();
        read_image(id);
    }
}

// False if the image no longer exists.
OVERMOUNT_LAZY_BODY bool collection_reader::read_image(const digest& id)
{
    if (images_.contains(id))
        return true;
    auto config = of_root(config_path(id), [&] { return records_->image_files.find(id); });
    if (!config && !exists(records_->base_fd(), "images/" + digest_path(id)))
        return false;
    if (!config)
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .subject(config_path(id))
            .detail("the config is missing: remove the image, or import it again");
    need_image(id, std::move(*config));
    return true;
}

OVERMOUNT_LAZY_BODY void collection_reader::need_image(const digest& id, std::string config)
{
    const auto read = [&] {
        if (digest::of(config, id.algorithm()) != id)
            throw error(errc::digest_mismatch);
        return image_config::parse(std::move(config), *bounds_).diff_ids();
    };
    const auto& diffs = images_.insert_or_assign(id, of_root(config_path(id), read)).first->second;
    marks_.need_image(id, diffs);
}

OVERMOUNT_LAZY_BODY void collection_reader::read_tags()
{
    const unique_fd tags = open_directory(records_->base_fd(), "tags");
    for (const std::string& file : records_->tag_files.files()) {
        struct stat status;
        if (::fstatat(tags.get(), file.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
            continue; // removed; if it was replaced, `read_again` finds the new one
        const version now{status.st_ino, status.st_ctim.tv_sec, status.st_ctim.tv_nsec};
        if (const auto known = tags_.find(file); known != tags_.end() && known->second == now)
            continue;
        const auto tag = of_root("tags/" + file, [&] { return records_->tag_files.read(file); });
        if (!tag)
            continue;
        for (const auto& id : {tag->manifest, tag->index})
            if (id)
                marks_.need(kept_thing{kept_kind::manifest, *id});
        tags_.insert_or_assign(file, now);
    }
}

OVERMOUNT_LAZY_BODY void collection_reader::read_mounts()
{
    const auto names = list_directory(records_->mounts(), ".");
    bool any = false;
    for (const std::string& name : names)
        any = mounts_.insert(name).second || any;
    if (!any)
        return;
    for (const mount_record& record : all_mounts(records_)) {
        for (const std::string& path : record.lowers)
            if (const auto found = thing_of_lower(path)) {
                marks_.need(*found);
                marks_.need_trees_of(found->id);
            }
        // The image of a stopped read-only mount may have been removed: such a mount keeps nothing.
        if (record.layer)
            marks_.need(kept_thing{kept_kind::layer, record.layer->value()});
        else if (!read_image(*record.image) && record.writable && record.lowers.empty())
            throw error(errc::corrupt_repository)
                .at(stage::repository)
                .subject("mounts/" + record.id + "/record.json")
                .detail("the mount's image is missing: unmount it first, or import the image again");
    }
}

OVERMOUNT_LAZY_BODY void collection_reader::read_leases()
{
    for (const std::string& file : records_->leases.files()) {
        const std::uint64_t now = records_->leases.version(file);
        if (auto& known = leases_[file]; known != now) {
            for (const lease_line& line : of_root("leases/" + file, [&] { return records_->leases.live(file); })) {
                marks_.need(line);
                leased_.push_back(line);
            }
            known = now;
        }
    }
}

OVERMOUNT_LAZY_BODY std::vector<kept_thing> collection_reader::leased_things() const
{
    std::vector<kept_thing> out;
    for (const lease_line& line : leased_)
        if (line.kind == leased_kind::diff)
            out.push_back({kept_kind::diff, line.id});
        else if (line.kind == leased_kind::manifest)
            out.push_back({kept_kind::manifest, line.id});
        else if (line.kind == leased_kind::blob)
            out.push_back({kept_kind::blob, line.id});
        else if (line.kind == leased_kind::image)
            for (kept_thing& one : marks_.needs_of(line.id, {}))
                out.push_back(std::move(one));
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

OVERMOUNT_LAZY_BODY void collection_reader::read_layer(const chain_id& chain)
{
    std::optional<layer_record> record;
    if (!marks_.is_vouched(chain)) {
        try {
            record = records_->layers.find(chain);
        } catch (const error& failure) {
            if (!is_damage(failure))
                throw;
        }
        if (!record && !exists(records_->base_fd(), layer_path(chain)))
            return; // the layer no longer exists
        if (record)
            layers_.insert_or_assign(chain, *record);
    }
    marks_.add_layer(chain, std::move(record));
}

OVERMOUNT_LAZY_BODY void collection_reader::read_document(const digest& id)
{
    const auto read = [&]() -> std::optional<document_links> {
        auto text = records_->manifests.find(id);
        if (!text || digest::of(*text, id.algorithm()) != id)
            return std::nullopt;
        document_links out;
        try {
            const manifest parsed = manifest::parse(*text, *bounds_);
            out.config = parsed.config().digest();
            out.names.push_back(*out.config);
            for (const layer_descriptor& layer : parsed.layers())
                out.names.push_back(layer.blob.digest());
        } catch (const error&) {
            const index parsed = index::parse(std::move(*text), *bounds_);
            for (const descriptor& entry : parsed.entries())
                out.names.push_back(entry.digest());
        }
        return out;
    };
    std::optional<document_links> links;
    try {
        links = read();
    } catch (const error& failure) {
        if (!is_damage(failure))
            throw;
    }
    if (links || exists(records_->base_fd(), path_of({kept_kind::manifest, id})))
        marks_.add_document(id, std::move(links));
}

OVERMOUNT_LAZY_BODY std::set<digest> used_images(std::shared_ptr<store> records)
{
    std::set<digest> out;
    static_cast<void>(all_imports(*records)); // throws if one is damaged; the caller has applied the others
    for (const std::string& file : records->tag_files.files())
        if (const auto tag = of_root("tags/" + file, [&] { return records->tag_files.read(file); }))
            out.insert(tag->image);
    for (const mount_record& record : all_mounts(records))
        if (record.image)
            out.insert(*record.image);
    for (const std::string& file : records->leases.files())
        for (const lease_line& line : of_root("leases/" + file, [&] { return records->leases.live(file); }))
            if (line.kind == leased_kind::image)
                out.insert(line.id);
    return out;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

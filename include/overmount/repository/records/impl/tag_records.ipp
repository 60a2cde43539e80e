#ifndef OVERMOUNT_REPOSITORY_RECORDS_IMPL_TAG_RECORDS_IPP
#define OVERMOUNT_REPOSITORY_RECORDS_IMPL_TAG_RECORDS_IPP

#include <overmount/oci/detail/json_record.hpp>
#include <overmount/repository/records/tag_records.hpp>
#include <overmount/storage/impl/diff_record.ipp>

namespace overmount::OVERMOUNT_ABI::detail {

inline std::string tag_file(std::string_view name) { return digest::of(name).hex() + ".json"; }

OVERMOUNT_DECL std::string tag_text(const tag_record& record)
{
    json_record content;
    content.text("name", record.name);
    content.text("image", record.image.string());
    content.text("source", percent_encode(record.source)).text("time", record.time);
    content.null("manifest").null("index");
    if (record.manifest)
        content.text("manifest", record.manifest->string());
    if (record.index)
        content.text("index", record.index->string());
    return content.string();
}

OVERMOUNT_DECL tag_record parse_tag(std::string_view text)
{
    std::string name, source, time;
    std::optional<digest> image, manifest, index;
    read_record(text, json_object({{"name", json_text(name).required()},
                                   {"image", json_digest(image).required()},
                                   {"manifest", json_digest(manifest)},
                                   {"index", json_digest(index)},
                                   {"source", json_encoded(source).required()},
                                   {"time", json_text(time).required()}}));
    return {std::move(name), *image, manifest, std::move(source), std::move(time), index};
}

OVERMOUNT_DECL void tag_records::add(record_batch& into, const tag_record& record) const
{
    into.add(directory_, tag_file(record.name), tag_text(record), existing::replace);
}

OVERMOUNT_DECL void tag_records::keep(record_batch& into, const tag_record& record) const
{
    into.add(directory_, tag_file(record.name), tag_text(record), existing::keep);
}

OVERMOUNT_DECL std::optional<tag_record> tag_records::find(std::string_view name) const { return read(tag_file(name)); }

OVERMOUNT_DECL std::vector<std::string> tag_records::files() const { return list_directory(directory_, "."); }

OVERMOUNT_DECL std::optional<tag_record> tag_records::read(const std::string& file) const
{
    const auto text = read_file(directory_, file, record_limit);
    if (!text)
        return std::nullopt;
    auto out = in_record("tags/" + file, [&text] { return parse_tag(*text); });
    if (tag_file(out.name) != file)
        throw error(errc::corrupt_repository)
            .at(stage::repository)
            .subject("tags/" + file)
            .detail("the file has the tag " + out.name + ", which belongs in another file");
    return out;
}

OVERMOUNT_DECL bool tag_records::remove(int staging, std::string_view name, durability sync) const
{
    return remove_record(staging, directory_, tag_file(name), sync);
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

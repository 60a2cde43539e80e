// A repository's records without a repository: a store in a scratch directory, and what is in its files.
#ifndef OVERMOUNT_TESTS_SUPPORT_RECORDS_HPP
#define OVERMOUNT_TESTS_SUPPORT_RECORDS_HPP

#include <overmount/repository/records/store.hpp>

#include "support/scratch.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>

namespace overmount::test {

using file_names = std::set<std::string>;

inline file_names names_in(const std::filesystem::path& directory)
{
    file_names out;
    for (const auto& entry : std::filesystem::directory_iterator(directory))
        out.insert(entry.path().filename().string());
    return out;
}

inline std::string read_text(const std::filesystem::path& file)
{
    std::ifstream in(file, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
}

inline void write_text(const std::filesystem::path& file, const std::string& content)
{
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << content;
}

// What `act` throws; an error without a code where it throws nothing.
template <class Act>
error error_of(const Act& act)
{
    try {
        act();
    } catch (const error& failure) {
        return failure;
    }
    return error(boost::system::error_code());
}

struct opened_store
{
    scratch_directory scratch;
    std::filesystem::path base = scratch / "repository";
    detail::store records{base, "directory", false};

    // One record each, shown at once.
    void put_layer(const chain_id& chain, const layer_record& record, durability sync = durability::none) const
    {
        put(sync, [&](auto& batch) { records.layers.add(batch, chain, record); });
    }
    void put_image(const digest& id, std::string_view config, durability sync = durability::none) const
    {
        put(sync, [&](auto& batch) { records.image_files.add(batch, id, config, sync != durability::none); });
    }
    void put_tag(const tag_record& record, durability sync = durability::none) const
    {
        put(sync, [&](auto& batch) { records.tag_files.add(batch, record); });
    }
    // What an importer leaves that dies right behind its commit.
    std::string commit(const detail::import_record& record) const
    {
        const std::string name = detail::import_records::new_name();
        detail::put_record(records.staging.fd(), records.imports.directory(), name, record.text(), durability::none,
                           detail::existing::keep);
        return name;
    }

private:
    template <class Add>
    void put(durability sync, const Add& add) const
    {
        detail::record_batch batch(records.staging.fd(), sync);
        add(batch);
        batch.sync_drafts();
        batch.publish();
    }
};

} // namespace overmount::test

#endif

// A storage policy of one's own, for a cache or a mirror: of each layer it keeps the tar, bit for bit, and a
// record. `diffs/<ID>/` holds both; it is made in staging, and one rename shows it. To outlive a power cut it
// would also do what `storage_place::sync()` asks for.
#ifndef OVERMOUNT_EXAMPLES_TAR_STORAGE_HPP
#define OVERMOUNT_EXAMPLES_TAR_STORAGE_HPP

#include <overmount/storage/storage_policy.hpp>
#include <overmount/tar/framing.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>

class tar_storage
{
    using path = std::filesystem::path;
    static path at(int directory) { return "/proc/self/fd/" + std::to_string(directory); }

public:
    class writer
    {
    public:
        writer(path draft, path diffs, const overmount::limits& bounds)
            : draft_(std::move(draft)), diffs_(std::move(diffs)), frames_(bounds)
        {
            std::filesystem::create_directory(draft_);
            tar_.open(draft_ / "layer.tar", std::ios::binary);
        }
        void write(std::span<const std::byte> bytes)
        {
            tar_.write(reinterpret_cast<const char*>(bytes.data()),
                       static_cast<std::streamsize>(bytes.size()));
            while (frames_.next(bytes) != overmount::tar::event::need_input) // throws on what is no tar
                continue;
        }
        overmount::diff_record finish()
        {
            frames_.finish();
            overmount::diff_record record;
            record.form = form();
            record.entries = frames_.entries();
            record.bytes = frames_.stream_offset();
            std::ofstream json(draft_ / "diff.json");
            if (!(json << record.to_json()).flush() || !tar_.flush()) // which remembers a write that failed
                throw overmount::error::from_errno(errno).at(overmount::stage::storage);
            return record;
        }
        bool publish(const overmount::diff_id& id)
        {
            std::error_code failed;
            std::filesystem::rename(draft_, diffs_ / id.string(), failed);
            if (failed && failed != std::errc::directory_not_empty && failed != std::errc::file_exists)
                throw overmount::error(failed).at(overmount::stage::storage);
            return !failed;
        }

    private:
        path draft_, diffs_;
        overmount::tar::framing frames_;
        std::ofstream tar_;
    };

    explicit tar_storage(overmount::storage_place place)
        : diffs_(at(place.diffs())), tmp_(at(place.staging()))
    {}

    static std::string_view form() { return "tar and record"; }
    writer create(const overmount::write_context& with)
    {
        return writer(at(with.staging()) / with.name(), diffs_, with.bounds());
    }
    bool contains(const overmount::diff_id& id) const { return exists(diffs_ / id.string()); }
    overmount::diff_record record(const overmount::diff_id& id) const
    {
        std::ifstream json(diffs_ / id.string() / "diff.json");
        if (!json)
            throw overmount::error(overmount::errc::layer_not_found).layer(id.string());
        return overmount::diff_record::parse(std::string(std::istreambuf_iterator<char>(json), {}));
    }
    void erase(const overmount::diff_id& id)
    {
        if (!contains(id))
            return;
        std::filesystem::rename(diffs_ / id.string(), tmp_ / id.string()); // out of sight at once
        std::filesystem::remove_all(tmp_ / id.string());
    }

private:
    path diffs_, tmp_;
};

#endif

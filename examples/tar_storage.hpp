// A custom storage policy, for a cache or a mirror: it keeps each layer's tar, byte for byte, and a record, both in `diffs/<ID>/`. The
// directory is made in a staging directory and published by one rename. With `durability::batch` the repository syncs what is new;
// this storage does not support `full`, which would require it to sync more.
#ifndef OVERMOUNT_EXAMPLES_TAR_STORAGE_HPP
#define OVERMOUNT_EXAMPLES_TAR_STORAGE_HPP

#include <overmount/storage/storage_policy.hpp>
#include <overmount/tar/framing.hpp>

#include <fcntl.h>
#include <unistd.h>

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
        writer(path draft, path diffs, overmount::durability sync, const overmount::limits& bounds)
            : draft_(std::move(draft)), diffs_(std::move(diffs)), sync_(sync), frames_(bounds)
        {
            std::filesystem::create_directory(draft_);
            tar_.open(draft_ / "layer.tar", std::ios::binary);
        }
        void write(std::span<const std::byte> bytes)
        {
            tar_.write(reinterpret_cast<const char*>(bytes.data()),
                       static_cast<std::streamsize>(bytes.size()));
            while (frames_.next(bytes) != overmount::tar::event::need_input) // throws if it is not a tar
                continue;
        }
        overmount::diff_record finish()
        {
            frames_.finish();
            overmount::diff_record record;
            record.form = form();
            record.sync = sync_ == overmount::durability::batch ? sync_ : overmount::durability::none;
            record.entries = frames_.entries();
            record.bytes = frames_.stream_offset();
            std::ofstream json(draft_ / "diff.json");
            if (!(json << record.to_json()).flush() || !tar_.flush()) // the stream remembers a failed write
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
        overmount::durability sync_;
        overmount::tar::framing frames_;
        std::ofstream tar_;
    };

    explicit tar_storage(overmount::storage_place place)
        : diffs_(at(place.diffs())), tmp_(at(place.staging())), sync_(place.sync())
    {}

    static std::string_view form() { return "tar and record"; }
    writer create(const overmount::write_context& with)
    {
        return writer(at(with.staging()) / with.name(), diffs_, sync_, with.bounds());
    }
    bool contains(const overmount::diff_id& id) const { return exists(diffs_ / id.string()); }
    overmount::diff_record record(const overmount::diff_id& id) const
    {
        if (!contains(id))
            throw overmount::error(overmount::errc::layer_not_found).layer(id.string());
        return overmount::diff_record::parse(text_of(diffs_ / id.string() / "diff.json"));
    }
    // Syncs the data, then notes in the record that the data is durable. Syncs the directory entry in any case.
    void make_durable(const overmount::diff_id& id, int, const std::function<void()>& poll)
    {
        overmount::diff_record noted = record(id);
        const path diff = diffs_ / id.string();
        if (noted.sync == overmount::durability::none) {
            sync(diff / "layer.tar");
            poll();
            noted.sync = overmount::durability::batch;
            std::ofstream json(diff / "new.json");
            if (!(json << noted.to_json()).flush())
                throw overmount::error::from_errno(errno).at(overmount::stage::storage);
            sync(diff / "new.json");
            std::filesystem::rename(diff / "new.json", diff / "diff.json");
            sync(diff);
        }
        sync(diffs_);
    }
    void erase(const overmount::diff_id& id)
    {
        if (!contains(id))
            return;
        std::filesystem::rename(diffs_ / id.string(), tmp_ / id.string()); // invisible at once
        std::filesystem::remove_all(tmp_ / id.string());
    }

private:
    static std::string text_of(const path& file)
    {
        std::ifstream in(file);
        return std::string(std::istreambuf_iterator<char>(in), {});
    }
    static void sync(const path& what) // a file or a directory
    {
        const int fd = ::open(what.c_str(), O_RDONLY | O_CLOEXEC);
        const int failure = fd < 0 || ::fsync(fd) != 0 ? errno : 0;
        if (fd >= 0)
            ::close(fd);
        if (failure != 0)
            throw overmount::error::from_errno(failure).at(overmount::stage::storage).subject(what.string());
    }

    path diffs_, tmp_;
    overmount::durability sync_;
};

#endif

#ifndef OVERMOUNT_EXPORTER_ARCHIVE_SOURCE_HPP
#define OVERMOUNT_EXPORTER_ARCHIVE_SOURCE_HPP

#include <overmount/exporter/exporter.hpp>
#include <overmount/tar/writer.hpp>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// A file of an archive: its content, or a function that opens it.
struct archive_member
{
    std::string path;
    std::string text;
    std::function<std::unique_ptr<layer_reader>()> open = {}; // replaces `text` if set
    std::uint64_t size = 0;                                   // bytes that the reader of `open` has
};

// Produces the tar of some files piece by piece, as it is read. Times and owners are zero, so that the same files give the
// same tar.
class archive_source
{
public:
    explicit archive_source(std::vector<archive_member> members) : members_(std::move(members)) {}

    // Fills `into`; returns fewer bytes only at the end, and then 0.
    OVERMOUNT_LAZY [[nodiscard]] std::size_t read(std::span<std::byte> into)
    {
        std::size_t done = 0;
        while (done < into.size()) {
            if (begin_ < ready_.size()) {
                const std::size_t count = std::min(ready_.size() - begin_, into.size() - done);
                std::memcpy(into.data() + done, ready_.data() + begin_, count);
                begin_ += count;
                done += count;
            } else if (reader_) {
                done += read_member(into.subspan(done));
            } else if (!advance()) {
                break;
            }
        }
        return done;
    }

private:
    OVERMOUNT_LAZY std::size_t read_member(std::span<std::byte> into)
    {
        const archive_member& at = members_[next_ - 1];
        const std::size_t count = reader_->read(into);
        member_done_ += count;
        if (member_done_ > at.size || (count == 0 && member_done_ != at.size))
            throw error(errc::size_mismatch).at(stage::target).entry(at.path);
        if (count == 0) {
            reader_.reset();
            ready_ = tar::zeros_behind(at.size);
            begin_ = 0;
        }
        return count;
    }

    // Advances to the next member, or after the last one to the end marker; false at the end.
    OVERMOUNT_LAZY bool advance()
    {
        begin_ = 0;
        if (next_ == members_.size()) {
            ready_ = std::exchange(ended_, true) ? std::string() : tar::end_marker();
            return !ready_.empty();
        }
        archive_member& at = members_[next_++];
        tar::entry header;
        header.path = at.path;
        header.type = at.path.ends_with('/') ? tar::entry_type::directory : tar::entry_type::regular;
        header.mode = at.path.ends_with('/') ? 0755 : 0644;
        header.size = at.open ? at.size : at.text.size();
        ready_ = tar::make_header(header);
        if (at.open) {
            reader_ = at.open();
            member_done_ = 0;
        } else {
            ready_ += at.text + tar::zeros_behind(at.text.size());
        }
        return true;
    }

    std::vector<archive_member> members_;
    std::size_t next_ = 0;
    std::unique_ptr<layer_reader> reader_; // of the current member
    std::uint64_t member_done_ = 0;
    std::string ready_; // headers, documents and padding to return next
    std::size_t begin_ = 0;
    bool ended_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

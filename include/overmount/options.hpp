#ifndef OVERMOUNT_OPTIONS_HPP
#define OVERMOUNT_OPTIONS_HPP

#include <overmount/core/digest.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/core/platform.hpp>
#include <overmount/exporter/exporter.hpp>
#include <overmount/oci/image_config_edit.hpp>
#include <overmount/runtime/worker_pool.hpp>
#include <overmount/storage/diff_record.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI {

/// How a repository is opened.
class repository_options
{
public:
    /// Threads for blocking work; by default the pool of the caller's execution context, one a processor.
    repository_options& pool(worker_pool value) { return set(pool_, std::move(value)); }
    /// \param count threads of a pool of the repository's own
    repository_options& workers(unsigned count) { return set(pool_, worker_pool(count)); }
    repository_options& bounds(const limits& value) { return set(bounds_, value); }
    repository_options& sync(durability value) { return set(sync_, value); }
    /// For how long an operation tries to have the repository's lock, which others hold for moments, before it ends in
    /// `errc::repository_busy`; a minute by default.
    repository_options& lock_limit(std::chrono::milliseconds value) { return set(lock_limit_, value); }
    /// How many layers of images are read from streams at the same time, such as from a registry, by all operations on this
    /// repository together; 6 by default. Each takes a few MiB. `create_layer` from a stream does not count.
    repository_options& streams(unsigned count) { return set(streams_, count == 0 ? 1 : count); }
    /// Opens a repository whose directory others may enter.
    repository_options& open_to_others(bool on) { return set(open_to_others_, on); }
    /// Opens a repository that belongs to this user; by default it must belong to the caller, by effective user ID. What
    /// is made in it belongs to the caller all the same.
    repository_options& owner(uid_t user) { return set(owner_, user); }

    [[nodiscard]] const std::optional<worker_pool>& pool() const noexcept { return pool_; }
    [[nodiscard]] const limits& bounds() const noexcept { return bounds_; }
    [[nodiscard]] durability sync() const noexcept { return sync_; }
    [[nodiscard]] std::chrono::milliseconds lock_limit() const noexcept { return lock_limit_; }
    [[nodiscard]] unsigned streams() const noexcept { return streams_; }
    [[nodiscard]] bool open_to_others() const noexcept { return open_to_others_; }
    [[nodiscard]] const std::optional<uid_t>& owner() const noexcept { return owner_; }

private:
    template <class Field, class Value>
    repository_options& set(Field& field, Value&& value)
    {
        field = std::forward<Value>(value);
        return *this;
    }
    std::optional<worker_pool> pool_;
    limits bounds_;
    durability sync_ = durability::batch;
    std::chrono::milliseconds lock_limit_ = std::chrono::minutes(1);
    unsigned streams_ = 6;
    bool open_to_others_ = false;
    std::optional<uid_t> owner_;
};

/// How far one layer is. Sizes are bytes.
class layer_progress
{
public:
    layer_progress(std::string layer, std::uint64_t read, std::optional<std::uint64_t> size)
        : layer_(std::move(layer)), read_(read), size_(size)
    {
    }
    [[nodiscard]] const std::string& layer() const noexcept { return layer_; } ///< diff ID; in a stream, the member
    [[nodiscard]] std::uint64_t read() const noexcept { return read_; } ///< of the blob, so far
    [[nodiscard]] std::optional<std::uint64_t> size() const noexcept { return size_; } ///< of the blob, where it is known

private:
    std::string layer_;
    std::uint64_t read_;
    std::optional<std::uint64_t> size_;
};

/// What an import is to do beside importing.
class import_options
{
public:
    /// Another name for the image, beside those that the source gives.
    import_options& tag(std::string name)
    {
        tags_.push_back(std::move(name));
        return *this;
    }
    /// The platform to choose from an index; by default this machine's.
    import_options& wanted(overmount::platform value)
    {
        wanted_ = std::move(value);
        return *this;
    }
    /// Hears of every piece that was read; called on workers, several at a time. See `worker_pool` on what a worker has
    /// for itself.
    import_options& progress(std::function<void(const layer_progress&)> observer)
    {
        progress_ = std::move(observer);
        return *this;
    }

    /// Keeps the blobs of each image as they came, its manifest and config among them, so that it can go out byte for
    /// byte. They are read whether or not their layers are there, and compared with their digests and diff IDs. Of an
    /// image without a manifest, as in archives of docker before 25, none are kept.
    import_options& keep_blobs(bool on = true)
    {
        keeps_blobs_ = on;
        return *this;
    }

    [[nodiscard]] const std::vector<std::string>& tags() const noexcept { return tags_; }
    [[nodiscard]] bool keeps_blobs() const noexcept { return keeps_blobs_; }
    [[nodiscard]] const overmount::platform& wanted() const noexcept { return wanted_; }
    [[nodiscard]] const std::function<void(const layer_progress&)>& progress() const noexcept { return progress_; }

private:
    std::vector<std::string> tags_;
    overmount::platform wanted_ = overmount::platform::host();
    std::function<void(const layer_progress&)> progress_;
    bool keeps_blobs_ = false;
};

/// How images are written elsewhere.
class export_options
{
public:
    /// How the layers are compressed. By default an image whose blobs were kept goes to an OCI layout or archive as it
    /// came, with its manifest; all others have layers that are not compressed.
    export_options& encoding(const layer_encoding& value)
    {
        encoding_ = value;
        return *this;
    }
    /// A name that the image is to have there; may be given more than once. By default an image has its tags.
    export_options& name(const digest& image, std::string value)
    {
        names_.emplace_back(image, std::move(value));
        return *this;
    }
    /// Also layers that a check found damaged, as far as they can be read: else they are `errc::diff_damaged`.
    export_options& accept_damaged(bool on = true)
    {
        accepts_damaged_ = on;
        return *this;
    }
    [[nodiscard]] bool accepts_damaged() const noexcept { return accepts_damaged_; }
    [[nodiscard]] const std::optional<layer_encoding>& encoding() const noexcept { return encoding_; }
    [[nodiscard]] const std::vector<std::pair<digest, std::string>>& names() const noexcept { return names_; }

private:
    std::optional<layer_encoding> encoding_;
    std::vector<std::pair<digest, std::string>> names_;
    bool accepts_damaged_ = false;
};

/// How an image is mounted.
class mount_options
{
public:
    /// A directory to mount at; by default one of the repository's own.
    mount_options& target(std::string directory)
    {
        target_ = std::move(directory);
        return *this;
    }
    /// Gives the mount an upper directory of its own, which goes when it is unmounted. In a repository of
    /// `durability::none` the mount is volatile: nothing that is written in it is synced.
    mount_options& writable(bool on)
    {
        writable_ = on;
        return *this;
    }
    /// Mounts a volatile mount again that the machine's going down ended: files in it may be incomplete.
    mount_options& accept_not_durable(bool on)
    {
        accepts_not_durable_ = on;
        return *this;
    }
    /// Mounts layers that a check found damaged as they are: else they are `errc::diff_damaged`.
    mount_options& accept_damaged(bool on = true)
    {
        accepts_damaged_ = on;
        return *this;
    }
    [[nodiscard]] const std::string& target() const noexcept { return target_; }
    [[nodiscard]] bool writable() const noexcept { return writable_; }
    [[nodiscard]] bool accepts_not_durable() const noexcept { return accepts_not_durable_; }
    [[nodiscard]] bool accepts_damaged() const noexcept { return accepts_damaged_; }

private:
    std::string target_;
    bool writable_ = false, accepts_not_durable_ = false, accepts_damaged_ = false;
};

/// How what was written in a mount becomes an image.
class commit_options
{
public:
    /// A name for the image; may be given more than once.
    commit_options& tag(std::string name)
    {
        tags_.push_back(std::move(name));
        return *this;
    }
    /// What the history says of the step: who or what made it, and a comment.
    commit_options& created_by(std::string text) { return set(created_by_, std::move(text)); }
    commit_options& message(std::string text) { return set(message_, std::move(text)); }
    /// Seconds since 1970 at which the image says it was made, by default now; files are not younger either. Equal
    /// uppers on equal images then give equal images. See reproducible-builds.org, "SOURCE_DATE_EPOCH".
    commit_options& source_date_epoch(std::int64_t seconds) { return set(epoch_, seconds); }
    /// Changes the config: called once with the config that the image is going to have, on a worker.
    commit_options& edit(std::function<void(image_config_edit&)> change) { return set(edit_, std::move(change)); }
    /// Commits a volatile mount that the machine's going down ended: files in it may be incomplete.
    commit_options& accept_not_durable(bool on) { return set(accepts_not_durable_, on); }

    [[nodiscard]] const std::vector<std::string>& tags() const noexcept { return tags_; }
    [[nodiscard]] const std::string& created_by() const noexcept { return created_by_; }
    [[nodiscard]] const std::string& message() const noexcept { return message_; }
    [[nodiscard]] const std::optional<std::int64_t>& source_date_epoch() const noexcept { return epoch_; }
    [[nodiscard]] const std::function<void(image_config_edit&)>& edit() const noexcept { return edit_; }
    [[nodiscard]] bool accepts_not_durable() const noexcept { return accepts_not_durable_; }

private:
    template <class Field, class Value>
    commit_options& set(Field& field, Value&& value)
    {
        field = std::forward<Value>(value);
        return *this;
    }
    std::vector<std::string> tags_;
    std::string created_by_, message_;
    std::optional<std::int64_t> epoch_;
    std::function<void(image_config_edit&)> edit_;
    bool accepts_not_durable_ = false;
};

} // namespace overmount::inline OVERMOUNT_ABI

#endif

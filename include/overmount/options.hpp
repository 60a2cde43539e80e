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

namespace overmount::OVERMOUNT_ABI {

/// Options of `basic_repository::open`.
class repository_options
{
public:
    /// The worker threads for blocking work; by default the pool of the caller's execution context, with one thread per processor.
    repository_options& pool(worker_pool value) { return set(pool_, std::move(value)); }
    /// Gives the repository a pool of its own. \param count its worker threads
    repository_options& workers(unsigned count) { return set(pool_, worker_pool(count)); }
    repository_options& bounds(const limits& value) { return set(bounds_, value); }
    repository_options& sync(durability value) { return set(sync_, value); }
    /// How long an operation tries to take the repository's lock before it fails with `errc::repository_busy`; a minute by default.
    /// Operations hold the lock only for moments.
    repository_options& lock_limit(std::chrono::milliseconds value) { return set(lock_limit_, value); }
    /// How many image layers all operations on this repository together read from streams at the same time, such as from a registry;
    /// 6 by default. Each takes a few MiB. `create_layer` from a stream does not count.
    repository_options& streams(unsigned count) { return set(streams_, count == 0 ? 1 : count); }
    /// Opens a repository also if other users may enter its directory.
    repository_options& open_to_others(bool on) { return set(open_to_others_, on); }
    /// Opens a repository that belongs to this user; by default it must belong to the caller, by effective user ID. Files that the
    /// caller makes in it belong to the caller all the same.
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

/// The progress of one layer of an import. Sizes are in bytes.
class layer_progress
{
public:
    layer_progress(std::string layer, std::uint64_t read, std::uint64_t piece, std::uint64_t unpacked, std::optional<std::uint64_t> size)
        : layer_(std::move(layer)), read_(read), piece_(piece), unpacked_(unpacked), size_(size)
    {
    }
    [[nodiscard]] const std::string& layer() const noexcept { return layer_; } ///< diff ID; of a stream, the member's name
    [[nodiscard]] std::uint64_t read() const noexcept { return read_; } ///< bytes of the blob that were read so far
    /// Bytes that were read since the previous call for this layer. The sum over all calls is what the whole import has read.
    [[nodiscard]] std::uint64_t piece() const noexcept { return piece_; }
    [[nodiscard]] std::uint64_t unpacked() const noexcept { return unpacked_; } ///< bytes of the tar that were decoded so far
    [[nodiscard]] std::optional<std::uint64_t> size() const noexcept { return size_; } ///< of the blob, if known

private:
    std::string layer_;
    std::uint64_t read_, piece_, unpacked_;
    std::optional<std::uint64_t> size_;
};

/// Options of the imports of `basic_repository`.
class import_options
{
public:
    /// A name for the image, in addition to those that the source gives.
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
    /// Is called for every piece that was read and decoded, on worker threads, several at the same time. See `worker_pool` on the state that
    /// a worker thread has of its own. Pass a closure with captures to options that have a name: GCC 12 destroys a closure inside a
    /// `co_await` expression twice.
    import_options& progress(std::function<void(const layer_progress&)> observer)
    {
        progress_ = std::move(observer);
        return *this;
    }

    /// How many layers this import reads from streams at the same time, such as from a registry; 4 by default. All imports together
    /// read no more than `repository_options::streams`, and take turns.
    import_options& streams(unsigned count)
    {
        streams_ = count == 0 ? 1 : count;
        return *this;
    }
    /// Keeps the blobs of each image as they came, with its manifest and config, so that it can be exported byte for byte. All blobs
    /// are read, also those of layers that the repository has, and compared with their digests and diff IDs. No blobs are kept of an
    /// image without a manifest, as in archives of docker before 25.
    import_options& keep_blobs(bool on = true)
    {
        keeps_blobs_ = on;
        return *this;
    }

    [[nodiscard]] const std::vector<std::string>& tags() const noexcept { return tags_; }
    [[nodiscard]] unsigned streams() const noexcept { return streams_; }
    [[nodiscard]] bool keeps_blobs() const noexcept { return keeps_blobs_; }
    [[nodiscard]] const overmount::platform& wanted() const noexcept { return wanted_; }
    [[nodiscard]] const std::function<void(const layer_progress&)>& progress() const noexcept { return progress_; }

private:
    std::vector<std::string> tags_;
    overmount::platform wanted_ = overmount::platform::host();
    std::function<void(const layer_progress&)> progress_;
    unsigned streams_ = 4;
    bool keeps_blobs_ = false;
};

/// Options of `basic_repository::export_images`.
class export_options
{
public:
    /// How to compress the layers. By default an image whose blobs were kept is written to an OCI layout or archive as it came, with
    /// its manifest; the layers of all other images are not compressed.
    export_options& encoding(const layer_encoding& value)
    {
        encoding_ = value;
        return *this;
    }
    /// A name for the image in the target; may be given more than once. By default an image has its tags.
    export_options& name(const digest& image, std::string value)
    {
        names_.emplace_back(image, std::move(value));
        return *this;
    }
    /// Exports also layers that a check found damaged, if they can be read; by default they are `errc::diff_damaged`.
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

/// Options of mounts.
class mount_options
{
public:
    /// The directory to mount at; by default a directory in the repository.
    mount_options& target(std::string directory)
    {
        target_ = std::move(directory);
        return *this;
    }
    /// Gives the mount an upper directory of its own, which is removed when it is unmounted. In a repository with
    /// `durability::none` the mount is volatile: nothing that is written in it is synced.
    mount_options& writable(bool on)
    {
        writable_ = on;
        return *this;
    }
    /// Mounts a volatile mount again also if a crash or shutdown of the machine ended it: files in it may be incomplete.
    mount_options& accept_not_durable(bool on)
    {
        accepts_not_durable_ = on;
        return *this;
    }
    /// Mounts also layers that a check found damaged, as they are; by default they are `errc::diff_damaged`.
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

/// Options of a commit, which makes an image of what was written in a mount.
class commit_options
{
public:
    /// A name for the image; may be given more than once.
    commit_options& tag(std::string name)
    {
        tags_.push_back(std::move(name));
        return *this;
    }
    /// The history entry of the commit: who or what made it, and a comment.
    commit_options& created_by(std::string text) { return set(created_by_, std::move(text)); }
    commit_options& message(std::string text) { return set(message_, std::move(text)); }
    /// The creation time of the image, in seconds since 1970; by default now. Later times of files are set to it as well, so that
    /// equal upper directories on equal images give equal images. See reproducible-builds.org, "SOURCE_DATE_EPOCH".
    commit_options& source_date_epoch(std::int64_t seconds) { return set(epoch_, seconds); }
    /// Changes the config: is called once, on a worker thread, with the config that the image is going to have. Pass a closure with
    /// captures to options that have a name, see `import_options::progress`.
    commit_options& edit(std::function<void(image_config_edit&)> change) { return set(edit_, std::move(change)); }
    /// Commits a volatile mount also if a crash or shutdown of the machine ended it: files in it may be incomplete.
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

} // namespace overmount::OVERMOUNT_ABI

#endif

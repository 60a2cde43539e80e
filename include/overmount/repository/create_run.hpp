#ifndef OVERMOUNT_REPOSITORY_CREATE_RUN_HPP
#define OVERMOUNT_REPOSITORY_CREATE_RUN_HPP

#include <overmount/detail/file_range.hpp>
#include <overmount/detail/hasher.hpp>
#include <overmount/detail/run_on.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/unpack/decoder.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>

#include <fcntl.h>

#include <concepts>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Boost.Asio's AsyncReadStream.
template <class Stream>
concept read_stream = std::movable<Stream> && requires(Stream& stream, asio::mutable_buffer buffer,
                                                       void (*done)(boost::system::error_code, std::size_t)) {
    stream.get_executor();
    stream.async_read_some(buffer, done);
};

// One layer that is made from a tar whose digest nobody knows before its end. Shared by the coroutine and by
// the workers that act for it, one at a time.
template <storage_policy Storage>
class create_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<create_run>;

    create_run(std::shared_ptr<state> owner, std::optional<chain_id> parent)
        : repository_(std::move(owner)), parent_(std::move(parent)), input_(piece_size),
          output_(2 * piece_size), digest_(digest_algorithm::sha256)
    {}

    [[nodiscard]] const worker_pool& pool() const noexcept { return repository_->pool; }
    // Of the layer, when it is shown.
    [[nodiscard]] const chain_id& chain() const { return *chain_; }

    static asio::awaitable<void> from_file(pointer self, std::filesystem::path file)
    {
        const auto permit = co_await self->repository_->slots.acquire();
        auto work = [self, file](const stop_flag& stop) {
            self->begin();
            self->read(file, stop);
            self->show();
        };
        co_await run_on(self->repository_->pool, std::move(work));
    }

    // Takes no slot: nobody knows how long the next bytes take. No worker waits for them.
    template <class Stream>
    static asio::awaitable<void> from_stream(pointer self, Stream stream)
    {
        auto begin = [self](const stop_flag&) { self->begin(); };
        co_await run_on(self->repository_->pool, std::move(begin));
        for (boost::system::error_code ended; !ended;) {
            const std::size_t size = co_await asio::async_read(
                stream, asio::buffer(self->input_), asio::redirect_error(asio::use_awaitable, ended));
            if (ended && ended != asio::error::eof)
                throw error(ended).at(stage::source).operation("read");
            auto take = [self, size](const stop_flag& stop) { self->take(size, stop); };
            co_await run_on(self->repository_->pool, std::move(take));
        }
        auto show = [self](const stop_flag&) { self->show(); };
        co_await run_on(self->repository_->pool, std::move(show));
    }

    // Removes what is left, shown or not. On a worker.
    void clean()
    {
        writer_.reset();
        if (!staging_)
            return;
        repository_->records->remove_staging(*staging_);
        repository_->records->end_lease(lease_name_);
        staging_.reset();
    }

private:
    static constexpr std::size_t piece_size = 256 << 10;

    void begin()
    {
        store& records = *repository_->records;
        const file_lock guard = records.lock_shared();
        std::vector<diff_id> below;
        if (parent_)
            for (layer_record& layer : records.chain(*parent_))
                below.push_back(std::move(layer.diff));
        lease_ = records.lease(below, lease_name_);
        staging_.emplace(records.make_staging());
        writer_.emplace(
            repository_->storage.create(write_context(staging_->fd.get(), "layer", repository_->bounds)));
    }

    void read(const std::filesystem::path& file, const stop_flag& stop)
    {
        auto fd = std::make_shared<const unique_fd>(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat status;
        if (!*fd || ::fstat(fd->get(), &status) != 0)
            throw error::from_errno(errno).at(stage::source).operation("open").subject(file.string());
        if (!S_ISREG(status.st_mode))
            throw error(errc::invalid_layer)
                .at(stage::source)
                .subject(file.string())
                .detail("not a regular file");
        const file_range bytes(std::move(fd), 0, static_cast<std::uint64_t>(status.st_size));
        for (std::uint64_t position = 0, size = 1; size != 0; position += size) {
            size = bytes.read(position, input_);
            take(size, stop);
        }
    }

    // The next `size` bytes of the source are in `input_`, which is full but for the last of them.
    void take(std::size_t size, const stop_flag& stop)
    {
        std::span<const std::byte> rest(input_.data(), size);
        if (!decode_)
            decode_.emplace(detect_compression(rest), repository_->bounds);
        if (decode_->passthrough())
            return pass(rest, stop);
        for (bool full = true; full || !rest.empty();) {
            const auto step = decode_->step(rest, output_);
            rest = rest.subspan(step.consumed);
            full = step.produced == output_.size();
            pass(std::span(output_).first(step.produced), stop);
        }
    }

    void pass(std::span<const std::byte> bytes, const stop_flag& stop)
    {
        stop.throw_if_stopped();
        produced_ += bytes.size();
        if (produced_ > repository_->bounds.stream_bytes)
            throw error(errc::layer_too_large).at(stage::decode);
        digest_.update(bytes);
        writer_->write(bytes);
    }

    // Children before parents: the diff, then the layer.
    void show()
    {
        if (produced_ == 0) // the producer failed: nobody means a layer of no bytes
            throw error(errc::truncated_stream).at(stage::source).detail("there are no bytes");
        if (!decode_->passthrough())
            decode_->finish();
        const diff_id diff(digest_.finish());
        static_cast<void>(writer_->finish());
        store& records = *repository_->records;
        // Who wants the same diff from now on waits for this one.
        const auto claim = records.try_claim(diff);
        if (repository_->sync == durability::batch)
            check(::syncfs(records.base_fd()), "syncfs");
        const file_lock guard = records.lock_shared();
        if (parent_)
            static_cast<void>(records.chain(*parent_));
        repository_->publish(*writer_, diff);
        const chain_id chain = parent_ ? chain_id::of(*parent_, diff) : chain_id::of(diff);
        records.put_layer(chain, {diff, parent_}, repository_->sync);
        if constexpr (mountable_storage<Storage>)
            mount_table(repository_->records).ensure_correction(chain, repository_->stack_of(chain));
        chain_ = chain;
    }

    std::shared_ptr<state> repository_;
    std::optional<chain_id> parent_, chain_;
    std::optional<store::staging_directory> staging_;
    std::optional<file_lock> lease_;
    std::string lease_name_;
    std::optional<typename Storage::writer> writer_;
    std::vector<std::byte> input_, output_;
    std::optional<decoder> decode_;
    hasher digest_;
    std::uint64_t produced_ = 0;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

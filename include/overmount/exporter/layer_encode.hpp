#ifndef OVERMOUNT_EXPORTER_LAYER_ENCODE_HPP
#define OVERMOUNT_EXPORTER_LAYER_ENCODE_HPP

#include <overmount/codec/block_encoder.hpp>
#include <overmount/core/hasher.hpp>
#include <overmount/exporter/exporter.hpp>
#include <overmount/posix/draft_file.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>
#include <overmount/runtime/task_group.hpp>

#include <memory>
#include <string>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Awaits `work`; errors of writing the output get stage target and the name of the output.
OVERMOUNT_LAZY inline asio::awaitable<void> with_output_in_errors(std::string name, asio::awaitable<void> work)
{
    try {
        co_await std::move(work);
    } catch (error& failure) {
        if (failure.at() == stage::none)
            failure.at(stage::target);
        if (failure.at() == stage::target && failure.subject().empty())
            failure.subject(name);
        throw;
    }
}

// Reads a layer or blob and verifies its size and digest; throws at the latest at the end if they differ.
class verified_layer final : public layer_reader
{
public:
    OVERMOUNT_LAZY
    explicit verified_layer(const offered_layer& layer) : verified_layer(layer.diff.value(), layer.size, layer.open())
    {
    }
    explicit verified_layer(const kept_blob& blob) : verified_layer(blob.id, blob.size, blob.open()) {}

    std::size_t read(std::span<std::byte> into) override
    {
        const std::size_t count = ended_ ? 0 : from_->read(into);
        if (count != 0) {
            sum_.update(into.first(count));
            done_ += count;
            if (done_ > size_)
                throw damaged("it has more bytes than its record says");
        } else if (!ended_) {
            ended_ = true;
            const digest found = sum_.finish();
            if (found != id_)
                throw damaged("the digest of its bytes is " + found.string());
            if (done_ != size_)
                throw damaged("it has fewer bytes than its record says");
        }
        return count;
    }

private:
    verified_layer(const digest& id, std::uint64_t size, std::unique_ptr<layer_reader> from)
        : id_(id), size_(size), from_(std::move(from)), sum_(id.algorithm())
    {
    }
    OVERMOUNT_LAZY [[nodiscard]] error damaged(const std::string& how) const
    {
        return error(errc::invalid_asset).at(stage::storage).layer(id_.string()).detail(how);
    }
    digest id_;
    std::uint64_t size_, done_ = 0;
    std::unique_ptr<layer_reader> from_;
    hasher sum_;
    bool ended_ = false;
};

// Writes a layer, compressed or not, to a new file, or appends it to an unnamed file of several layers. Shared by the coroutine
// and the worker threads.
class layer_encode
{
public:
    using pointer = std::shared_ptr<layer_encode>;

    enum class file
    {
        draft,
        unnamed, // has no name from the start: nothing remains of it, whatever happens
    };

    // \param append_to the unnamed file with the previous layers, if there are any
    layer_encode(const offered_layer& layer, const layer_encoding& how, std::shared_ptr<const unique_fd> directory,
                 file what, std::shared_ptr<draft_file> append_to = nullptr)
        : layer_(layer), how_(how), what_(what), encoder_(how), directory_(std::move(directory)),
          sum_(digest_algorithm::sha256), draft_(std::move(append_to))
    {
    }

    OVERMOUNT_LAZY static asio::awaitable<void> run(pointer self, worker_pool pool)
    {
        self->max_blocks_ = pool.workers();
        auto begin = [self](const stop_flag& stop) { self->begin(stop); };
        co_await run_on(pool, std::move(begin));
        while (!self->blocks_.empty()) {
            auto group = new_shared<task_group>(co_await asio::this_coro::executor);
            for (std::size_t i = 0; i < self->blocks_.size(); ++i)
                group->add(encode_one(self, pool, i));
            co_await task_group::join(std::move(group));
            auto next = [self](const stop_flag& stop) { self->write_blocks(stop); };
            co_await run_on(pool, std::move(next));
        }
        auto end = [self](const stop_flag&) { self->end(); };
        co_await run_on(pool, std::move(end));
    }

    // Valid after `run` has completed.
    [[nodiscard]] const digest& id() const { return *id_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
    [[nodiscard]] const std::shared_ptr<draft_file>& draft() const noexcept { return draft_; }

private:
    struct block
    {
        std::string plain;
        encoded_block encoded;
    };

    OVERMOUNT_LAZY static asio::awaitable<void> encode_one(pointer self, worker_pool pool, std::size_t index)
    {
        auto work = [self, index](const stop_flag&) {
            block& mine = self->blocks_[index];
            mine.encoded = self->encoder_.encode(std::as_bytes(std::span(mine.plain)));
        };
        co_await run_on(std::move(pool), std::move(work));
    }

    OVERMOUNT_LAZY void begin(const stop_flag& stop)
    {
        if (!draft_)
            draft_ = new_shared<draft_file>(directory_);
        if (what_ == file::unnamed)
            draft_->drop_name();
        reader_ = std::make_unique<verified_layer>(layer_);
        if (how_.kind() == compression::none)
            return copy(stop);
        put(encoder_.begin());
        fill(stop);
    }

    OVERMOUNT_LAZY void copy(const stop_flag& stop)
    {
        constexpr std::size_t room = 256 << 10;
        const auto buffer = std::make_unique_for_overwrite<std::byte[]>(room);
        while (const std::size_t count = reader_->read({buffer.get(), room})) {
            stop.throw_if_stopped();
            draft_->write(std::span<const std::byte>(buffer.get(), count));
            size_ += count;
        }
        id_ = layer_.diff.value();
    }

    // Reads as many blocks as there are workers.
    OVERMOUNT_LAZY void fill(const stop_flag& stop)
    {
        blocks_.clear();
        for (bool more = true; more && blocks_.size() < max_blocks_;) {
            std::string plain(encoder_.block_size(), '\0');
            std::size_t filled = 0;
            while (filled < plain.size()) {
                stop.throw_if_stopped();
                const std::size_t count = reader_->read(std::as_writable_bytes(std::span(plain)).subspan(filled));
                filled += count;
                if (count == 0)
                    break;
            }
            more = filled == plain.size();
            plain.resize(filled);
            if (filled != 0)
                blocks_.push_back({std::move(plain), {}});
        }
    }

    OVERMOUNT_LAZY void write_blocks(const stop_flag& stop)
    {
        for (const block& one : blocks_) {
            encoder_.note(one.encoded);
            put(one.encoded.bytes);
        }
        fill(stop);
    }

    OVERMOUNT_LAZY void end()
    {
        if (id_)
            return;
        put(encoder_.end());
        id_ = sum_.finish();
    }

    OVERMOUNT_LAZY void put(const std::string& bytes)
    {
        sum_.update(std::as_bytes(std::span(bytes)));
        draft_->write(bytes);
        size_ += bytes.size();
    }

    offered_layer layer_;
    layer_encoding how_;
    file what_;
    block_encoder encoder_;
    std::shared_ptr<const unique_fd> directory_;
    hasher sum_;
    std::shared_ptr<draft_file> draft_;
    std::unique_ptr<layer_reader> reader_;
    std::vector<block> blocks_;
    std::size_t max_blocks_ = 1;
    std::optional<digest> id_;
    std::uint64_t size_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

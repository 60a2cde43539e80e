#ifndef OVERMOUNT_UNPACK_PIPELINE_HPP
#define OVERMOUNT_UNPACK_PIPELINE_HPP

#include <overmount/detail/file_range.hpp>
#include <overmount/detail/new_shared.hpp>
#include <overmount/unpack/decoder.hpp>
#include <overmount/unpack/write_step.hpp>

#include <algorithm>
#include <memory>
#include <optional>

namespace overmount::inline OVERMOUNT_ABI::detail {

// A blob in a file, read by offset.
class file_input
{
public:
    explicit file_input(file_range bytes) : bytes_(std::move(bytes)) {}
    void wakes(const std::weak_ptr<step>&) noexcept {} // it never lacks anything
    // As `file_range::read`, one piece after the other; never nothing.
    OVERMOUNT_LAZY [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into)
    {
        const std::size_t count = bytes_.read(position_, into);
        position_ += count;
        return count;
    }

private:
    file_range bytes_;
    std::uint64_t position_ = 0;
};

// First part of the pipeline: reads the blob, hashes it, decodes it into the ring. What goes wrong here
// reaches the write step behind the bytes that came before, so that the error does not depend on which worker
// was quicker.
//
// An input's `read` gives the number of bytes read, 0 at the end, and nothing where it has to be asked again after a
// `notify` of the step that `wakes` was told.
template <class Input>
class decode_step final : public step
{
public:
    decode_step(std::shared_ptr<layer_flow> work, Input input, std::shared_ptr<step> next)
        : work_(std::move(work)), input_(std::move(input)), next_(std::move(next))
    {}

    [[nodiscard]] Input& input() noexcept { return input_; }

private:
    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        auto state = step_state::done;
        try {
            state = run();
            if (state == step_state::done)
                work_->tar.close();
        } catch (...) {
            work_->tar.close(std::current_exception());
        }
        if (state != step_state::wait)
            next_->notify();
        return state;
    }

    // At most one buffer of the ring, or one piece of input.
    step_state run()
    {
        auto room = work_->tar.back();
        if (room.empty())
            return step_state::wait;
        if (decoder_ && decoder_->passthrough())
            return copy(room);
        if (rest_.empty() && !full_) {
            if (const auto state = read_piece(); state != step_state::again || !decoder_)
                return state;
            if (decoder_->passthrough()) { // the first piece only; the others are read into the ring
                std::ranges::copy(rest_, room.begin());
                push(rest_.size());
                return step_state::again;
            }
        }
        const auto made = decoder_->step(rest_, room.subspan(filled_));
        rest_ = rest_.subspan(made.consumed);
        filled_ += made.produced;
        full_ = filled_ == room.size();
        if (full_)
            push(std::exchange(filled_, 0));
        return step_state::again;
    }

    step_state copy(std::span<std::byte> room)
    {
        const auto count = input_.read(room);
        if (!count)
            return step_state::wait;
        if (*count == 0)
            return finish();
        account(room.first(*count));
        push(*count);
        return step_state::again;
    }

    // The first piece has as many bytes as tell the compression, or is all there is.
    step_state read_piece()
    {
        constexpr std::size_t magic_size = 6;
        const auto count = input_.read({piece_.get() + head_, piece_size - head_});
        if (!count)
            return step_state::wait;
        const std::span<const std::byte> piece(piece_.get(), head_ + *count);
        if (!decoder_ && *count != 0 && piece.size() < magic_size) {
            head_ = piece.size();
            return step_state::again;
        }
        head_ = 0;
        if (!decoder_)
            begin(piece);
        if (piece.empty())
            return finish();
        account(piece);
        rest_ = piece;
        return step_state::again;
    }

    void begin(std::span<const std::byte> head)
    {
        const layer_facts& facts = work_->facts;
        const compression kind = detect_compression(head);
        if (facts.promised && *facts.promised != kind)
            throw error(errc::unsupported_media_type)
                .at(stage::decode)
                .detail("it promises " + std::string(to_string(*facts.promised)) + ", the bytes are " +
                        std::string(to_string(kind)));
        work_->kind = kind;
        decoder_.emplace(kind, work_->bounds);
        // An uncompressed blob has one digest, not two, where the algorithm is the same.
        if (facts.blob && (kind != compression::none || facts.blob->algorithm() != facts.algorithm()))
            blob_.emplace(facts.blob->algorithm());
    }

    step_state finish()
    {
        if (!decoder_->passthrough())
            decoder_->finish();
        if (filled_ != 0)
            push(filled_);
        if (blob_)
            work_->blob = blob_->finish();
        return step_state::done;
    }

    void account(std::span<const std::byte> piece)
    {
        if (blob_)
            blob_->update(piece);
        read_ += piece.size();
        work_->progress(read_);
    }

    void push(std::size_t size)
    {
        produced_ += size;
        if (produced_ > work_->bounds.stream_bytes)
            throw error(errc::layer_too_large).at(stage::decode);
        work_->tar.push(size);
    }

    static constexpr std::size_t piece_size = 128 << 10; // less than a buffer of the ring

    std::shared_ptr<layer_flow> work_;
    Input input_;
    std::shared_ptr<step> next_;
    std::unique_ptr<std::byte[]> piece_ = std::make_unique_for_overwrite<std::byte[]>(piece_size);
    std::size_t head_ = 0;            // of the first piece, while it is too short
    std::span<const std::byte> rest_; // of the piece
    std::optional<decoder> decoder_;
    std::optional<hasher> blob_;
    std::size_t filled_ = 0; // of the ring's next buffer
    bool full_ = false;      // the decoder may have more without any input
    std::uint64_t read_ = 0, produced_ = 0;
};

// Between the two: hashes the tar. A step of its own, so that whichever worker is free does it: the one that decodes
// where writing is slower, the one that writes where decoding is.
class hash_step final : public step
{
public:
    hash_step(std::shared_ptr<layer_flow> work, std::shared_ptr<step> next)
        : work_(std::move(work)), next_(std::move(next))
    {}

private:
    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        constexpr auto me = layer_flow::hashing;
        const auto bytes = work_->tar.front(me);
        if (bytes.empty()) {
            if (!work_->tar.at_end(me))
                return step_state::wait;
            next_->notify(); // what ended the tar is told by the write step, behind the bytes
            return step_state::done;
        }
        work_->diff_hash.update(bytes);
        work_->tar.pop(me);
        next_->notify();
        return step_state::again;
    }

    std::shared_ptr<layer_flow> work_;
    std::shared_ptr<step> next_;
};

template <class Input, diff_writer Writer>
[[nodiscard]] std::shared_ptr<step_group> layer_steps(std::shared_ptr<layer_work<Writer>> work, Input input)
{
    auto group = new_shared<step_group>();
    auto last = new_shared<rest_step<Writer>>(work);
    auto third = new_shared<write_step<Writer>>(work, last);
    auto second = new_shared<hash_step>(work, third);
    auto first = new_shared<decode_step<Input>>(work, std::move(input), second);
    work->is_written_by(first.get(), third.get());
    first->input().wakes(first);
    group->add(std::move(first));
    group->add(std::move(second));
    group->add(std::move(third));
    group->add(std::move(last));
    return group;
}

// Unpacks one layer: decoding runs ahead of writing where the pool has a worker to spare. Throws what a step
// threw; no worker is in the writer any more when this returns.
template <class Input, diff_writer Writer>
asio::awaitable<void> unpack_layer(worker_pool pool, std::shared_ptr<layer_work<Writer>> work, Input input)
{
    return run_steps(std::move(pool), layer_steps(std::move(work), std::move(input)));
}

// The same by the calling worker alone, for a small layer. The input never lacks bytes.
template <class Input, diff_writer Writer>
void unpack_layer_here(std::shared_ptr<layer_work<Writer>> work, Input input, const stop_flag& stop)
{
    layer_steps(std::move(work), std::move(input))->run_here(stop);
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

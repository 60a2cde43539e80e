#ifndef OVERMOUNT_UNPACK_IMPL_READ_STEPS_IPP
#define OVERMOUNT_UNPACK_IMPL_READ_STEPS_IPP

#include <overmount/codec/decoder.hpp>
#include <overmount/core/error.hpp>
#include <overmount/core/hasher.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/unpack/read_steps.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// First part of the pipeline: reads the blob, hands it to be hashed, decodes it into the ring. What goes wrong here
// reaches the write step behind the bytes that came before, so that the error does not depend on which worker
// was quicker.
class decode_step final : public step
{
public:
    // `hashing` takes the pieces of the blob, `next` the tar.
    decode_step(std::shared_ptr<layer_flow> work, std::unique_ptr<layer_input> input, std::shared_ptr<step> hashing, std::shared_ptr<step> next)
        : work_(std::move(work)), input_(std::move(input)), hashing_(std::move(hashing)), next_(std::move(next))
    {}

    [[nodiscard]] layer_input& input() noexcept { return *input_; }

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
        if (state == step_state::done) {
            work_->blob_pieces.close();
            hashing_->notify();
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
        const auto count = input_->read(room);
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
        const auto buffer = work_->blob_pieces.back();
        const auto count = buffer.empty() ? std::nullopt : input_->read(buffer.subspan(head_));
        if (!count)
            return step_state::wait;
        const auto piece = std::span<const std::byte>(buffer).first(head_ + *count);
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
        if (hands_on_) {
            work_->blob_pieces.push(piece.size()); // it comes back to be filled when two more have been
            hashing_->notify();
        }
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
        hands_on_ = facts.blob && !decoder_->passthrough();
        // An uncompressed blob has one digest, not two, where the algorithm is the same.
        if (facts.blob && decoder_->passthrough() && facts.blob->algorithm() != facts.algorithm())
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

    std::shared_ptr<layer_flow> work_;
    std::unique_ptr<layer_input> input_;
    std::shared_ptr<step> hashing_, next_;
    std::size_t head_ = 0;            // of the first piece, while it is too short
    std::span<const std::byte> rest_; // of the piece
    std::optional<decoder> decoder_;
    bool hands_on_ = false;           // pieces, to be hashed
    std::optional<hasher> blob_;      // else, where it is to be hashed
    std::size_t filled_ = 0; // of the ring's next buffer
    bool full_ = false;      // the decoder may have more without any input
    std::uint64_t read_ = 0, produced_ = 0;
};

// Hashes the compressed blob, beside the decoding: a step of its own for the same reason as the next one is.
class blob_step final : public step
{
public:
    explicit blob_step(std::shared_ptr<layer_flow> work) : work_(std::move(work)) {}

private:
    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        auto& pieces = work_->blob_pieces;
        if (const auto bytes = pieces.front(); !bytes.empty()) {
            if (!hash_)
                hash_.emplace(work_->facts.blob->algorithm());
            hash_->update(bytes);
            pieces.pop();
            work_->wake_decoder();
            return step_state::again;
        }
        if (!pieces.at_end())
            return step_state::wait;
        if (hash_)
            work_->blob = hash_->finish();
        work_->blob_is_known = true;
        work_->wake_writer();
        return step_state::done;
    }

    std::shared_ptr<layer_flow> work_;
    std::optional<hasher> hash_;
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

OVERMOUNT_LAZY_BODY void add_read_steps(step_group& group, std::shared_ptr<layer_flow> work, std::unique_ptr<layer_input> input,
                                        std::shared_ptr<step> writing)
{
    auto hashing = new_shared<hash_step>(work, writing);
    auto beside = new_shared<blob_step>(work);
    auto first = new_shared<decode_step>(work, std::move(input), beside, hashing);
    work->is_done_by(first.get(), writing.get());
    first->input().set_reader(first);
    group.add(std::move(first));
    group.add(std::move(beside));
    group.add(std::move(hashing));
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

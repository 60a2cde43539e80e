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

namespace overmount::OVERMOUNT_ABI::detail {

// First stage of the pipeline: reads the blob, passes it to the blob step for hashing, and decodes it into the ring. The write step
// gets a failure after all bytes that preceded it, so that the reported error does not depend on which worker was faster.
class decode_step final : public step
{
public:
    // `hashing` is the step that gets the pieces of the blob; `next` is the step that gets the tar.
    decode_step(std::shared_ptr<layer_flow> work, std::unique_ptr<layer_input> input, std::shared_ptr<step> hashing, std::shared_ptr<step> next)
        : work_(std::move(work)), input_(std::move(input)), blob_step_(std::move(hashing)), next_(std::move(next))
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
            blob_step_->notify();
        }
        if (state != step_state::wait)
            next_->notify();
        return state;
    }

    // Produces at most one buffer of the ring, or reads one piece of input.
    step_state run()
    {
        auto room = work_->tar.back();
        if (room.empty())
            return step_state::wait;
        if (decoder_ && decoder_->passthrough())
            return copy(room);
        if (undecoded_.empty() && !full_) {
            if (const auto state = read_piece(); state != step_state::again || !decoder_)
                return state;
            if (decoder_->passthrough()) { // only the first piece; later ones are read directly into the ring
                std::ranges::copy(undecoded_, room.begin());
                push(undecoded_.size());
                return step_state::again;
            }
        }
        const auto made = decoder_->step(undecoded_, room.subspan(filled_));
        undecoded_ = undecoded_.subspan(made.consumed);
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

    // The first piece has enough bytes to detect the compression, or is the whole blob.
    step_state read_piece()
    {
        constexpr std::size_t magic_size = 6;
        const auto buffer = work_->blob_pieces.back();
        const auto count = buffer.empty() ? std::nullopt : input_->read(buffer.subspan(head_size_));
        if (!count)
            return step_state::wait;
        const auto piece = std::span<const std::byte>(buffer).first(head_size_ + *count);
        if (!decoder_ && *count != 0 && piece.size() < magic_size) {
            head_size_ = piece.size();
            return step_state::again;
        }
        head_size_ = 0;
        if (!decoder_)
            begin(piece);
        if (piece.empty())
            return finish();
        account(piece);
        undecoded_ = piece;
        if (hashes_blob_) {
            work_->blob_pieces.push(piece.size()); // its buffer is reused after two more pieces
            blob_step_->notify();
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
                .detail("the media type says " + std::string(to_string(*facts.promised)) + ", but the bytes are " +
                        std::string(to_string(kind)));
        work_->kind = kind;
        decoder_.emplace(kind, work_->bounds);
        hashes_blob_ = facts.blob && !decoder_->passthrough();
        // An uncompressed blob is its tar: a separate digest is only needed for another algorithm.
        if (facts.blob && decoder_->passthrough() && facts.blob->algorithm() != facts.algorithm())
            blob_.emplace(facts.blob->algorithm());
    }

    step_state finish()
    {
        if (!decoder_->passthrough())
            decoder_->finish();
        if (filled_ != 0)
            push(filled_);
        report();
        if (blob_)
            work_->blob = blob_->finish();
        return step_state::done;
    }

    void account(std::span<const std::byte> piece)
    {
        if (blob_)
            blob_->update(piece);
        if (read_ != 0) // what came before is decoded by now
            report();
        read_ += piece.size();
    }

    void report()
    {
        const std::uint64_t piece = read_ - std::exchange(reported_, read_);
        work_->progress(read_, piece, produced_);
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
    std::shared_ptr<step> blob_step_, next_;
    std::size_t head_size_ = 0;            // bytes of the first piece, while it is too short to detect the compression
    std::span<const std::byte> undecoded_; // part of the current piece
    std::optional<decoder> decoder_;
    bool hashes_blob_ = false;   // whether the blob step hashes the pieces
    std::optional<hasher> blob_; // otherwise, hashes the blob here if it needs a digest of its own
    std::size_t filled_ = 0;     // bytes in the ring's next buffer
    bool full_ = false;          // the decoder filled a buffer and may produce more without input
    std::uint64_t read_ = 0, reported_ = 0, produced_ = 0;
};

// Hashes the compressed blob, concurrently with decoding. It is a separate step for the same reason as hash_step.
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
            work_->notify_decode_step();
            return step_state::again;
        }
        if (!pieces.at_end())
            return step_state::wait;
        if (hash_)
            work_->blob = hash_->finish();
        work_->blob_step_done = true;
        work_->notify_write_step();
        return step_state::done;
    }

    std::shared_ptr<layer_flow> work_;
    std::optional<hasher> hash_;
};

// Second stage: hashes the tar. It is a separate step so that any free worker can run it: the worker that decodes if writing is
// slower, or the worker that writes if decoding is slower.
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
        constexpr auto reader = layer_flow::hashing;
        const auto bytes = work_->tar.front(reader);
        if (bytes.empty()) {
            if (!work_->tar.at_end(reader))
                return step_state::wait;
            next_->notify(); // the write step reports a failure of the tar, after all bytes
            return step_state::done;
        }
        work_->diff_hash.update(bytes);
        work_->tar.pop(reader);
        next_->notify();
        return step_state::again;
    }

    std::shared_ptr<layer_flow> work_;
    std::shared_ptr<step> next_;
};

OVERMOUNT_DECL void add_read_steps(step_group& group, std::shared_ptr<layer_flow> work, std::unique_ptr<layer_input> input,
                                        std::shared_ptr<step> writing)
{
    auto hashing = new_shared<hash_step>(work, writing);
    auto blob_hashing = new_shared<blob_step>(work);
    auto decoding = new_shared<decode_step>(work, std::move(input), blob_hashing, hashing);
    work->set_steps(decoding.get(), writing.get());
    decoding->input().set_reader(decoding);
    group.add(std::move(decoding));
    group.add(std::move(blob_hashing));
    group.add(std::move(hashing));
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_UNPACK_LAYER_FLOW_HPP
#define OVERMOUNT_UNPACK_LAYER_FLOW_HPP

#include <overmount/core/compression.hpp>
#include <overmount/core/digest.hpp>
#include <overmount/core/hasher.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/runtime/ring.hpp>
#include <overmount/runtime/step.hpp>
#include <overmount/storage/diff_record.hpp>

#include <atomic>
#include <functional>
#include <optional>

namespace overmount::inline OVERMOUNT_ABI::detail {

// What is known of a layer before it is read; all of it is checked.
struct layer_facts
{
    std::optional<diff_id> diff;
    std::optional<digest> blob;
    std::optional<compression> promised;

    // Of the diff ID to come.
    [[nodiscard]] digest_algorithm algorithm() const noexcept
    {
        return diff ? diff->value().algorithm() : digest_algorithm::sha256;
    }
};

// A layer on its way, whoever writes it: what is not the storage's is compiled once.
struct layer_flow
{
    // Who reads the tar, in this order.
    static constexpr std::size_t hashing = 1, writing = 2, finishing = 3;

    OVERMOUNT_LAZY layer_flow(layer_facts known, const limits& within)
        : facts(std::move(known)), bounds(within), diff_hash(facts.algorithm())
    {}

    // The steps that others wake. They outlive no run of the others: one group owns all.
    void is_done_by(step* decoding, step* writing_it) noexcept
    {
        decoding_ = decoding;
        writing_ = writing_it;
    }
    void wake_decoder() noexcept { decoding_->notify(); }
    void wake_writer() noexcept { writing_->notify(); }

    // Called on a worker with the number of bytes read so far, after each piece.
    std::function<void(std::uint64_t)> progress = [](std::uint64_t) {};
    const layer_facts facts;
    const limits bounds;
    ring blob_pieces{1, 3, 128 << 10}; // from the decode step, which has them already, to the blob step
    ring tar{3};                       // from the decode step to the hash step, the write step and the rest step
    hasher diff_hash; // the hash step's; the write step's at the end of the tar
    // Of the blob, where it is not the tar itself.
    std::optional<digest> blob;
    std::atomic<bool> blob_is_known = false; // or there is none to know
    // The result, when all steps are done:
    std::optional<compression> kind;
    std::optional<diff_id> diff;
    std::optional<diff_record> record;
    std::uint64_t bytes = 0; // of the tar

private:
    step *decoding_ = nullptr, *writing_ = nullptr;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

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

namespace overmount::OVERMOUNT_ABI::detail {

// What is known about a layer before it is read. All of it is verified.
struct layer_facts
{
    std::optional<diff_id> diff;
    std::optional<digest> blob;
    std::optional<compression> promised;

    // The algorithm of the diff ID to compute.
    [[nodiscard]] digest_algorithm algorithm() const noexcept
    {
        return diff ? diff->value().algorithm() : digest_algorithm::sha256;
    }
};

// Pipeline state of one layer that does not depend on the storage policy, so that it is compiled once.
struct layer_flow
{
    // The readers of `tar`, in the order of the ring.
    static constexpr std::size_t hashing = 1, writing = 2, finishing = 3;

    layer_flow(layer_facts known, const limits& within)
        : facts(std::move(known)), bounds(within), diff_hash(facts.algorithm())
    {}

    // Sets the steps that other steps notify. The pointers stay valid while any step runs: one group owns all steps.
    void set_steps(step* decode, step* write) noexcept
    {
        decode_step_ = decode;
        write_step_ = write;
    }
    void notify_decode_step() noexcept { decode_step_->notify(); }
    void notify_write_step() noexcept { write_step_->notify(); }

    // Called on a worker after each piece was decoded, with the bytes of the blob that were read so far, those of them that are new, and
    // the bytes of the tar that were decoded so far.
    std::function<void(std::uint64_t, std::uint64_t, std::uint64_t)> progress = [](std::uint64_t, std::uint64_t, std::uint64_t) {};
    const layer_facts facts;
    const limits bounds;
    ring blob_pieces{1, 3, 128 << 10}; // from the decode step, which reads and decodes them, to the blob step
    ring tar{3};                       // from the decode step to the hash step, the write step and the deferred step
    hasher diff_hash; // used by the hash step, and by the write step at the end of the tar
    // The digest of the blob, if it has to be computed separately from the digest of the tar.
    std::optional<digest> blob;
    std::atomic<bool> blob_step_done = false; // `blob` has its final value
    // The results, valid when all steps are done:
    std::optional<compression> kind;
    std::optional<diff_id> diff;
    std::optional<diff_record> record;
    std::uint64_t bytes = 0; // size of the tar

private:
    step *decode_step_ = nullptr, *write_step_ = nullptr;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

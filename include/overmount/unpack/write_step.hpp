#ifndef OVERMOUNT_UNPACK_WRITE_STEP_HPP
#define OVERMOUNT_UNPACK_WRITE_STEP_HPP

#include <overmount/core/error.hpp>
#include <overmount/runtime/step.hpp>
#include <overmount/storage/storage_policy.hpp>
#include <overmount/unpack/layer_flow.hpp>
#include <overmount/unpack/deferred_queue.hpp>

#include <exception>
#include <memory>
#include <span>
#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

// Deferred work of a writer that defers nothing.
struct no_deferred
{
};

template <class Writer>
struct deferred_of
{
    using type = no_deferred;
};
template <spreading_writer Writer>
struct deferred_of<Writer>
{
    using type = typename Writer::deferred;
};

// Pipeline state of one layer with its storage's writer. The steps share it with the coroutine that waits for them.
template <diff_writer Writer>
struct layer_work : layer_flow
{
    using deferred_files = typename deferred_of<Writer>::type;

    layer_work(Writer opened, layer_facts known, const limits& within)
        : layer_flow(std::move(known), within), writer(std::move(opened))
    {}

    // Returns the oldest buffer to the decode step. Called by the last step that needs it.
    void release_buffer()
    {
        tar.pop(finishing);
        if (tar.has_room())
            notify_decode_step();
    }

    Writer writer;
    deferred_queue<deferred_files> deferred;
};

// Third stage: passes the tar to the storage's writer and, at the end, verifies the expected digests. While another worker is idle, it
// defers the work that the writer allows to the deferred step; without an idle worker, deferring would gain nothing.
template <diff_writer Writer>
class write_step final : public step
{
public:
    write_step(std::shared_ptr<layer_work<Writer>> work, std::shared_ptr<step> next)
        : work_(std::move(work)), deferred_step_(std::move(next))
    {}

private:
    static constexpr auto reader = layer_flow::writing;

    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        if (!failure_) {
            try {
                return run();
            } catch (...) {
                failure_ = std::current_exception();
            }
        }
        // Deferred work belongs to earlier entries: if it fails as well, its failure is the one to report.
        if (!work_->deferred.empty_or_wait() && !work_->deferred.failed())
            return step_state::wait;
        work_->deferred.throw_if_failed();
        std::rethrow_exception(failure_);
    }

    // Processes at most one buffer.
    step_state run()
    {
        work_->deferred.throw_if_failed();
        if (!in_buffer_) {
            left_ = work_->tar.front(reader);
            if (left_.empty())
                return work_->tar.finished(reader) ? finish() : wait();
            work_->bytes += left_.size();
            in_buffer_ = true;
        }
        if constexpr (spreading_writer<Writer>) {
            if (!work_->deferred.is_empty() || defers())
                return write_part();
        }
        work_->writer.write(left_);
        in_buffer_ = false;
        work_->tar.pop(reader);
        work_->release_buffer();
        return step_state::again;
    }

    // Waits for input, which may take long: releases the descriptor budget.
    step_state wait() noexcept
    {
        if (work_->deferred.is_empty())
            work_->deferred.release_budget();
        return step_state::wait;
    }

    [[nodiscard]] bool defers()
    {
        if (has_idle_worker())
            return work_->deferred.take_budget();
        work_->deferred.release_budget();
        return false;
    }

    step_state write_part()
    {
        auto* part = work_->deferred.back_or_wait();
        if (part == nullptr)
            return step_state::wait;
        std::exception_ptr failure;
        try {
            part->ends_buffer = work_->writer.write_part(left_, part->work);
        } catch (...) {
            failure = std::current_exception();
        }
        if (part->ends_buffer) {
            in_buffer_ = false;
            work_->tar.pop(reader);
        }
        work_->deferred.push(); // also after a failure: the part holds the work before it
        deferred_step_->notify();
        if (failure)
            std::rethrow_exception(failure);
        return step_state::again;
    }

    step_state finish()
    {
        if (!work_->deferred.empty_or_wait() || !work_->blob_step_done)
            return step_state::wait;
        work_->deferred.throw_if_failed();
        work_->deferred.release_budget();
        const layer_facts& facts = work_->facts;
        const digest found = work_->diff_hash.finish();
        if (facts.blob && work_->blob.value_or(found) != *facts.blob)
            throw error(errc::digest_mismatch).at(stage::decode);
        if (facts.diff && found != facts.diff->value())
            throw error(errc::diff_id_mismatch).at(stage::decode).detail("the tar has the digest " + found.string());
        work_->record = work_->writer.finish();
        work_->diff = diff_id(found);
        work_->deferred.close();
        deferred_step_->notify();
        return step_state::done;
    }

    std::shared_ptr<layer_work<Writer>> work_;
    std::shared_ptr<step> deferred_step_;
    bool in_buffer_ = false;
    std::span<const std::byte> left_; // unprocessed bytes of the current buffer
    std::exception_ptr failure_;
};

// Last stage: runs the work that the write step deferred.
template <diff_writer Writer>
class deferred_step final : public step
{
public:
    explicit deferred_step(std::shared_ptr<layer_work<Writer>> work) : work_(std::move(work)) {}

private:
    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        auto& deferred = work_->deferred;
        if constexpr (spreading_writer<Writer>) {
            if (auto* part = deferred.front(); part != nullptr && !deferred.failed())
                return run(*part);
        }
        return deferred.closed() ? step_state::done : step_state::wait;
    }

    template <class Part>
    step_state run(Part& part)
    {
        try {
            part.work.run();
        } catch (...) {
            work_->deferred.fail(std::current_exception());
            work_->notify_write_step();
            return step_state::wait;
        }
        if (std::exchange(part.ends_buffer, false))
            work_->release_buffer();
        if (work_->deferred.pop())
            work_->notify_write_step();
        return step_state::again;
    }

    std::shared_ptr<layer_work<Writer>> work_;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_UNPACK_WRITE_STEP_HPP
#define OVERMOUNT_UNPACK_WRITE_STEP_HPP

#include <overmount/core/error.hpp>
#include <overmount/runtime/step.hpp>
#include <overmount/storage/storage_policy.hpp>
#include <overmount/unpack/layer_flow.hpp>
#include <overmount/unpack/rest_queue.hpp>

#include <exception>
#include <memory>
#include <span>
#include <utility>

namespace overmount::inline OVERMOUNT_ABI::detail {

// Of a writer that leaves nothing.
struct no_rest
{
};

template <class Writer>
struct rest_of
{
    using type = no_rest;
};
template <spreading_writer Writer>
struct rest_of<Writer>
{
    using type = typename Writer::rest;
};

// A layer on its way into a storage, shared by the steps and by the coroutine that waits for them.
template <diff_writer Writer>
struct layer_work : layer_flow
{
    using rest = typename rest_of<Writer>::type;

    layer_work(Writer opened, layer_facts known, const limits& within)
        : layer_flow(std::move(known), within), writer(std::move(opened))
    {}

    // By whoever is the last to need the buffer at hand.
    void give_back_buffer()
    {
        tar.pop(finishing);
        if (tar.has_room())
            wake_decoder();
    }

    Writer writer;
    rest_queue<rest> rests;
};

// Third part: hands the tar to the storage's writer; compares what was promised at the end. What the writer can leave to do
// goes to the next step where a worker is idle; where none is, handing it on would win nothing.
template <diff_writer Writer>
class write_step final : public step
{
public:
    write_step(std::shared_ptr<layer_work<Writer>> work, std::shared_ptr<step> next)
        : work_(std::move(work)), next_(std::move(next))
    {}

private:
    static constexpr auto me = layer_flow::writing;

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
        // What was handed on belongs to earlier entries: where it fails, that came first.
        if (!work_->rests.empty_or_wait() && !work_->rests.failed())
            return step_state::wait;
        work_->rests.check();
        std::rethrow_exception(failure_);
    }

    // At most one buffer.
    step_state run()
    {
        work_->rests.check();
        if (!in_buffer_) {
            left_ = work_->tar.front(me);
            if (left_.empty())
                return work_->tar.finished(me) ? finish() : wait();
            work_->bytes += left_.size();
            in_buffer_ = true;
        }
        if constexpr (spreading_writer<Writer>) {
            if (!work_->rests.is_empty() || spreads())
                return write_part();
        }
        work_->writer.write(left_);
        in_buffer_ = false;
        work_->tar.pop(me);
        work_->give_back_buffer();
        return step_state::again;
    }

    // For bytes, which may take their time.
    step_state wait() noexcept
    {
        if (work_->rests.is_empty())
            work_->rests.give_way();
        return step_state::wait;
    }

    [[nodiscard]] bool spreads()
    {
        if (has_help())
            return work_->rests.take_turn();
        work_->rests.give_way();
        return false;
    }

    step_state write_part()
    {
        auto* part = work_->rests.back_or_wait();
        if (part == nullptr)
            return step_state::wait;
        std::exception_ptr failure;
        try {
            part->ends_buffer = work_->writer.write_part(left_, part->rest);
        } catch (...) {
            failure = std::current_exception();
        }
        if (part->ends_buffer) {
            in_buffer_ = false;
            work_->tar.pop(me);
        }
        work_->rests.push(); // with what came before a failure
        next_->notify();
        if (failure)
            std::rethrow_exception(failure);
        return step_state::again;
    }

    step_state finish()
    {
        if (!work_->rests.empty_or_wait() || !work_->blob_is_known)
            return step_state::wait;
        work_->rests.check();
        work_->rests.give_way();
        const layer_facts& facts = work_->facts;
        const digest found = work_->diff_hash.finish();
        if (facts.blob && work_->blob.value_or(found) != *facts.blob)
            throw error(errc::digest_mismatch).at(stage::decode);
        if (facts.diff && found != facts.diff->value())
            throw error(errc::diff_id_mismatch).at(stage::decode).detail("the tar has " + found.string());
        work_->record = work_->writer.finish();
        work_->diff = diff_id(found);
        work_->rests.close();
        next_->notify();
        return step_state::done;
    }

    std::shared_ptr<layer_work<Writer>> work_;
    std::shared_ptr<step> next_;
    bool in_buffer_ = false;
    std::span<const std::byte> left_; // of the buffer at hand
    std::exception_ptr failure_;
};

// Last part: does what the writer handed on.
template <diff_writer Writer>
class rest_step final : public step
{
public:
    explicit rest_step(std::shared_ptr<layer_work<Writer>> work) : work_(std::move(work)) {}

private:
    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        auto& rests = work_->rests;
        if constexpr (spreading_writer<Writer>) {
            if (auto* part = rests.front(); part != nullptr && !rests.failed())
                return run(*part);
        }
        return rests.closed() ? step_state::done : step_state::wait;
    }

    template <class Part>
    step_state run(Part& part)
    {
        try {
            part.rest.run();
        } catch (...) {
            work_->rests.fail(std::current_exception());
            work_->wake_writer();
            return step_state::wait;
        }
        if (std::exchange(part.ends_buffer, false))
            work_->give_back_buffer();
        if (work_->rests.pop())
            work_->wake_writer();
        return step_state::again;
    }

    std::shared_ptr<layer_work<Writer>> work_;
};

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_IO_IMPL_BYTE_SINK_IPP
#define OVERMOUNT_IO_IMPL_BYTE_SINK_IPP

#include <overmount/io/byte_sink.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/runtime/run_on.hpp>

namespace overmount::OVERMOUNT_ABI {

// A template, because otherwise every program would compile its virtual function.
template <class File>
class byte_sink::file_target final : public target
{
public:
    explicit file_target(File owned) : file_(std::move(owned)) {}
    boost::asio::awaitable<void> write(std::shared_ptr<target> self, worker_pool pool,
                                       boost::asio::const_buffer bytes) override
    {
        auto work = [self = std::static_pointer_cast<file_target>(std::move(self)), bytes](const detail::stop_flag&) {
            try {
                detail::write_all(self->file_.get(), {static_cast<const std::byte*>(bytes.data()), bytes.size()});
            } catch (error& failure) {
                failure.at(stage::target);
                throw;
            }
        };
        return detail::run_on(std::move(pool), std::move(work));
    }

private:
    File file_;
};

OVERMOUNT_LAZY_BODY byte_sink::byte_sink(unique_fd file)
    : target_(detail::new_shared<file_target<unique_fd>>(std::move(file)))
{
}

} // namespace overmount::OVERMOUNT_ABI

#endif

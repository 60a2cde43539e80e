// A stream that does what a test wants, read by read.
#ifndef OVERMOUNT_TESTS_SUPPORT_SCRIPTED_STREAM_HPP
#define OVERMOUNT_TESTS_SUPPORT_SCRIPTED_STREAM_HPP

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/steady_timer.hpp>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

namespace overmount::test {

// An AsyncReadStream of `bytes`, `piece` of them a read, which then ends with `ending`.
class scripted_stream
{
public:
    using executor_type = boost::asio::any_io_executor;

    // What a stream does; shared with the test, which may change it and read it.
    struct script
    {
        explicit script(std::string content, std::size_t each = 4096) : bytes(std::move(content)), piece(each) {}
        std::string bytes;
        std::size_t piece;
        boost::system::error_code ending = boost::asio::error::eof;
        bool endless = false;                                  // the end never comes: it has to be cancelled
        std::function<void(std::size_t)> on_read = [](auto) {}; // gets the number of the read
        std::size_t given = 0, reads = 0;
    };

    scripted_stream(const executor_type& executor, std::shared_ptr<script> what)
        : timer_(executor), script_(std::move(what))
    {}

    [[nodiscard]] executor_type get_executor() { return timer_.get_executor(); }

    template <class Token>
    auto async_read_some(boost::asio::mutable_buffer into, Token&& token)
    {
        return boost::asio::async_compose<Token, void(boost::system::error_code, std::size_t)>(
            read{this, into}, token, timer_);
    }

private:
    struct read
    {
        scripted_stream* stream;
        boost::asio::mutable_buffer into;
        bool begun = false;

        template <class Self>
        void operator()(Self& self, boost::system::error_code failure = {})
        {
            script& what = *stream->script_;
            if (!std::exchange(begun, true)) {
                what.on_read(what.reads++);
                const bool never = what.endless && what.given == what.bytes.size();
                auto& timer = stream->timer_;
                timer.expires_at(never ? boost::asio::steady_timer::time_point::max()
                                       : boost::asio::steady_timer::time_point::min());
                timer.async_wait(std::move(self));
                return;
            }
            const std::size_t count = std::min({into.size(), what.piece, what.bytes.size() - what.given});
            if (failure || count == 0)
                return self.complete(failure ? failure : what.ending, 0);
            boost::asio::buffer_copy(into, boost::asio::buffer(what.bytes.data() + what.given, count));
            what.given += count;
            self.complete({}, count);
        }
    };

    boost::asio::steady_timer timer_;
    std::shared_ptr<script> script_;
};

} // namespace overmount::test

#endif

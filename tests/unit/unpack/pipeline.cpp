#include <overmount/runtime/task_group.hpp>
#include <overmount/unpack/pipeline.hpp>

#include "support/catch.hpp"
#include "support/run_coroutine.hpp"

#include <sys/mman.h>
#include <zlib.h>

#include <string>
#include <thread>
#include <vector>

namespace om = overmount;
namespace asio = boost::asio;
using namespace om::detail;
using om::file_range;
using om::unique_fd;

namespace {

// A writer that keeps the tar in memory.
class memory_writer
{
public:
    explicit memory_writer(std::string* out, std::size_t fail_at = 0) : out_(out), fail_at_(fail_at) {}
    void write(std::span<const std::byte> bytes)
    {
        out_->append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        if (fail_at_ != 0 && out_->size() >= fail_at_)
            throw om::error(om::errc::invalid_whiteout);
    }
    om::diff_record finish() { return {}; }
    bool publish(const om::diff_id&) { return true; }

private:
    std::string* out_;
    std::size_t fail_at_;
};
using work = layer_work<memory_writer>;

std::string sample(std::size_t size)
{
    std::string out(size, '\0');
    std::uint32_t value = static_cast<std::uint32_t>(size);
    for (char& c : out)
        c = static_cast<char>('a' + ((value = value * 1664525u + 1013904223u) >> 29));
    return out;
}

std::string gzip(const std::string& text)
{
    z_stream stream{};
    REQUIRE(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string out(deflateBound(&stream, static_cast<uLong>(text.size())), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream.avail_in = static_cast<uInt>(text.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
}

om::digest digest_of(const std::string& text)
{
    return om::digest::of(text);
}

file_range in_file(const std::string& bytes)
{
    auto file = std::make_shared<unique_fd>(::memfd_create("blob", MFD_CLOEXEC));
    REQUIRE(::write(file->get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    return {std::move(file), 0, bytes.size()};
}

om::error failure_of(asio::awaitable<void> task)
{
    try {
        test::run_coroutine(std::move(task));
    } catch (const om::error& e) {
        return e;
    }
    throw std::logic_error("no error");
}

asio::awaitable<void> unpack(om::worker_pool pool, std::shared_ptr<work> layer, std::string blob)
{
    return unpack_layer(std::move(pool), std::move(layer), std::make_unique<file_input>(in_file(blob)));
}

// A writer that defers everything, in parts of an odd size.
class spreading_memory_writer
{
public:
    struct record
    {
        std::string out;
        std::size_t parts_run = 0, write_fails_at = 0, deferred_fails_at = 0; // bytes
        std::atomic<bool> finished = false, in_order = true;
        std::atomic<int> running = 0;
    };
    struct deferred
    {
        void run()
        {
            const auto bytes = std::exchange(left, {});
            if (owner->finished || ++owner->running != 1) // parts must run one after the other
                owner->in_order = false;
            const auto before = owner->out.size();
            owner->out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
            for (int i = ++owner->parts_run % 16 == 0 ? 100 : 0; i != 0; --i)
                std::this_thread::yield(); // so that deferred work is sometimes the slower step
            --owner->running;
            const auto fails_at = owner->deferred_fails_at;
            if (fails_at != 0 && before < fails_at && owner->out.size() >= fails_at)
                throw om::error(om::errc::xattr_too_large);
        }
        record* owner = nullptr;
        std::span<const std::byte> left;
    };

    explicit spreading_memory_writer(record& to) : to_(&to) {}
    void write(std::span<const std::byte> bytes)
    {
        deferred left;
        for (bool taken = false; !taken; left.run())
            taken = write_part(bytes, left);
    }
    bool write_part(std::span<const std::byte>& bytes, deferred& left)
    {
        left.owner = to_;
        const std::size_t count = std::min<std::size_t>(bytes.size(), 9973);
        left.left = bytes.first(count);
        bytes = bytes.subspan(count);
        const auto before = std::exchange(taken_, taken_ + count);
        if (to_->write_fails_at != 0 && before < to_->write_fails_at && taken_ >= to_->write_fails_at)
            throw om::error(om::errc::invalid_whiteout);
        return bytes.empty();
    }
    om::diff_record finish()
    {
        if (to_->running != 0)
            to_->in_order = false;
        to_->finished = true;
        return {};
    }
    bool publish(const om::diff_id&) { return true; }

private:
    record* to_;
    std::size_t taken_ = 0;
};
static_assert(om::spreading_writer<spreading_memory_writer> && !om::spreading_writer<memory_writer>);
using spreading_work = layer_work<spreading_memory_writer>;

// An input with small pieces that has no bytes available every second time.
class halting_input final : public layer_input
{
public:
    halting_input(std::string bytes, std::weak_ptr<step>& reader) : bytes_(std::move(bytes)), reader_(&reader) {}
    void set_reader(const std::weak_ptr<step>& reader) override { *reader_ = reader; }
    std::optional<std::size_t> read(std::span<std::byte> into) override
    {
        if (position_ != 0 && (halt_ = !halt_))
            return std::nullopt;
        const std::size_t count = std::min({into.size(), std::size_t{1000}, bytes_.size() - position_});
        std::memcpy(into.data(), bytes_.data() + position_, count);
        position_ += count;
        return count;
    }

private:
    std::string bytes_;
    std::weak_ptr<step>* reader_;
    std::size_t position_ = 0;
    bool halt_ = false;
};

} // namespace

TEST_CASE("the writer gets the decoded layer, whatever its size")
{
    const std::size_t size = GENERATE(0u, 1u, 5u, 128u << 10, (128u << 10) + 1, 256u << 10, 3u << 20);
    const bool compressed = GENERATE(true, false);
    const std::string tar = sample(size), blob = compressed ? gzip(tar) : tar;
    std::string got;
    auto layer = std::make_shared<work>(
        memory_writer(&got), layer_facts{om::diff_id(digest_of(tar)), digest_of(blob), std::nullopt},
        om::limits());
    std::uint64_t read = 0, unpacked = 0, pieces = 0;
    layer->progress = [&](std::uint64_t bytes, std::uint64_t piece, std::uint64_t decoded) {
        read = bytes;
        pieces += piece;
        unpacked = decoded;
    };
    test::run_coroutine(unpack(om::worker_pool(2), layer, blob));
    REQUIRE(got == tar);
    REQUIRE(read == blob.size());
    REQUIRE(pieces == blob.size());
    REQUIRE(unpacked == tar.size());
    REQUIRE(layer->diff == om::diff_id(digest_of(tar)));
    REQUIRE(layer->record);
}

TEST_CASE("one worker alone unpacks a layer like several workers")
{
    const std::size_t size = GENERATE(0u, 5u, 256u << 10, 3u << 20);
    const std::string tar = sample(size), blob = gzip(tar);
    std::string got;
    auto layer = std::make_shared<work>(
        memory_writer(&got), layer_facts{om::diff_id(digest_of(tar)), digest_of(blob), std::nullopt}, om::limits());
    unpack_layer_here(layer, std::make_unique<file_input>(in_file(blob)), stop_flag());
    CHECK(got == tar);
    CHECK(layer->diff == om::diff_id(digest_of(tar)));
    CHECK(layer->record);
    auto wrong = std::make_shared<work>(
        memory_writer(&got), layer_facts{om::diff_id(digest_of("other")), digest_of(blob), std::nullopt}, om::limits());
    CHECK_THROWS_AS(unpack_layer_here(wrong, std::make_unique<file_input>(in_file(blob)), stop_flag()), om::error);
    CHECK_FALSE(wrong->record);
}

TEST_CASE("sixteen layers of several buffers unpack at the same time on one worker")
{
    om::worker_pool pool(1);
    const std::string tar = sample(3 << 20), blob = gzip(tar);
    std::vector<std::string> got(16);
    test::run_coroutine([](om::worker_pool workers, std::vector<std::string>* out,
                           const std::string* bytes) -> asio::awaitable<void> {
        auto group = std::make_shared<task_group>(co_await asio::this_coro::executor);
        for (std::string& one : *out)
            group->add(unpack(
                workers, std::make_shared<work>(memory_writer(&one), layer_facts(), om::limits()), *bytes));
        co_await task_group::join(std::move(group));
    }(pool, &got, &blob));
    for (const std::string& one : got)
        REQUIRE(one == tar);
}

TEST_CASE("a diff ID that is not known in advance is computed")
{
    const std::string tar = sample(1000);
    std::string got;
    auto layer = std::make_shared<work>(memory_writer(&got), layer_facts(), om::limits());
    test::run_coroutine(unpack(om::worker_pool(1), layer, tar));
    REQUIRE(layer->diff == om::diff_id(digest_of(tar)));
}

TEST_CASE("the expected digests and compression are verified, and a mismatch leaves the writer unfinished")
{
    const std::string tar = sample(300000), other = sample(10);
    const auto right = om::diff_id(digest_of(tar)), wrong = om::diff_id(digest_of(other));
    std::string got;
    const auto run = [&](const std::string& blob, layer_facts facts) {
        auto layer = std::make_shared<work>(memory_writer(&got), std::move(facts), om::limits());
        const auto failure = failure_of(unpack(om::worker_pool(2), layer, blob));
        REQUIRE_FALSE(layer->record);
        REQUIRE_FALSE(layer->diff);
        return failure.code();
    };
    REQUIRE(run(gzip(tar), {wrong, std::nullopt, std::nullopt}) == om::errc::diff_id_mismatch);
    REQUIRE(run(gzip(tar), {right, wrong.value(), std::nullopt}) == om::errc::digest_mismatch);
    REQUIRE(run(tar, {right, wrong.value(), std::nullopt}) == om::errc::digest_mismatch);
    REQUIRE(run(tar, {right, std::nullopt, om::compression::gzip}) == om::errc::unsupported_media_type);
}

TEST_CASE("an error of the decoder is reported after the bytes that preceded it")
{
    const std::string tar = sample(2 << 20);
    std::string blob = gzip(tar);
    blob[blob.size() - 5] = static_cast<char>(blob[blob.size() - 5] ^ 1); // damages the CRC
    const unsigned workers = GENERATE(1u, 2u);
    std::string got;
    SECTION("when the writer takes them all")
    {
        auto layer = std::make_shared<work>(memory_writer(&got), layer_facts(), om::limits());
        REQUIRE(failure_of(unpack(om::worker_pool(workers), layer, blob)).code() == om::errc::corrupt_stream);
        REQUIRE(got.size() <= tar.size());
    }
    SECTION("when the writer fails earlier")
    {
        auto layer = std::make_shared<work>(memory_writer(&got, 1000), layer_facts(), om::limits());
        REQUIRE(failure_of(unpack(om::worker_pool(workers), layer, blob)).code() ==
                om::errc::invalid_whiteout);
    }
}

TEST_CASE("a tar above the size limit is rejected before its bytes reach the writer")
{
    om::limits small;
    small.stream_bytes = 300000;
    std::string got;
    auto layer = std::make_shared<work>(memory_writer(&got), layer_facts(), small);
    REQUIRE(failure_of(unpack(om::worker_pool(2), layer, gzip(sample(1 << 20)))).code() ==
            om::errc::layer_too_large);
    REQUIRE(got.size() <= small.stream_bytes);
}

TEST_CASE("an input may have no bytes available for a while")
{
    const std::string tar = sample(600000),
                      blob = GENERATE(true, false) ? gzip(sample(600000)) : sample(600000);
    std::string got;
    auto layer = std::make_shared<work>(memory_writer(&got), layer_facts(), om::limits());
    om::worker_pool pool(2);
    std::weak_ptr<step> first;
    auto group = layer_steps(layer, std::make_unique<halting_input>(blob, first));
    std::atomic<bool> ended = false;
    // Another thread that keeps notifying the decode step.
    std::thread feeder([&] {
        while (!ended) {
            if (const auto live = first.lock())
                live->notify();
            std::this_thread::yield();
        }
    });
    test::run_coroutine(run_steps(pool, std::move(group)));
    ended = true;
    feeder.join();
    REQUIRE(got == tar);
}

TEST_CASE("deferred work runs in order and before the writer is finished, on any worker")
{
    const std::size_t size = GENERATE(0u, 1u, 9973u, 256u << 10, 5u << 20);
    const unsigned workers = GENERATE(1u, 2u, 4u);
    const std::string tar = sample(size), blob = gzip(tar);
    for (int round = 0; round < 5; ++round) {
        spreading_memory_writer::record got;
        auto layer = std::make_shared<spreading_work>(
            spreading_memory_writer(got), layer_facts{om::diff_id(digest_of(tar)), digest_of(blob), std::nullopt}, om::limits());
        test::run_coroutine(unpack_layer(om::worker_pool(workers), layer, std::make_unique<file_input>(in_file(blob))));
        const bool same = got.out == tar;
        REQUIRE(same);
        REQUIRE((got.finished && got.in_order));
        REQUIRE(layer->record);
        REQUIRE(layer->bytes == tar.size());
    }
}

TEST_CASE("of two failures, the one at the earlier bytes is reported, whichever worker was faster")
{
    static const std::string tar = sample(3 << 20), whole = gzip(tar);
    std::string blob = whole;
    const auto [write_at, deferred_at, expected] = GENERATE(table<std::size_t, std::size_t, om::errc>({
        {1500000, 0, om::errc::invalid_whiteout},
        {0, 1500000, om::errc::xattr_too_large},
        {1500000, 1400000, om::errc::xattr_too_large},
        {1400000, 1500000, om::errc::invalid_whiteout},
        {0, 2500000, om::errc::xattr_too_large}, // precedes the error that the decoder reports at the end
        {0, 0, om::errc::corrupt_stream},
    }));
    blob[blob.size() - 5] = static_cast<char>(blob[blob.size() - 5] ^ 1); // damages the CRC
    const unsigned workers = GENERATE(1u, 2u, 3u);
    for (int round = 0; round < 10; ++round) {
        spreading_memory_writer::record got;
        got.write_fails_at = write_at;
        got.deferred_fails_at = deferred_at;
        auto layer = std::make_shared<spreading_work>(spreading_memory_writer(got), layer_facts(), om::limits());
        auto task = unpack_layer(om::worker_pool(workers), layer, std::make_unique<file_input>(in_file(blob)));
        REQUIRE(failure_of(std::move(task)).code() == expected);
        REQUIRE_FALSE(got.finished);
        REQUIRE_FALSE(layer->record);
    }
}

TEST_CASE("layers that share workers for deferred work all complete")
{
    om::worker_pool pool(3);
    const std::string tar = sample(3 << 20), blob = gzip(tar);
    std::vector<spreading_memory_writer::record> got(8);
    test::run_coroutine([](om::worker_pool workers, std::vector<spreading_memory_writer::record>* out,
                           const std::string* bytes) -> asio::awaitable<void> {
        auto group = std::make_shared<task_group>(co_await asio::this_coro::executor);
        for (auto& one : *out) {
            auto layer = std::make_shared<spreading_work>(spreading_memory_writer(one), layer_facts(), om::limits());
            group->add(unpack_layer(workers, std::move(layer), std::make_unique<file_input>(in_file(*bytes))));
        }
        co_await task_group::join(std::move(group));
    }(pool, &got, &blob));
    for (const auto& one : got) {
        const bool same = one.out == tar;
        REQUIRE(same);
        REQUIRE((one.finished && one.in_order));
    }
}

#include <overmount/importer/archive_reader.hpp>

#include "support/catch.hpp"
#include "support/image_builder.hpp"

namespace {

using namespace overmount::test;
using overmount::compression;
using overmount::errc;
using overmount::limits;

// Supplies `bytes` piece by piece, and has to be waited for between two pieces.
class pieces final : public overmount::detail::archive_bytes
{
public:
    pieces(std::string bytes, std::size_t size) : bytes_(std::move(bytes)), size_(size) {}
    std::optional<std::span<const std::byte>> front() override
    {
        if (at_ == end_ && end_ != bytes_.size()) {
            if (std::exchange(asked_, !asked_))
                end_ = std::min(at_ + size_, bytes_.size());
            else
                return std::nullopt;
        }
        return std::as_bytes(std::span(bytes_)).subspan(at_, end_ - at_);
    }
    void consume(std::size_t count) noexcept override { at_ += count; }

private:
    std::string bytes_;
    std::size_t size_, at_ = 0, end_ = 0;
    bool asked_ = false;
};

using reader = overmount::detail::archive_reader;
using members = std::vector<std::pair<std::string, std::string>>;

// Calls `read` until it does not have to wait.
template <class Read>
auto patiently(Read read)
{
    for (int i = 0; i < 1000000; ++i)
        if (auto got = read())
            return *got;
    throw std::logic_error("it waits for ever");
}

bool next(reader& from)
{
    return patiently([&]() -> std::optional<bool> {
        switch (from.next()) {
        case reader::found::member:
            return true;
        case reader::found::end:
            return false;
        case reader::found::again:
        case reader::found::wait:
            break;
        }
        return std::nullopt;
    });
}

std::string text(std::span<const std::byte> bytes)
{
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string rest(reader& from, std::size_t room = 1000)
{
    std::string out;
    std::vector<std::byte> buffer(room);
    for (;;) {
        const std::size_t count = patiently([&] { return from.read(buffer); });
        if (count == 0)
            return out;
        out += text(std::span(buffer).first(count));
    }
}

members all(reader from)
{
    members out;
    while (next(from)) {
        const std::string name = from.entry().path;
        out.emplace_back(name, rest(from));
    }
    return out;
}

const members& usual()
{
    static const members made{{"empty", ""},
                              {"short", "text"},
                              {"block", std::string(512, 'b')},
                              {"long", std::string(2000, 'l')},
                              {"last", std::string(513, 'z')}};
    return made;
}

std::string usual_tar()
{
    tar_writer out;
    for (const auto& [name, content] : usual())
        out.file(name, content);
    return out.finish();
}

template <class Function>
overmount::error failure_of(Function function)
{
    try {
        function();
    } catch (const overmount::error& failure) {
        return failure;
    }
    throw std::logic_error("it did not fail");
}

TEST_CASE("the members of an archive do not depend on how its bytes arrive")
{
    const auto kind = GENERATE(compression::none, compression::gzip, compression::zstd, compression::xz,
                               compression::bzip2);
    const std::size_t piece = GENERATE(as<std::size_t>(), 6, 7, 511, 512, 513, 1 << 20);
    CAPTURE(to_string(kind), piece);
    CHECK(all(reader(std::make_unique<pieces>(compress(usual_tar(), kind), piece), limits())) == usual());
}

TEST_CASE("the head of a member is its first block, and `read` returns it again")
{
    const std::size_t piece = GENERATE(as<std::size_t>(), 10, 512, 1 << 20), room = GENERATE(as<std::size_t>(), 1, 100, 512, 5000);
    CAPTURE(piece, room);
    reader from(std::make_unique<pieces>(usual_tar(), piece), limits());
    for (const auto& [name, content] : usual()) {
        REQUIRE(next(from));
        CHECK(from.entry().path == name);
        CHECK(text(patiently([&] { return from.head(); })) == content.substr(0, 512));
        CHECK(text(patiently([&] { return from.head(); })) == content.substr(0, 512));
        CHECK(rest(from, room) == content);
        CHECK(rest(from, room).empty());
    }
    CHECK_FALSE(next(from));
}

TEST_CASE("unread data of a member is skipped")
{
    const std::size_t piece = GENERATE(as<std::size_t>(), 10, 512, 1 << 20);
    const int how = GENERATE(0, 1, 2);
    CAPTURE(piece, how);
    reader from(std::make_unique<pieces>(usual_tar(), piece), limits());
    std::vector<std::byte> some(100);
    for (const auto& [name, content] : usual()) {
        REQUIRE(next(from));
        CHECK(from.entry().path == name);
        if (how == 1)
            static_cast<void>(patiently([&] { return from.head(); }));
        if (how == 2)
            CHECK(patiently([&] { return from.read(some); }) <= some.size());
    }
    CHECK_FALSE(next(from));
}

TEST_CASE("an archive without members is valid, with an end marker or without")
{
    CHECK(all(reader(std::make_unique<pieces>("", 10), limits())).empty());
    CHECK(all(reader(std::make_unique<pieces>(tar_writer().finish(), 10), limits())).empty());
    std::string without = usual_tar();
    without.resize(without.size() - 1024);
    CHECK(all(reader(std::make_unique<pieces>(without, 100), limits())) == usual());
}

TEST_CASE("an archive may be larger than the limit of a layer")
{
    limits bounds;
    bounds.layer_bytes = bounds.stream_bytes = 100;
    CHECK(all(reader(std::make_unique<pieces>(usual_tar(), 1000), bounds)) == usual());
}

TEST_CASE("an archive that ends inside a member is truncated")
{
    const std::string tar = tar_writer().file("a", std::string(2000, 'a')).bytes();
    const std::size_t size = GENERATE(as<std::size_t>(), 1, 511, 513, 1024, 2511);
    CAPTURE(size);
    const auto failure = failure_of([&] { static_cast<void>(all(reader(std::make_unique<pieces>(tar.substr(0, size), 100), limits()))); });
    CHECK(failure.code() == errc::truncated_stream);
    const auto skipped = failure_of([&] {
        reader from(std::make_unique<pieces>(tar.substr(0, size), 100), limits());
        while (next(from))
            continue;
    });
    CHECK(skipped.code() == errc::truncated_stream);
}

TEST_CASE("a compressed archive that is truncated anywhere is an error")
{
    const auto kind = GENERATE(compression::gzip, compression::zstd, compression::xz, compression::bzip2);
    const std::string whole = compress(usual_tar(), kind);
    for (std::size_t size = 6; size < whole.size(); ++size) {
        CAPTURE(to_string(kind), size);
        const auto failure =
            failure_of([&] { static_cast<void>(all(reader(std::make_unique<pieces>(whole.substr(0, size), 100), limits()))); });
        CHECK(failure.code() == errc::truncated_stream);
    }
}

// The step of a candidate layer ends with its error and the search continues, so an error of the archive must occur again.
TEST_CASE("an archive never reports its end after an error in its compression")
{
    const auto kind = GENERATE(compression::gzip, compression::zstd, compression::xz, compression::bzip2);
    std::string noise;
    for (unsigned state = 1; noise.size() < 300000; state = state * 1664525u + 1013904223u)
        noise += static_cast<char>(state >> 24);
    std::string whole = compress(tar_writer().file("noise", noise).file("b", "b").finish(), kind);
    const std::size_t place = GENERATE(as<std::size_t>(), 1, 2, 3);
    for (std::size_t i = 0; i < 64; ++i)
        whole[whole.size() * place / 4 + i] = '\x5a';
    CAPTURE(to_string(kind), place);
    reader from(std::make_unique<pieces>(whole, 1000), limits());
    unsigned failures = 0;
    for (unsigned tries = 0; tries < 5; ++tries) {
        try {
            while (next(from))
                static_cast<void>(rest(from));
            break;
        } catch (const overmount::error&) {
            ++failures;
        }
    }
    if (kind == compression::zstd && failures == 0)
        return; // without a checksum the damage cannot be detected
    CHECK(failures == 5);
}

TEST_CASE("an archive with an unknown compression is refused, and lz4 is named")
{
    const auto lz4 = failure_of([] { static_cast<void>(all(reader(std::make_unique<pieces>("\x04\x22\x4d\x18 lz4", 100), limits()))); });
    CHECK(lz4.code() == errc::unsupported_compression);
    const auto noise = failure_of(
        [] { static_cast<void>(all(reader(std::make_unique<pieces>(std::string(1024, 'x'), 100), limits()))); });
    CHECK(noise.code() == errc::malformed_tar);
}

} // namespace

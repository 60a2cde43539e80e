#include <overmount/posix/file_range.hpp>

#include "support/catch.hpp"
#include "support/scratch.hpp"

#include <fcntl.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;
using overmount::errc;
using overmount::error;
using overmount::stage;
using overmount::file_range;
using overmount::unique_fd;
using overmount::test::scratch_directory;

std::ptrdiff_t open_files()
{
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
}

struct directory
{
    void write(const std::string& name, const std::string& text) const
    {
        std::ofstream(scratch / name, std::ios::binary) << text;
    }
    [[nodiscard]] error failure(const file_range& range) const
    {
        try {
            static_cast<void>(range.text());
        } catch (const error& found) {
            return found;
        }
        throw std::logic_error("it was read");
    }

    scratch_directory scratch;
    std::shared_ptr<const unique_fd> fd = std::make_shared<const unique_fd>(
        ::open(scratch.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
};

TEST_CASE("a range with a file name opens the file on the first read and closes it when destroyed")
{
    const directory in;
    in.write("a", "some text");
    const auto before = open_files();
    const std::vector<file_range> many(500, file_range(in.fd, "a", 9));
    CHECK(open_files() == before);
    {
        const file_range copy = many.front();
        CHECK(copy.text() == "some text");
        CHECK(copy.part(5, 4).text() == "text");
        CHECK(open_files() == before + 1);
    }
    CHECK(open_files() == before);
    CHECK(many.front().size() == 9);
}

TEST_CASE("a range rejects a file that changed since it was found")
{
    const directory in;
    const file_range range(in.fd, "a", 9);
    CHECK(in.failure(range).code() == boost::system::errc::no_such_file_or_directory);
    CHECK(in.failure(range).at() == stage::source);
    in.write("a", "other text");
    CHECK(in.failure(range).code() == errc::size_mismatch);
    CHECK(in.failure(range).subject() == "a");
    fs::remove(in.scratch / "a");
    REQUIRE(::mkfifo((in.scratch / "a").c_str(), 0600) == 0);
    CHECK(in.failure(range).code() == errc::size_mismatch);
}

} // namespace

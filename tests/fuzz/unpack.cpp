// A whole layer, unpacked below a directory in memory (/dev/shm, else where temporary files are): no bytes
// may reach what lies beside the root, and the trash is empty in the end.
#include <overmount/posix/fs.hpp>
#include <overmount/storage/on_disk/extractor.hpp>
#include <overmount/tar/framing.hpp>

#include "fuzz/checksums.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

namespace {

namespace detail = overmount::detail;
namespace fs = std::filesystem;
namespace tar = overmount::tar;

void require(bool holds)
{
    if (!holds)
        std::abort();
}

class place
{
public:
    place()
    {
        const char* memory = ::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        std::string name = std::string(memory) + "/overmount-fuzz-XXXXXX";
        require(::mkdtemp(name.data()) != nullptr);
        path_ = name;
        top_ = overmount::unique_fd(::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        detail::make_directory(top_.get(), "trash", 0700);
        detail::make_directory(top_.get(), "canary", 0700);
        trash_ = detail::open_directory(top_.get(), "trash");
        require(::fstatat(top_.get(), "canary", &canary_, 0) == 0);
    }
    ~place()
    {
        std::error_code ignored;
        fs::remove_all(path_, ignored);
    }

    void unpack(std::span<const std::byte> bytes)
    {
        detail::make_directory(top_.get(), "root", 0700);
        const overmount::unique_fd root = detail::open_directory(top_.get(), "root");
        overmount::limits bounds;
        bounds.entries = 200;
        bounds.layer_bytes = 1 << 20;
        tar::framing frames(bounds);
        detail::extractor files(root.get(), trash_.get(), bounds, false);
        std::size_t asides = 0;
        files.keep_replaced([&](std::string_view path) {
            require(!path.empty());
            ++asides;
        });
        try {
            for (auto event = frames.next(bytes); event != tar::event::need_input;
                 event = frames.next(bytes)) {
                if (event == tar::event::entry)
                    files.begin(frames.entry());
                else if (event == tar::event::data)
                    files.data(frames.data_offset(), frames.data());
                else if (event == tar::event::entry_end)
                    files.end();
            }
            frames.finish();
            [[maybe_unused]] const auto notes = files.finish();
        } catch (const overmount::error&) {
        }
        // Made with the first that is kept, beside what else passes through.
        require(detail::exists(trash_.get(), "aside") == (asides != 0));
        if (asides != 0) {
            require(detail::list_directory(trash_.get(), "aside").size() == asides);
            detail::remove_tree(trash_.get(), "aside", trash_.get());
        }
        detail::remove_tree(top_.get(), "root", trash_.get());
        require(detail::list_directory(trash_.get(), ".").empty());
        require(detail::list_directory(top_.get(), "canary").empty());
        require(detail::list_directory(top_.get(), ".").size() == 2);
        struct stat now;
        require(::fstatat(top_.get(), "canary", &now, 0) == 0 && now.st_mode == canary_.st_mode &&
                now.st_uid == canary_.st_uid && now.st_mtim.tv_sec == canary_.st_mtim.tv_sec &&
                now.st_mtim.tv_nsec == canary_.st_mtim.tv_nsec);
    }

private:
    fs::path path_;
    overmount::unique_fd top_, trash_;
    struct stat canary_{};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    static place where;
    const std::string archive = overmount::test::with_checksums(data, size);
    where.unpack(std::as_bytes(std::span(archive)));
    return 0;
}

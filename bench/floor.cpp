// The floor: what any program has to do that unpacks an image and checks it, by the least code that does it. The
// layers of an OCI layout are inflated, the blobs and the tars are hashed, and the files are written below
// DIRECTORY/NUMBER. No safety, no whiteouts, no extended attributes, no check of the hashes, no order of directory
// times, nothing to give the tar back from: do not use it for anything but `compare`.
//   floor pipeline|layers LAYOUT DIRECTORY [sync]
// `sync` ends with one syncfs(2), as durability `batch` does.
// `pipeline` takes layer after layer, inflating and hashing the blob on one thread, hashing the tar and writing on the
// other; `layers` takes two layers at a time, each on one thread, largest first.
#include <isa-l/igzip_lib.h>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>
#include <zstd.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using bytes = std::string_view;
constexpr std::size_t piece = 256 << 10;

void need(bool holds, const char* what)
{
    if (holds)
        return;
    std::perror(what);
    std::exit(1);
}

class sha256
{
public:
    sha256() { EVP_DigestInit_ex(context_, EVP_sha256(), nullptr); }
    sha256(const sha256&) = delete;
    ~sha256()
    {
        unsigned char out[EVP_MAX_MD_SIZE];
        EVP_DigestFinal_ex(context_, out, nullptr);
        EVP_MD_CTX_free(context_);
    }
    void operator()(bytes data) { EVP_DigestUpdate(context_, data.data(), data.size()); }

private:
    EVP_MD_CTX* context_ = EVP_MD_CTX_new();
};

// A tar as it comes, in pieces: each entry is made at once.
class tar_writer
{
public:
    explicit tar_writer(int root) : root_(root) {}

    void operator()(bytes data)
    {
        hash_(data);
        while (!data.empty())
            data.remove_prefix(file_left_ != 0 ? write(data) : skip_ != 0 ? skip(data) : header(data));
    }

private:
    std::size_t write(bytes data)
    {
        const std::size_t count = std::min(data.size(), file_left_);
        if (file_ >= 0)
            need(::write(file_, data.data(), count) == static_cast<ssize_t>(count), "write");
        else
            extension_.append(data.substr(0, count));
        if ((file_left_ -= count) == 0)
            file_ >= 0 ? end_file() : end_extension();
        return count;
    }

    std::size_t skip(bytes data)
    {
        const std::size_t count = std::min(data.size(), skip_);
        skip_ -= count;
        return count;
    }

    std::size_t header(bytes data)
    {
        const std::size_t count = std::min(data.size(), 512 - block_.size());
        block_.append(data.substr(0, count));
        if (block_.size() == 512) {
            if (block_[0] != 0)
                entry();
            block_.clear();
        }
        return count;
    }

    [[nodiscard]] std::string text(std::size_t at, std::size_t size) const
    {
        return {block_.data() + at, ::strnlen(block_.data() + at, size)};
    }
    [[nodiscard]] unsigned long long number(std::size_t at, std::size_t size) const
    {
        return std::strtoull(text(at, size).c_str(), nullptr, 8);
    }

    void entry()
    {
        const char type = block_[156];
        std::size_t size = number(124, 12);
        if (type == 'x' || type == 'L' || type == 'K' || type == 'g') {
            extension_type_ = type;
            file_left_ = size;
            skip_ = (512 - size % 512) % 512;
            return;
        }
        std::string name = text(0, 100);
        if (block_.compare(257, 6, std::string("ustar\0", 6)) == 0 && block_[345] != 0)
            name = text(345, 155) + "/" + name;
        std::string link = text(157, 100);
        mode_ = static_cast<mode_t>(number(100, 8) & 07777);
        uid_ = static_cast<uid_t>(number(108, 8));
        gid_ = static_cast<gid_t>(number(116, 8));
        times_[0] = times_[1] = {static_cast<time_t>(number(136, 12)), 0};
        for (std::size_t at = 0; at < records_.size();) {
            const std::size_t length = std::strtoul(records_.c_str() + at, nullptr, 10);
            const std::size_t key = records_.find(' ', at) + 1, value = records_.find('=', key) + 1;
            const std::string is = records_.substr(value, at + length - value - 1);
            const std::string_view named(records_.data() + key, value - key - 1);
            if (named == "path")
                name = is;
            else if (named == "linkpath")
                link = is;
            else if (named == "size")
                size = std::stoull(is);
            at += length;
        }
        name = long_name_.empty() ? name : long_name_.c_str();
        link = long_link_.empty() ? link : long_link_.c_str();
        records_.clear(), long_name_.clear(), long_link_.clear();
        while (name.ends_with('/'))
            name.pop_back();
        make(type, name.starts_with("./") ? name.substr(2) : name, link, size);
    }

    void make(char type, const std::string& name, const std::string& link, std::size_t size)
    {
        const char* path = name.empty() ? "." : name.c_str();
        int made = 0;
        if (type == '5') {
            ::mkdirat(root_, path, 0755);
            ::fchmodat(root_, path, mode_, 0);
        } else if (type == '2') {
            made = ::symlinkat(link.c_str(), root_, path);
        } else if (type == '1') {
            made = ::linkat(root_, link.starts_with("./") ? link.c_str() + 2 : link.c_str(), root_, path, 0);
        } else if (type == '0' || type == 0) {
            parents_of(name);
            file_ = ::openat(root_, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode_ & 0777);
            need(file_ >= 0, path);
            file_left_ = size;
            skip_ = (512 - size % 512) % 512;
            if (size == 0)
                end_file();
        } else {
            made = ::mknodat(root_, path, (type == '3' ? S_IFCHR : type == '4' ? S_IFBLK : S_IFIFO) | mode_,
                             ::makedev(static_cast<unsigned>(number(329, 8)), static_cast<unsigned>(number(337, 8))));
        }
        need(made == 0, path);
        if (type == '5' || type == '2')
            ::utimensat(root_, path, times_, AT_SYMLINK_NOFOLLOW);
        if ((uid_ != 0 || gid_ != 0) && type != '1' && file_ < 0)
            ::fchownat(root_, path, uid_, gid_, AT_SYMLINK_NOFOLLOW);
    }

    void parents_of(const std::string& name)
    {
        const std::string parent = name.substr(0, std::min(name.rfind('/'), name.size()));
        if (parent == parent_ || name.find('/') == std::string::npos)
            return;
        parent_ = parent;
        for (std::size_t at = 0; (at = name.find('/', at + 1)) != std::string::npos;)
            ::mkdirat(root_, name.substr(0, at).c_str(), 0755);
    }

    void end_file()
    {
        if (uid_ != 0 || gid_ != 0)
            ::fchown(file_, uid_, gid_);
        if ((mode_ & 07000) != 0)
            ::fchmod(file_, mode_);
        ::futimens(file_, times_);
        ::close(std::exchange(file_, -1));
    }

    void end_extension()
    {
        std::string& whose = extension_type_ == 'L' ? long_name_ : extension_type_ == 'K' ? long_link_ : records_;
        if (extension_type_ != 'g')
            whose = extension_;
        extension_.clear();
    }

    int root_;
    sha256 hash_;
    std::string block_, extension_, records_, long_name_, long_link_, parent_;
    char extension_type_ = 0;
    int file_ = -1;
    std::size_t file_left_ = 0, skip_ = 0;
    mode_t mode_ = 0;
    uid_t uid_ = 0;
    gid_t gid_ = 0;
    timespec times_[2] = {};
};

// Calls `out` with the next buffer of the tar; it gives back one that may be filled.
using sink = std::function<std::vector<char>(std::vector<char>)>;

void inflate_gzip(bytes blob, const sink& out)
{
    auto state = std::make_unique<inflate_state>();
    std::vector<char> buffer(piece);
    sha256 hash;
    isal_inflate_init(state.get());
    state->crc_flag = ISAL_GZIP;
    state->next_out = reinterpret_cast<unsigned char*>(buffer.data());
    state->avail_out = piece;
    while (!blob.empty() || state->avail_in != 0) {
        if (state->avail_in == 0) {
            const bytes part = blob.substr(0, piece);
            hash(part);
            blob.remove_prefix(part.size());
            state->next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(part.data()));
            state->avail_in = static_cast<std::uint32_t>(part.size());
        }
        need(isal_inflate(state.get()) == ISAL_DECOMP_OK, "inflate");
        const bool over = state->block_state == ISAL_BLOCK_FINISH;
        if (state->avail_out == 0 || over) {
            buffer.resize(piece - state->avail_out);
            buffer = out(std::move(buffer));
            buffer.resize(piece);
            state->next_out = reinterpret_cast<unsigned char*>(buffer.data());
            state->avail_out = piece;
        }
        if (over) // a further member, perhaps
            isal_inflate_reset(state.get()), state->crc_flag = ISAL_GZIP;
    }
}

void inflate_zstd(bytes blob, const sink& out)
{
    ZSTD_DCtx* context = ZSTD_createDCtx();
    std::vector<char> buffer(piece);
    sha256 hash;
    for (; !blob.empty(); blob.remove_prefix(std::min(piece, blob.size()))) {
        ZSTD_inBuffer in{blob.data(), std::min(piece, blob.size()), 0};
        hash(blob.substr(0, in.size));
        for (bool full = false; in.pos < in.size || full;) {
            ZSTD_outBuffer to{buffer.data(), piece, 0};
            need(ZSTD_isError(ZSTD_decompressStream(context, &to, &in)) == 0, "zstd");
            full = to.pos == to.size;
            buffer.resize(to.pos);
            buffer = out(std::move(buffer));
            buffer.resize(piece);
        }
    }
    ZSTD_freeDCtx(context);
}

struct layer
{
    bytes blob;
    int root;
    void inflate(const sink& out) const
    {
        blob.starts_with("\x1f\x8b") ? inflate_gzip(blob, out) : inflate_zstd(blob, out);
    }
};

void alone(const layer& one)
{
    tar_writer files(one.root);
    one.inflate([&](std::vector<char> buffer) {
        files({buffer.data(), buffer.size()});
        return buffer;
    });
}

// Two threads, four buffers between them.
void by_two(const layer& one)
{
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::vector<char>> full, empty(4);
    bool over = false;
    std::thread reader([&] {
        one.inflate([&](std::vector<char> buffer) {
            std::unique_lock lock(mutex);
            full.insert(full.begin(), std::move(buffer));
            changed.notify_one();
            changed.wait(lock, [&] { return !empty.empty(); });
            auto next = std::move(empty.back());
            empty.pop_back();
            return next;
        });
        const std::lock_guard lock(mutex);
        over = true;
        changed.notify_one();
    });
    tar_writer files(one.root);
    std::unique_lock lock(mutex);
    for (;;) {
        changed.wait(lock, [&] { return over || !full.empty(); });
        if (full.empty())
            break;
        auto buffer = std::move(full.back());
        full.pop_back();
        lock.unlock();
        files({buffer.data(), buffer.size()});
        lock.lock();
        empty.push_back(std::move(buffer));
        changed.notify_one();
    }
    lock.unlock();
    reader.join();
}

bytes map(const std::string& path)
{
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status;
    need(fd >= 0 && ::fstat(fd, &status) == 0, path.c_str());
    const auto size = static_cast<std::size_t>(status.st_size);
    void* at = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    need(at != MAP_FAILED, path.c_str());
    ::close(fd);
    return {static_cast<const char*>(at), size};
}

std::string blob_path(const std::string& layout, const nlohmann::json& descriptor)
{
    return layout + "/blobs/sha256/" + descriptor["digest"].get<std::string>().substr(7);
}

} // namespace

int main(int argc, char** argv)
{
    const bool sync = argc == 5 && std::strcmp(argv[4], "sync") == 0;
    if (argc != 4 && !sync) {
        std::fputs("usage: floor pipeline|layers LAYOUT DIRECTORY [sync]\n", stderr);
        return 2;
    }
    ::umask(0);
    const std::string layout = argv[2], directory = argv[3];
    std::ifstream index(layout + "/index.json");
    std::ifstream manifest(blob_path(layout, nlohmann::json::parse(index)["manifests"][0]));
    std::vector<layer> layers;
    ::mkdir(directory.c_str(), 0700);
    const auto parsed = nlohmann::json::parse(manifest);
    for (const auto& descriptor : parsed["layers"]) {
        const std::string root = directory + "/" + std::to_string(layers.size());
        need(::mkdir(root.c_str(), 0755) == 0, root.c_str());
        layers.push_back({map(blob_path(layout, descriptor)), ::open(root.c_str(), O_PATH | O_DIRECTORY)});
    }
    const auto end = [&] {
        need(!sync || ::syncfs(::open(directory.c_str(), O_RDONLY | O_DIRECTORY)) == 0, "syncfs");
        return 0;
    };
    if (std::strcmp(argv[1], "pipeline") == 0) {
        std::ranges::for_each(layers, by_two);
        return end();
    }
    std::ranges::sort(layers, std::greater(), [](const layer& one) { return one.blob.size(); });
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
        for (std::size_t at; (at = next++) < layers.size();)
            alone(layers[at]);
    };
    std::thread other(work);
    work();
    other.join();
    return end();
}

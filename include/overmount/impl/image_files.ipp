#ifndef OVERMOUNT_IMPL_IMAGE_FILES_IPP
#define OVERMOUNT_IMPL_IMAGE_FILES_IPP

#include <overmount/importer/image_files.hpp>
#include <overmount/tar/framing.hpp>
#include <overmount/tar/path.hpp>

#include <fcntl.h>

namespace overmount::inline OVERMOUNT_ABI::detail {

inline std::shared_ptr<const unique_fd> open_source(int parent, const std::string& path, int flags)
{
    auto fd = std::make_shared<const unique_fd>(::openat(parent, path.c_str(), flags | O_RDONLY | O_CLOEXEC));
    if (!*fd)
        throw error::from_errno(errno).at(stage::source).operation("open").subject(path);
    return fd;
}

inline file_range whole_file(std::shared_ptr<const unique_fd> fd, const std::string& path)
{
    struct stat status;
    check(::fstat(fd->get(), &status), "stat", path);
    if (!S_ISREG(status.st_mode))
        throw error(errc::unknown_archive_format).at(stage::source).subject(path).detail("not a regular file");
    return {std::move(fd), 0, static_cast<std::uint64_t>(status.st_size)};
}

// The path that a symbolic link in `directory` leads to, inside the archive.
inline std::string resolve_link(std::string_view directory, std::string_view target)
{
    std::string path = target.starts_with('/') ? std::string() : std::string(directory);
    for (std::size_t begin = 0; begin <= target.size();) {
        const std::size_t end = std::min(target.find('/', begin), target.size());
        const std::string_view part = target.substr(begin, end - begin);
        begin = end + 1;
        if (part == "..")
            path = tar::parent_of(path);
        else if (!part.empty() && part != ".")
            (path += path.empty() ? "" : "/") += part;
    }
    return path;
}

OVERMOUNT_DECL image_files image_files::of_archive(const std::string& path, const limits& bounds)
{
    image_files out;
    out.root_ = open_source(AT_FDCWD, path, 0);
    const file_range archive = whole_file(out.root_, path);
    limits outer = bounds;
    outer.layer_bytes = outer.stream_bytes = ~std::uint64_t{0} >> 1;
    tar::framing frames(outer);
    std::array<std::byte, 4096> buffer;
    try {
        for (std::uint64_t position = 0;;) {
            const std::size_t size = archive.read(position, buffer);
            if (size == 0)
                break;
            std::span<const std::byte> input = std::span(buffer).first(size);
            bool moved = false;
            for (tar::event event; !moved && (event = frames.next(input)) != tar::event::need_input;) {
                if (event == tar::event::end)
                    return out;
                if (event != tar::event::entry)
                    continue;
                const tar::entry& entry = frames.entry();
                const std::string name = tar::normalise(entry.path, outer);
                if (entry.type == tar::entry_type::regular && !entry.sparse)
                    out.members_.insert_or_assign(name, archive.part(frames.stream_offset(), entry.stored_size));
                else if (entry.type == tar::entry_type::symbolic_link)
                    out.links_[name] = resolve_link(tar::parent_of(name), entry.link_target);
                else if (entry.type == tar::entry_type::hard_link)
                    out.links_[name] = tar::normalise(entry.link_target, outer);
                if (frames.skippable() > input.size()) {
                    frames.skip(frames.skippable());
                    moved = true;
                }
            }
            position = moved ? frames.stream_offset() : position + size;
        }
        frames.finish();
    } catch (error& failure) {
        failure.at(stage::source).subject(path);
        throw;
    }
    return out;
}

OVERMOUNT_DECL image_files image_files::of_directory(const std::string& path)
{
    image_files out;
    out.root_ = open_source(AT_FDCWD, path, O_DIRECTORY);
    out.directory_ = true;
    return out;
}

OVERMOUNT_DECL std::optional<file_range> image_files::find(std::string_view name) const
{
    std::string path = resolve_link({}, name);
    if (directory_) {
        if (::faccessat(root_->get(), path.c_str(), F_OK, 0) != 0 && errno == ENOENT)
            return std::nullopt;
        return whole_file(open_source(root_->get(), path, O_NONBLOCK), path);
    }
    for (int hops = 0; hops < 40; ++hops) {
        if (const auto found = members_.find(path); found != members_.end())
            return found->second;
        const auto link = links_.find(path);
        if (link == links_.end())
            break;
        path = link->second;
    }
    return std::nullopt;
}

OVERMOUNT_DECL file_range image_files::get(std::string_view name) const
{
    if (auto found = find(name))
        return *found;
    throw error(errc::missing_blob).at(stage::source).subject(name);
}

OVERMOUNT_DECL std::string image_files::document(std::string_view name, const limits& bounds) const
{
    const file_range found = get(name);
    if (found.size() > bounds.json_bytes)
        throw error(errc::json_limit_exceeded).at(stage::manifest).subject(name);
    return found.text();
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

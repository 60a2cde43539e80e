#ifndef OVERMOUNT_IMPORTER_IMPL_IMAGE_FILES_IPP
#define OVERMOUNT_IMPORTER_IMPL_IMAGE_FILES_IPP

#include <overmount/codec/decoder.hpp>
#include <overmount/importer/image_files.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/tar/framing.hpp>
#include <overmount/tar/path.hpp>

#include <fcntl.h>

namespace overmount::inline OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY inline std::shared_ptr<const unique_fd> open_source(const std::string& path)
{
    auto fd = new_shared<const unique_fd>(
        ::open(from_working_directory(path).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!*fd)
        throw error::from_errno(errno).at(stage::source).operation("open").subject(path);
    return fd;
}

// Of a regular file.
OVERMOUNT_LAZY inline std::uint64_t size_of(const struct stat& status, const std::string& path)
{
    if (!S_ISREG(status.st_mode))
        throw error(errc::unknown_archive_format)
            .at(stage::source)
            .subject(path)
            .detail("not a regular file");
    return static_cast<std::uint64_t>(status.st_size);
}

OVERMOUNT_LAZY inline file_range whole_file(std::shared_ptr<const unique_fd> fd, const std::string& path)
{
    struct stat status;
    check(::fstat(fd->get(), &status), "stat", path);
    return {std::move(fd), 0, size_of(status, path)};
}

OVERMOUNT_LAZY_BODY file_range whole_file(const std::string& path)
{
    return whole_file(open_source(path), path);
}

OVERMOUNT_LAZY_BODY std::string resolve_link(std::string_view directory, std::string_view target)
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

OVERMOUNT_LAZY_BODY std::optional<digest> digest_of_name(std::string_view path)
{
    if (path.ends_with(".json"))
        path.remove_suffix(5);
    const auto slash = path.rfind('/');
    if (slash == std::string_view::npos)
        return digest::try_parse("sha256:" + std::string(path));
    if (!path.starts_with("blobs/"))
        return std::nullopt;
    return digest::try_parse(std::string(path.substr(6, slash - 6)) + ":" +
                             std::string(path.substr(slash + 1)));
}

OVERMOUNT_LAZY_BODY std::string blob_path(const digest& id)
{
    return "blobs/" + std::string(to_string(id.algorithm())) + "/" + id.hex();
}

OVERMOUNT_LAZY_BODY image_files::image_files(const std::string& path, const limits& bounds)
    : root_(open_source(path)), bounds_(bounds), bytes_left_(bounds.all_json_bytes)
{
    struct stat status;
    check(::fstat(root_->get(), &status), "stat", path);
    directory_ = S_ISDIR(status.st_mode);
    if (directory_)
        return;
    try {
        note_members(path);
    } catch (error& failure) {
        failure.at(stage::source).subject(path);
        throw;
    }
}

OVERMOUNT_LAZY_BODY void image_files::note_members(const std::string& path)
{
    const file_range archive = whole_file(root_, path);
    limits outer = bounds_;
    outer.layer_bytes = outer.stream_bytes = ~std::uint64_t{0} >> 1;
    tar::framing frames(outer);
    std::array<std::byte, 4096> buffer;
    const std::size_t head = archive.read(0, buffer);
    if (detect_compression(std::span(buffer).first(head)) != compression::none)
        throw error(errc::unknown_archive_format).detail("it is compressed as a whole: see archive_file");
    for (std::uint64_t position = 0;;) {
        const std::size_t size = archive.read(position, buffer);
        if (size == 0)
            break;
        std::span<const std::byte> input = std::span(buffer).first(size);
        bool moved = false;
        for (tar::event event; !moved && (event = frames.next(input)) != tar::event::need_input;) {
            if (event == tar::event::end)
                return;
            if (event != tar::event::entry)
                continue;
            note(frames.entry(), archive.part(frames.stream_offset(), frames.entry().stored_size));
            if (frames.skippable() > input.size()) {
                frames.skip(frames.skippable());
                moved = true;
            }
        }
        position = moved ? frames.stream_offset() : position + size;
    }
    frames.finish();
}

OVERMOUNT_LAZY_BODY void image_files::note(const tar::entry& entry, layer_source bytes)
{
    std::string name = tar::normalise(entry.path, bounds_);
    const bool there = members_.erase(name) + links_.erase(name) != 0;
    // Of two members with one name some readers take the first, some the last. Blobs and layers have digests.
    if (there && (name == "index.json" || name == "manifest.json" || name == "oci-layout"))
        throw error(errc::malformed_tar).at(stage::source).entry(name).detail("the archive holds it twice");
    const auto link_to = [&](std::string target) {
        take_memory(name.size() + target.size());
        links_.emplace(std::move(name), std::move(target));
    };
    if (entry.type == tar::entry_type::regular && !entry.sparse) {
        take_memory(name.size());
        members_.emplace(std::move(name), std::move(bytes));
    } else if (entry.type == tar::entry_type::symbolic_link) {
        link_to(resolve_link(tar::parent_of(name), entry.link_target));
    } else if (entry.type == tar::entry_type::hard_link) {
        link_to(tar::normalise(entry.link_target, bounds_));
    }
}

// Of a member with so many bytes of names. One of several with the same name counts as well.
OVERMOUNT_LAZY_BODY void image_files::take_memory(std::size_t names)
{
    constexpr std::size_t others = 192; // what else a member takes
    if (names + others > memory_left_)
        throw error(errc::too_many_members)
            .at(stage::source)
            .detail("their names take more than " + std::to_string(bounds_.member_bytes) + " bytes");
    memory_left_ -= names + others;
}

OVERMOUNT_LAZY_BODY std::optional<layer_source> image_files::find(std::string_view name) const
{
    std::string path = resolve_link({}, name);
    if (directory_) {
        struct stat status;
        if (::fstatat(root_->get(), path.c_str(), &status, 0) == 0)
            return file_range(root_, path, size_of(status, path));
        if (errno == ENOENT)
            return std::nullopt;
        throw error::from_errno(errno).at(stage::source).operation("stat").subject(path);
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

OVERMOUNT_LAZY_BODY layer_source image_files::layer(std::string_view name, const diff_id& id) const
{
    if (auto found = find(name))
        return *found;
    throw error(errc::missing_blob).at(stage::source).layer(id.string()).subject(name);
}

OVERMOUNT_LAZY_BODY std::string image_files::document(std::string_view name)
{
    const auto found = find(name);
    if (!found)
        throw error(errc::missing_blob).at(stage::manifest).subject(name);
    if (*found->size() > bounds_.json_bytes)
        throw error(errc::json_limit_exceeded).at(stage::manifest).subject(name).detail("too many bytes");
    if (*found->size() > bytes_left_)
        throw error(errc::json_limit_exceeded).at(stage::manifest).subject(name).detail("too many documents");
    if (found->is_gone_by())
        throw error(errc::truncated_stream).at(stage::manifest).subject(name).detail("it began like no document, and was not kept");
    bytes_left_ -= *found->size();
    return found->file()->text();
}

OVERMOUNT_LAZY_BODY std::string image_files::document(const descriptor& what)
{
    const std::string path = blob_path(what.digest());
    std::string text = document(path);
    if (text.size() != what.size())
        throw error(errc::size_mismatch).at(stage::manifest).subject(path);
    if (digest::of(text, what.digest().algorithm()) != what.digest())
        throw error(errc::digest_mismatch).at(stage::manifest).subject(path);
    return text;
}

} // namespace overmount::inline OVERMOUNT_ABI::detail

#endif

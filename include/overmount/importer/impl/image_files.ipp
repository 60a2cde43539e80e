#ifndef OVERMOUNT_IMPORTER_IMPL_IMAGE_FILES_IPP
#define OVERMOUNT_IMPORTER_IMPL_IMAGE_FILES_IPP

#include <overmount/codec/decoder.hpp>
#include <overmount/importer/image_files.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/tar/framing.hpp>
#include <overmount/tar/path.hpp>

#include <fcntl.h>

namespace overmount::OVERMOUNT_ABI::detail {

OVERMOUNT_LAZY inline std::shared_ptr<const unique_fd> open_source(const std::string& path)
{
    auto fd = new_shared<const unique_fd>(
        ::open(from_working_directory(path).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!*fd)
        throw error::from_errno(errno).at(stage::source).operation("open").subject(path);
    return fd;
}

// The size of a regular file; throws for any other type.
OVERMOUNT_LAZY inline std::uint64_t size_of(const struct stat& status, const std::string& path)
{
    if (!S_ISREG(status.st_mode))
        throw error(errc::unknown_archive_format)
            .at(stage::source)
            .subject(path)
            .detail("it is not a regular file");
    return static_cast<std::uint64_t>(status.st_size);
}

OVERMOUNT_LAZY inline file_range whole_file(std::shared_ptr<const unique_fd> fd, const std::string& path)
{
    struct stat status;
    checked(::fstat(fd->get(), &status), "stat", path);
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

OVERMOUNT_LAZY_BODY image_files::image_files(const std::string& path, const limits& bounds)
    : root_(open_source(path)), bounds_(bounds), bytes_left_(bounds.all_json_bytes)
{
    struct stat status;
    checked(::fstat(root_->get(), &status), "stat", path);
    directory_ = S_ISDIR(status.st_mode);
    if (directory_)
        return;
    try {
        index_members(path);
    } catch (error& failure) {
        failure.at(stage::source).subject(path);
        throw;
    }
}

OVERMOUNT_LAZY_BODY void image_files::index_members(const std::string& path)
{
    const file_range archive = whole_file(root_, path);
    limits outer = bounds_;
    outer.layer_bytes = outer.stream_bytes = ~std::uint64_t{0} >> 1;
    tar::framing frames(outer);
    std::array<std::byte, 4096> buffer;
    const std::size_t head = archive.read(0, buffer);
    if (detect_compression(std::span(buffer).first(head)) != compression::none)
        throw error(errc::unknown_archive_format).detail("the archive is compressed as a whole; import it as archive_file");
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
    const bool duplicate = members_.erase(name) + links_.erase(name) != 0;
    // If two members have the same name, some readers use the first, others the last. Blobs and layers are verified by digest.
    if (duplicate && (name == "index.json" || name == "manifest.json" || name == "oci-layout"))
        throw error(errc::malformed_tar).at(stage::source).entry(name).detail("the archive has two members of this name");
    const auto link_to = [&](std::string target) {
        charge_memory(name.size() + target.size());
        links_.emplace(std::move(name), std::move(target));
    };
    if (entry.type == tar::entry_type::regular && !entry.sparse) {
        charge_memory(name.size());
        members_.emplace(std::move(name), std::move(bytes));
    } else if (entry.type == tar::entry_type::symbolic_link) {
        link_to(resolve_link(tar::parent_of(name), entry.link_target));
    } else if (entry.type == tar::entry_type::hard_link) {
        link_to(tar::normalise(entry.link_target, bounds_));
    }
}

// Accounts for the memory of a member with `names` bytes of names. Replaced members of the same name still count.
OVERMOUNT_LAZY_BODY void image_files::charge_memory(std::size_t names)
{
    constexpr std::size_t overhead = 192; // memory per member besides its names
    if (names + overhead > memory_left_)
        throw error(errc::too_many_members)
            .at(stage::source)
            .detail("the names of all members take more than " + std::to_string(bounds_.member_bytes) + " bytes");
    memory_left_ -= names + overhead;
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
        throw error(errc::json_limit_exceeded).at(stage::manifest).subject(name).detail("the document has too many bytes");
    if (*found->size() > bytes_left_)
        throw error(errc::json_limit_exceeded)
            .at(stage::manifest)
            .subject(name)
            .detail("the documents of the archive are too large together");
    if (found->is_gone_by())
        throw error(errc::truncated_stream)
            .at(stage::manifest)
            .subject(name)
            .detail("it does not begin like a document, so it was not kept while the archive was read");
    bytes_left_ -= *found->size();
    return found->file()->text();
}

OVERMOUNT_LAZY_BODY std::string image_files::document(const descriptor& what)
{
    const std::string path = layout_blob_path(what.digest());
    std::string text = document(path);
    if (text.size() != what.size())
        throw error(errc::size_mismatch).at(stage::manifest).subject(path);
    if (digest::of(text, what.digest().algorithm()) != what.digest())
        throw error(errc::digest_mismatch).at(stage::manifest).subject(path);
    return text;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

#ifndef OVERMOUNT_IMPORTER_ARCHIVE_PASS_HPP
#define OVERMOUNT_IMPORTER_ARCHIVE_PASS_HPP

#include <overmount/importer/archive_reader.hpp>
#include <overmount/importer/image_files.hpp>
#include <overmount/runtime/worker_pool.hpp>
#include <overmount/unpack/layer_input.hpp>

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace overmount::OVERMOUNT_ABI::detail {

// Reads an image archive once, with its members in any order. It keeps the documents, within a limit on their total size. It stops
// at each candidate layer (a member that may be a layer): the caller reads its data now, or it is lost.
class archive_pass
{
public:
    using pointer = std::shared_ptr<archive_pass>;

    archive_pass(std::unique_ptr<archive_bytes> source, const limits& bounds)
        : bounds_(bounds), files_(bounds), reader_(std::move(source), bounds)
    {}

    // Advances to the next candidate layer; false at the end of the archive. If the archive is a stream, another coroutine must feed
    // it concurrently.
    OVERMOUNT_LAZY static asio::awaitable<bool> next(worker_pool pool, pointer self);

    // The current candidate layer: its name, the digest in its name if there is one, its size in bytes.
    [[nodiscard]] const std::string& member() const noexcept { return member_; }
    OVERMOUNT_LAZY [[nodiscard]] std::optional<digest> named_digest() const;
    [[nodiscard]] std::uint64_t size() const { return reader_.entry().stored_size; }
    // Its data, as input of a decode step.
    [[nodiscard]] static std::unique_ptr<layer_input> data(pointer self) { return std::make_unique<member_data>(std::move(self)); }

    // All members seen so far: the documents with their data, the others by name and size.
    [[nodiscard]] image_files& files() noexcept { return files_; }

private:
    class member_data final : public layer_input
    {
    public:
        explicit member_data(pointer of) : of_(std::move(of)) {}
        void set_reader(const std::weak_ptr<step>& reader) override { of_->reader_.source().set_reader(reader); }
        [[nodiscard]] std::optional<std::size_t> read(std::span<std::byte> into) override { return of_->reader_.read(into); }

    private:
        pointer of_;
    };

    class search_step;

    // One resumption of the search step; sets `found_` when it ends at a candidate layer.
    OVERMOUNT_LAZY step_state search();
    OVERMOUNT_LAZY step_state inspect_member();
    OVERMOUNT_LAZY step_state read_document();
    OVERMOUNT_LAZY step_state finish_member(layer_source bytes);

    limits bounds_;
    image_files files_;
    archive_reader reader_;
    std::shared_ptr<const unique_fd> documents_; // a memfd with all documents
    std::uint64_t document_bytes_ = 0;
    std::string member_, document_; // name of the current member, and what was read of it if it is a document
    bool in_member_ = false;
    bool found_ = false;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#ifndef OVERMOUNT_SEPARATE_COMPILATION
#include <overmount/importer/impl/archive_pass.ipp>
#endif

#endif

#ifndef OVERMOUNT_IMPORTER_IMPL_ARCHIVE_PASS_IPP
#define OVERMOUNT_IMPORTER_IMPL_ARCHIVE_PASS_IPP

#include <overmount/importer/archive_pass.hpp>
#include <overmount/importer/member_kind.hpp>
#include <overmount/posix/fs.hpp>
#include <overmount/runtime/new_shared.hpp>
#include <overmount/tar/path.hpp>

#include <sys/mman.h>

#include <utility>

namespace overmount::OVERMOUNT_ABI::detail {

class archive_pass::search_step final : public step
{
public:
    explicit search_step(pointer in) : in_(std::move(in)) {}

private:
    step_state resume(const stop_flag& stop) override
    {
        stop.throw_if_stopped();
        return in_->search();
    }
    pointer in_;
};

OVERMOUNT_LAZY_BODY asio::awaitable<bool> archive_pass::next(worker_pool pool, pointer self)
{
    self->found_ = false;
    auto group = new_shared<step_group>();
    auto search = new_shared<search_step>(self);
    self->reader_.source().set_reader(search);
    group->add(std::move(search));
    co_await run_steps(std::move(pool), std::move(group));
    co_return self->found_;
}

OVERMOUNT_LAZY_BODY std::optional<digest> archive_pass::named_digest() const
{
    return member_.starts_with("blobs/") ? digest_of_name(member_) : std::nullopt;
}

OVERMOUNT_LAZY_BODY step_state archive_pass::search()
{
    if (!in_member_) {
        switch (reader_.next()) {
        case archive_reader::found::again:
            return step_state::again;
        case archive_reader::found::wait:
            return step_state::wait;
        case archive_reader::found::end:
            return step_state::done;
        case archive_reader::found::member:
            break;
        }
        member_ = tar::normalise(reader_.entry().path, bounds_);
        in_member_ = true;
    }
    return inspect_member();
}

OVERMOUNT_LAZY_BODY step_state archive_pass::inspect_member()
{
    const tar::entry& entry = reader_.entry();
    if (entry.type != tar::entry_type::regular || entry.sparse)
        return finish_member(layer_source::gone_by(0));
    const auto head = reader_.head();
    if (!head)
        return step_state::wait;
    switch (classify_member(*head)) {
    case member_kind::layer:
        found_ = true;
        static_cast<void>(finish_member(layer_source::gone_by(entry.stored_size)));
        return step_state::done;
    case member_kind::document:
        return read_document();
    case member_kind::other:
        break;
    }
    return finish_member(layer_source::gone_by(entry.stored_size));
}

OVERMOUNT_LAZY_BODY step_state archive_pass::read_document()
{
    const std::uint64_t size = reader_.entry().stored_size;
    if (size > bounds_.json_bytes)
        return finish_member(layer_source::gone_by(size)); // an error only if an image refers to it
    if (document_.empty() && document_bytes_ + size > bounds_.all_json_bytes)
        throw error(errc::json_limit_exceeded)
            .at(stage::manifest)
            .subject(member_)
            .detail("the documents of the archive are too large together");
    for (;;) {
        const std::size_t have = document_.size();
        document_.resize(have + 4096);
        const auto count = reader_.read(std::as_writable_bytes(std::span(document_)).subspan(have));
        document_.resize(have + count.value_or(0));
        if (!count)
            return step_state::wait;
        if (*count == 0)
            break;
    }
    const std::string text = std::exchange(document_, {});
    if (!documents_)
        documents_ = new_shared<const unique_fd>(checked(::memfd_create("overmount documents", MFD_CLOEXEC), "memfd_create"));
    write_all(documents_->get(), std::as_bytes(std::span(text)));
    const std::uint64_t offset = std::exchange(document_bytes_, document_bytes_ + text.size());
    return finish_member(file_range(documents_, offset, text.size()));
}

OVERMOUNT_LAZY_BODY step_state archive_pass::finish_member(layer_source bytes)
{
    files_.note(reader_.entry(), std::move(bytes));
    in_member_ = false;
    return step_state::again;
}

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

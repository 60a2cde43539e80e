// on_disk_storage::verify: compares a stored diff with what was unpacked.
#ifndef OVERMOUNT_STORAGE_ON_DISK_IMPL_ON_DISK_VERIFY_IPP
#define OVERMOUNT_STORAGE_ON_DISK_IMPL_ON_DISK_VERIFY_IPP

#include <overmount/core/hasher.hpp>
#include <overmount/storage/on_disk/extractor.hpp>
#include <overmount/storage/on_disk/impl/on_disk_reader.ipp>
#include <overmount/storage/on_disk/tree_compare.hpp>
#include <overmount/tar/entry_walk.hpp>
#include <overmount/tar/framing.hpp>

#include <array>
#include <set>

namespace overmount::OVERMOUNT_ABI {
namespace detail {

// Unpacks a recipe alone: the tree with all attributes, but holes instead of file data. It uses the same code that unpacked the
// layer, so that every difference is a damage.
class skeleton
{
public:
    explicit skeleton(const write_context& place) : staging_(place.staging()), name_(place.name())
    {
        make_directory(staging_, name_, 0700);
        whole_ = open_directory(staging_, name_);
        make_directory(whole_.get(), "rootfs", 0700);
        rootfs_ = open_directory(whole_.get(), "rootfs");
        files_.emplace(rootfs_.get(), whole_.get(), detail::kept_limits(), false);
        files_->keep_replaced([](std::string_view) {});
    }

    [[nodiscard]] int rootfs() const noexcept { return rootfs_.get(); }
    void remove() const { remove_tree(staging_, name_, staging_); }

    void unpack(detail::recipe_reader recipe, const verify_context& context)
    {
        for (auto step = recipe.next(); step != detail::recipe_step::end; step = recipe.next()) {
            context.poll();
            if (step == detail::recipe_step::bytes)
                take(recipe.bytes());
            else if (step == detail::recipe_step::piece)
                take_zeros(recipe.count(), context);
        }
        frames_.finish();
        static_cast<void>(files_->finish());
    }

private:
    void take_zeros(std::uint64_t count, const verify_context& context)
    {
        static constexpr std::array<std::byte, 64 << 10> zeros{};
        while (count != 0) {
            context.poll();
            const auto part = std::span(zeros).first(
                static_cast<std::size_t>(std::min<std::uint64_t>(count, zeros.size())));
            take(part);
            count -= part.size();
        }
    }

    void take(std::span<const std::byte> bytes)
    {
        for (;;) {
            switch (frames_.next(bytes)) {
            case tar::event::entry:
                entry_ = frames_.entry();
                entry_.sparse = true; // sets the size without data
                files_->begin(entry_);
                break;
            case tar::event::entry_end: files_->end(); break;
            case tar::event::need_input: return;
            case tar::event::data:
            case tar::event::end: break;
            }
        }
    }

    int staging_;
    std::string name_;
    unique_fd whole_, rootfs_;
    tar::framing frames_{detail::kept_limits()};
    tar::entry entry_;
    std::optional<extractor> files_;
};

// Paths that were reported already: a path at or below one of them is not reported again.
class reported_paths
{
public:
    void add(std::string_view path) { paths_.emplace(path); }
    [[nodiscard]] bool covers(std::string_view path) const
    {
        while (!path.empty() && !paths_.contains(path))
            path = tar::parent_of(path);
        return !path.empty();
    }

private:
    std::set<std::string, std::less<>> paths_;
};

} // namespace detail

OVERMOUNT_DECL void on_disk_storage::reader::leave_file()
{
    state_->file.reset();
    state_->left = 0;
    while (state_->in_file)
        state_->in_file = state_->recipe->next() != detail::recipe_step::end_file;
}

OVERMOUNT_DECL void on_disk_storage::verify(const diff_id& id, const verify_context& context) const
{
    detail::reported_paths reported;
    const auto report = [&](std::string_view path, std::string_view how) {
        reported.add(path);
        context.changed(path, how);
    };
    // Compare the tree first: a missing directory is one damage, not one for each file in it.
    const verify_context tree(context.scratch(), report, [&context] { context.poll(); });
    compare_with_recipe(id, tree);
    auto from = pack(id);
    detail::hasher sum(id.value().algorithm());
    constexpr std::size_t size = 256 << 10;
    const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
    bool whole = true;
    for (bool over = false; !over;) {
        context.poll();
        try {
            const std::size_t count = from.read({buffer.get(), size});
            sum.update({buffer.get(), count});
            over = count == 0;
        } catch (const error& failure) {
            if (failure.code() != errc::diff_changed && failure.code() != boost::system::errc::io_error)
                throw;
            if (failure.entry().empty())
                throw;
            whole = false;
            if (!reported.covers(failure.entry()))
                report(failure.entry(), failure.detail().empty() ? failure.what() : failure.detail());
            from.leave_file();
        }
    }
    if (!whole)
        return;
    if (const digest found = sum.finish(); found != id.value())
        context.changed("", "its tar has " + found.string());
}

OVERMOUNT_DECL void on_disk_storage::compare_with_recipe(const diff_id& id, const verify_context& context) const
{
    const unique_fd file = diffs_.open(id, "recipe");
    const auto found = lower(id);
    unique_fd rootfs(detail::checked(::openat(found.fd->get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC), "open"));
    detail::skeleton wanted(context.scratch());
    try {
        wanted.unpack(detail::recipe_reader([&file](std::span<std::byte> into) {
                          return detail::read_some(file.get(), into, "read recipe");
                      }),
                      context);
    } catch (const error& failure) {
        // Unpacking these entries succeeded before, so a failure of our own rules means that the recipe has changed.
        if (failure.code().category() != error_category() || failure.code() == errc::unsupported_repository)
            throw;
        throw error(errc::invalid_asset).at(stage::storage).layer(id.string()).detail("its recipe is damaged");
    }
    detail::compare_trees(wanted.rootfs(), rootfs.get(), context);
    wanted.remove();
}

} // namespace overmount::OVERMOUNT_ABI

#endif

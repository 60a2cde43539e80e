// A place for a storage, and diffs to put there.
#ifndef OVERMOUNT_TESTS_CONFORMANCE_STORAGE_FIXTURE_HPP
#define OVERMOUNT_TESTS_CONFORMANCE_STORAGE_FIXTURE_HPP

#include <overmount/storage/storage_policy.hpp>

#include "support/scratch.hpp"
#include "support/tar_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <filesystem>
#include <set>
#include <string>

namespace overmount::test {

template <storage_policy Storage>
class storage_fixture
{
public:
    explicit storage_fixture(durability sync = durability::none)
        : diffs_(open("diffs")), tmp_(open("tmp")), staging_(open("tmp/import")),
          where_(diffs_.get(), tmp_.get(), sync), storage_(where_)
    {}

    [[nodiscard]] Storage& storage() noexcept { return storage_; }
    [[nodiscard]] int staging() const noexcept { return staging_.get(); }
    [[nodiscard]] storage_place where() const noexcept { return where_; }

    // Four entries, owned by whoever runs the test; `extra` more.
    [[nodiscard]] static std::string tar(const std::string& text = "text", unsigned extra = 0)
    {
        const tar_attributes own{.uid = ::geteuid(), .gid = ::getegid()};
        tar_writer out;
        out.directory("a", own).file("a/" + text, text + std::string(1000, '.'), own);
        out.symlink("a/link", text, own).hard_link("a/hard", "a/" + text, own);
        for (unsigned i = 0; i < extra; ++i)
            out.file(std::to_string(i), text, own);
        return out.finish();
    }
    [[nodiscard]] static diff_id id(const std::string& bytes = tar()) { return diff_id(digest::of(bytes)); }

    // May be called by several threads.
    [[nodiscard]] typename Storage::writer create(const limits& bounds = {})
    {
        const write_context context(staging_.get(), "layer-" + std::to_string(next_++), bounds);
        return storage_.create(context);
    }
    static void feed(typename Storage::writer& writer, const std::string& bytes,
                     std::size_t piece = std::string::npos)
    {
        for (std::size_t at = 0; at < bytes.size(); at += std::min(piece, bytes.size()))
            writer.write(std::as_bytes(std::span(bytes)).subspan(at, std::min(piece, bytes.size() - at)));
    }
    // The same by a writer that leaves work to others, all of which is done at the end.
    static void feed_late(typename Storage::writer& writer, const std::string& bytes, std::size_t piece)
        requires spreading_writer<typename Storage::writer>
    {
        std::deque<typename Storage::writer::deferred> rests;
        for (auto left = std::as_bytes(std::span(bytes)); !left.empty();) {
            auto part = left.first(std::min(left.size(), piece));
            left = left.subspan(part.size());
            while (!writer.write_part(part, rests.emplace_back())) {
            }
        }
        for (auto& rest : rests)
            rest.run();
    }
    diff_record put(const std::string& bytes)
    {
        auto writer = create();
        feed(writer, bytes);
        diff_record out = writer.finish();
        if (!writer.publish(id(bytes)))
            throw std::runtime_error("it was there already");
        return out;
    }

    // What writing these bytes fails with; nothing when it does not.
    [[nodiscard]] boost::system::error_code failure(const std::string& bytes, const limits& bounds = {})
    {
        try {
            auto writer = create(bounds);
            feed(writer, bytes);
            (void)writer.finish();
        } catch (const error& failed) {
            return failed.code();
        }
        return {};
    }
    [[nodiscard]] boost::system::error_code record_failure(const diff_id& unknown) const
    {
        try {
            (void)storage_.record(unknown);
        } catch (const error& failed) {
            return failed.code();
        }
        return {};
    }

    // All paths but those of the import's own staging directory.
    [[nodiscard]] std::set<std::string> outside() const
    {
        std::set<std::string> out;
        for (auto at = std::filesystem::recursive_directory_iterator(scratch_.path()); at != end(at); ++at) {
            if (at->path() == scratch_ / "tmp/import")
                at.disable_recursion_pending();
            out.insert(at->path().lexically_relative(scratch_.path()).string());
        }
        return out;
    }

private:
    unique_fd open(const char* name)
    {
        std::filesystem::create_directory(scratch_ / name);
        return unique_fd(::open((scratch_ / name).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }

    scratch_directory scratch_;
    unique_fd diffs_, tmp_, staging_;
    storage_place where_;
    Storage storage_;
    std::atomic<unsigned> next_ = 0;
};

} // namespace overmount::test

#endif

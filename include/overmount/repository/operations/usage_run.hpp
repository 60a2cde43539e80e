#ifndef OVERMOUNT_REPOSITORY_OPERATIONS_USAGE_RUN_HPP
#define OVERMOUNT_REPOSITORY_OPERATIONS_USAGE_RUN_HPP

#include <overmount/collect.hpp>
#include <overmount/repository/operations/collection_reader.hpp>
#include <overmount/repository/operations/run_for_each.hpp>
#include <overmount/repository/state.hpp>
#include <overmount/storage/tree_size.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace overmount::OVERMOUNT_ABI::detail {

// Measures a repository. Takes no lock: concurrent changes may or may not be counted.
template <storage_policy Storage>
class usage_run
{
public:
    using state = repository_state<Storage>;
    using pointer = std::shared_ptr<usage_run>;

    explicit usage_run(std::shared_ptr<state> owner) : repository_(std::move(owner)), reader_(repository_->records, repository_->bounds) {}

    [[nodiscard]] const usage_report& report() const noexcept { return report_; }

    static asio::awaitable<void> run(pointer self)
    {
        auto look = [self](const stop_flag& stop) { self->look(stop); };
        co_await run_on(self->repository_->pool, std::move(look));
        auto measure = [self](std::size_t i, const stop_flag& stop) { self->measure(i, stop); };
        co_await run_for_each(self->repository_->pool, self->all_.size(), 1, std::move(measure));
        auto sum = [self](const stop_flag&) { self->sum(); };
        co_await run_on(self->repository_->pool, std::move(sum));
    }

private:
    struct measured
    {
        std::optional<kept_thing> thing;
        std::string path;
        std::uint64_t bytes = 0;
    };

    void look(const stop_flag& stop)
    {
        const store& records = *repository_->records;
        reader_.read(stop);
        for (const kept_thing& one : reader_.marks().things())
            all_.push_back({one, path_of(one)});
        for (const std::string& id : list_directory(records.mounts(), "."))
            all_.push_back({std::nullopt, "mounts/" + id + "/upper"});
        uppers_end_ = all_.size();
        for (const std::string& name : list_directory(records.staging.fd(), "."))
            all_.push_back({std::nullopt, "tmp/" + name});
    }

    void measure(std::size_t i, const stop_flag& stop)
    {
        all_[i].bytes = tree_size(repository_->records->base_fd(), all_[i].path, [&stop] { stop.throw_if_stopped(); });
    }

    void sum()
    {
        std::unordered_map<kept_thing, std::uint64_t, kept_thing_hash> size;
        for (std::size_t i = 0; i < all_.size(); ++i) {
            const measured& one = all_[i];
            if (!one.thing) {
                (i < uppers_end_ ? report_.uppers : report_.leftovers) += one.bytes;
                continue;
            }
            size.emplace(*one.thing, one.bytes);
            if (one.thing->kind == kept_kind::diff || one.thing->kind == kept_kind::old_tree)
                report_.diffs += one.bytes;
            else if (one.thing->kind == kept_kind::manifest)
                report_.manifests += one.bytes;
            else if (one.thing->kind == kept_kind::blob)
                report_.blobs += one.bytes;
            if (reader_.marks().is_unneeded(*one.thing))
                report_.unneeded += one.bytes;
        }
        // How many users each object has: every image counts as one, and all leases together as one.
        std::unordered_map<kept_thing, std::size_t, kept_thing_hash> users;
        for (const auto& [id, diffs] : reader_.images())
            for (const kept_thing& one : reader_.marks().needs_of(id, diffs))
                ++users[one];
        for (const kept_thing& one : reader_.leased_things())
            ++users[one];
        for (const auto& [id, diffs] : reader_.images()) {
            usage_report::image image{id};
            for (const kept_thing& one : reader_.marks().needs_of(id, diffs)) {
                const auto found = size.find(one);
                const std::uint64_t bytes = found == size.end() ? 0 : found->second;
                image.bytes += bytes;
                (users[one] > 1 ? image.shared : image.own) += bytes;
            }
            report_.images.push_back(std::move(image));
        }
    }

    std::shared_ptr<state> repository_;
    collection_reader reader_;
    usage_report report_;
    std::vector<measured> all_;
    std::size_t uppers_end_ = 0;
};

} // namespace overmount::OVERMOUNT_ABI::detail

#endif

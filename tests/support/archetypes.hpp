// Models that offer what a concept asks for and nothing else: what compiles with them uses nothing
// undeclared. They do their work with the library's own models.
#ifndef OVERMOUNT_TESTS_SUPPORT_ARCHETYPES_HPP
#define OVERMOUNT_TESTS_SUPPORT_ARCHETYPES_HPP

#include <overmount/storage/on_disk/on_disk_storage.hpp>

namespace overmount::test {

class minimal_writer
{
public:
    explicit minimal_writer(on_disk_storage::writer real) noexcept : real_(std::move(real)) {}
    minimal_writer(minimal_writer&&) noexcept(false) = default;
    minimal_writer& operator=(minimal_writer&&) noexcept(false) = default;

    void write(std::span<const std::byte> bytes) { real_.write(bytes); }
    [[nodiscard]] diff_record finish() { return real_.finish(); }
    [[nodiscard]] bool publish(const diff_id& id) { return real_.publish(id); }

    void operator&() const = delete;

private:
    on_disk_storage::writer real_;
};

// Of the type that `form()` has, the concept says what it converts to.
class minimal_name
{
public:
    minimal_name(minimal_name&&) = delete;
    operator std::string_view() const noexcept { return on_disk_storage::form(); }

private:
    friend class minimal_storage;
    minimal_name() = default;
};

class minimal_storage
{
public:
    using writer = minimal_writer;

    explicit minimal_storage(storage_place place) : real_(place) {}
    minimal_storage(minimal_storage&&) = delete;

    [[nodiscard]] writer create(const write_context& context)
    {
        return minimal_writer(real_.create(context));
    }
    [[nodiscard]] bool contains(const diff_id& id) const { return real_.contains(id); }
    [[nodiscard]] diff_record record(const diff_id& id) const { return real_.record(id); }
    void erase(const diff_id& id) { real_.erase(id); }
    void make_durable(const diff_id& id, int staging, const std::function<void()>& poll) { real_.make_durable(id, staging, poll); }
    [[nodiscard]] static minimal_name form() { return {}; }

    void operator&() const = delete;

protected:
    on_disk_storage real_;
};

class minimal_mountable_storage : public minimal_storage
{
public:
    using minimal_storage::minimal_storage;
    [[nodiscard]] lower_directory lower(const diff_id& id) const { return real_.lower(id); }
};

} // namespace overmount::test

#endif

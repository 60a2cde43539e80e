// What a storage gives no tar of has no asset.
// expect: satisf[^\n]*packable_storage
#include <overmount/own_policies.hpp>
#include <overmount/repository.hpp>

struct trees
{
    struct writer
    {
        void write(std::span<const std::byte> bytes);
        overmount::diff_record finish();
        bool publish(const overmount::diff_id& id);
    };
    explicit trees(overmount::storage_place place);
    writer create(const overmount::write_context& context);
    bool contains(const overmount::diff_id& id) const;
    overmount::diff_record record(const overmount::diff_id& id) const;
    void erase(const overmount::diff_id& id);
    void make_durable(const overmount::diff_id& id, int, const std::function<void()>& poll);
    static std::string_view form();
};

auto use(const overmount::basic_repository<trees, overmount::no_mount>& repository, const overmount::diff_id& id)
{
#ifdef REJECT
    return repository.asset(id);
#else
    return repository.diff(id);
#endif
}

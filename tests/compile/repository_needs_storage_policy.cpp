// A storage whose writer does not say whether a diff was there already is none.
// expect: satisf[^\n]*storage_policy
#include <overmount/own_policies.hpp>
#include <overmount/repository.hpp>

#ifdef REJECT
using answer = void;
#else
using answer = bool;
#endif

struct tars
{
    struct writer
    {
        void write(std::span<const std::byte> bytes);
        overmount::diff_record finish();
        answer publish(const overmount::diff_id& id);
    };
    explicit tars(overmount::storage_place place);
    writer create(const overmount::write_context& context);
    bool contains(const overmount::diff_id& id) const;
    overmount::diff_record record(const overmount::diff_id& id) const;
    void erase(const overmount::diff_id& id);
    void make_durable(const overmount::diff_id& id, int, const std::function<void()>& poll);
    static std::string_view form();
};

auto use(const overmount::basic_repository<tars, overmount::no_mount>& repository)
{
    return repository.images();
}

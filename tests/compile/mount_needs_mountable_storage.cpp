// An image whose layers cannot be stacked has no mount().
// expect: satisf[^\n]*mountable_storage
#include <overmount/own_policies.hpp>
#include <overmount/repository.hpp>

struct tars
{
    struct writer
    {
        void write(std::span<const std::byte> bytes);
        overmount::diff_record finish();
        bool publish(const overmount::diff_id& id);
    };
    explicit tars(overmount::storage_place place);
    writer create(const overmount::write_context& context);
    bool contains(const overmount::diff_id& id) const;
    overmount::diff_record record(const overmount::diff_id& id) const;
    void erase(const overmount::diff_id& id);
    void make_durable(const overmount::diff_id& id, int, const std::function<void()>& poll);
    static std::string_view form();
};

auto use(const overmount::basic_repository<tars, overmount::overlay_mount>::image& image)
{
#ifdef REJECT
    return image.mount();
#else
    return image.layers();
#endif
}

// A repository that never mounts has images without mount().
// expect: satisf[^\n]*mount_policy
#include <overmount/own_policies.hpp>
#include <overmount/repository.hpp>

#ifdef REJECT
using policy = overmount::no_mount;
#else
using policy = overmount::overlay_mount;
#endif

auto use(const overmount::basic_repository<overmount::on_disk_storage, policy>::image& image)
{
    return image.mount();
}

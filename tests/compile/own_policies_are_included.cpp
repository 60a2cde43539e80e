// With separate compilation, the bodies for other policies come with a header, which the compiler names where it is forgotten.
// expect: static.assert[^\n]*include <overmount/own_policies\.hpp>
#include <overmount/overmount.hpp>
#ifndef REJECT
#include <overmount/own_policies.hpp>
#endif

auto use(const overmount::basic_repository<overmount::on_disk_storage, overmount::no_mount>& repository)
{
    return repository.images();
}

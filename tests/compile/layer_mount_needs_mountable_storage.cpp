// A layer that is kept as a tar has no mount().
// expect: satisf[^\n]*mountable_storage
#include <overmount/repository.hpp>

auto use(const overmount::virtual_repository::layer_type& layer)
{
#ifdef REJECT
    return layer.mount();
#else
    return layer.pack();
#endif
}

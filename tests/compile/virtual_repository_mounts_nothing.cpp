// An image of a virtual repository has no mount(): what is missing is the storage.
// expect: satisf[^\n]*mountable_storage
#include <overmount/repository.hpp>

auto use(const overmount::virtual_repository::image& image)
{
#ifdef REJECT
    return image.mount();
#else
    return image.layers();
#endif
}

// A chain ID and a diff ID are both digests, and are never taken for each other.
// expect: conver|cannot bind|no matching
#include <overmount/core/digest.hpp>

overmount::chain_id lowest(const overmount::diff_id& diff)
{
#ifdef REJECT
    return diff;
#else
    return overmount::chain_id::of(diff);
#endif
}

// There is no empty digest: an absent one is an empty optional.
// expect: no matching (function|constructor)
#include <overmount/core/digest.hpp>

#include <optional>

#ifdef REJECT
overmount::digest nothing;
#else
std::optional<overmount::digest> nothing;
#endif

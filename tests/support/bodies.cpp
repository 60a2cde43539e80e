// The one translation unit of a separate compilation.
#include <overmount/src.hpp>

// The templates of a repository that keeps tars, compiled once.
#include <overmount/own_policies.hpp>
#define OVERMOUNT_INSTANTIATE_VIRTUAL
#include <overmount/overmount.hpp>

// The templates of a repository that unpacks, compiled once.
#include <overmount/own_policies.hpp>
#define OVERMOUNT_INSTANTIATE_ON_DISK
#include <overmount/overmount.hpp>

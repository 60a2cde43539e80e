// The precompiled header of om: what all its parts include.
#ifndef OVERMOUNT_EXAMPLES_OM_PCH_OM_HPP
#define OVERMOUNT_EXAMPLES_OM_PCH_OM_HPP

#include <overmount/overmount.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#endif

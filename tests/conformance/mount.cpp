#include <overmount/mount/overlay_mount.hpp>

#define OVERMOUNT_MOUNTS overmount::overlay_mount
#include "conformance/mount_battery.hpp"

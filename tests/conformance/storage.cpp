#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>

#include "../examples/tar_storage.hpp"
#include "support/archetypes.hpp"

#define OVERMOUNT_MOUNTABLE_STORAGES overmount::on_disk_storage, overmount::test::minimal_mountable_storage
#define OVERMOUNT_STORAGES OVERMOUNT_MOUNTABLE_STORAGES, overmount::test::minimal_storage, tar_storage, overmount::virtual_storage
#define OVERMOUNT_PACKABLE_STORAGES overmount::on_disk_storage, overmount::virtual_storage
#define OVERMOUNT_INDEXED_STORAGES overmount::virtual_storage
#define OVERMOUNT_MARKABLE_STORAGES overmount::on_disk_storage, overmount::virtual_storage

#include "conformance/markable_storage_battery.hpp"
#include "conformance/mountable_storage_battery.hpp"
#include "conformance/packable_storage_battery.hpp"
#include "conformance/storage_battery.hpp"

// Everything but the parts that need more libraries.
#ifndef OVERMOUNT_OVERMOUNT_HPP
#define OVERMOUNT_OVERMOUNT_HPP

#include <overmount/asset.hpp>
#include <overmount/change.hpp>
#include <overmount/check.hpp>
#include <overmount/digest.hpp>
#include <overmount/error.hpp>
#include <overmount/exporter/archive_output.hpp>
#include <overmount/exporter/oci_layout_target.hpp>
#include <overmount/image.hpp>
#include <overmount/image_config.hpp>
#include <overmount/image_config_edit.hpp>
#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/oci_layout.hpp>
#include <overmount/limits.hpp>
#include <overmount/manifest.hpp>
#include <overmount/mount/no_mount.hpp>
#include <overmount/mount/overlay_mount.hpp>
#include <overmount/options.hpp>
#include <overmount/platform.hpp>
#include <overmount/reference.hpp>
#include <overmount/repository.hpp>
#include <overmount/storage/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>
#include <overmount/worker_pool.hpp>

#include <overmount/repository/instances.hpp>

#endif

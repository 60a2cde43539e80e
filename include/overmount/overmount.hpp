// Includes the whole library, except for the parts that need additional libraries.
#ifndef OVERMOUNT_OVERMOUNT_HPP
#define OVERMOUNT_OVERMOUNT_HPP

#include <overmount/asset.hpp>
#include <overmount/change.hpp>
#include <overmount/check.hpp>
#include <overmount/collect.hpp>
#include <overmount/codec/stream_decoder.hpp>
#include <overmount/core/digest.hpp>
#include <overmount/core/error.hpp>
#include <overmount/core/limits.hpp>
#include <overmount/core/platform.hpp>
#include <overmount/exporter/archive_output.hpp>
#include <overmount/exporter/oci_layout_target.hpp>
#include <overmount/image.hpp>
#include <overmount/importer/docker_archive.hpp>
#include <overmount/importer/layer_source.hpp>
#include <overmount/importer/oci_layout.hpp>
#include <overmount/io/resuming_stream.hpp>
#include <overmount/layer.hpp>
#include <overmount/lease.hpp>
#include <overmount/mount/mountinfo.hpp>
#include <overmount/mount/no_mount.hpp>
#include <overmount/mount/overlay_mount.hpp>
#include <overmount/mount/upper_reader.hpp>
#include <overmount/oci/image_config.hpp>
#include <overmount/oci/image_config_edit.hpp>
#include <overmount/oci/manifest.hpp>
#include <overmount/oci/reference.hpp>
#include <overmount/options.hpp>
#include <overmount/repository.hpp>
#include <overmount/runtime/worker_pool.hpp>
#include <overmount/storage/on_disk/on_disk_storage.hpp>
#include <overmount/storage/virtual_storage.hpp>
#include <overmount/tar/framing.hpp>
#include <overmount/tar/header.hpp>
#include <overmount/tar/path.hpp>
#include <overmount/tar/whiteout.hpp>
#include <overmount/tar/writer.hpp>
#include <overmount/task_group.hpp>

#include <overmount/repository/instances.hpp>

#endif

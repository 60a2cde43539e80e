// All bodies, for OVERMOUNT_SEPARATE_COMPILATION: include it in exactly one translation unit.
#ifndef OVERMOUNT_SRC_HPP
#define OVERMOUNT_SRC_HPP

#include <overmount/codec/impl/block_encoder.ipp>
#include <overmount/codec/impl/bzip2_decoder.ipp>
#include <overmount/codec/impl/crc32c.ipp>
#include <overmount/codec/impl/decoder.ipp>
#include <overmount/codec/impl/gzip_decoder.ipp>
#include <overmount/codec/impl/xz_decoder.ipp>
#include <overmount/codec/impl/zstd_decoder.ipp>
#include <overmount/core/impl/digest.ipp>
#include <overmount/core/impl/error.ipp>
#include <overmount/exporter/impl/archive_output.ipp>
#include <overmount/exporter/impl/documents.ipp>
#include <overmount/exporter/impl/oci_layout_target.ipp>
#include <overmount/importer/impl/archive.ipp>
#include <overmount/importer/impl/docker_archive.ipp>
#include <overmount/importer/impl/image_files.ipp>
#include <overmount/importer/impl/oci_layout.ipp>
#include <overmount/io/impl/asset_stream.ipp>
#include <overmount/io/impl/byte_sink.ipp>
#include <overmount/mount/impl/correction.ipp>
#include <overmount/mount/impl/mount_spec.ipp>
#include <overmount/mount/impl/mountinfo.ipp>
#include <overmount/mount/impl/overlay_mount.ipp>
#include <overmount/mount/impl/upper_reader.ipp>
#include <overmount/oci/impl/image_config.ipp>
#include <overmount/oci/impl/image_config_edit.ipp>
#include <overmount/oci/impl/manifest.ipp>
#include <overmount/oci/impl/reference.ipp>
#include <overmount/posix/impl/descriptor_turn.ipp>
#include <overmount/posix/impl/fs.ipp>
#include <overmount/repository/impl/asset.ipp>
#include <overmount/repository/records/impl/check.ipp>
#include <overmount/repository/impl/commit_run.ipp>
#include <overmount/repository/impl/image.ipp>
#include <overmount/repository/impl/repository.ipp>
#include <overmount/repository/records/impl/check_records.ipp>
#include <overmount/repository/records/impl/mount_table.ipp>
#include <overmount/repository/records/impl/store.ipp>
#include <overmount/runtime/impl/job.ipp>
#include <overmount/runtime/impl/semaphore.ipp>
#include <overmount/runtime/impl/step.ipp>
#include <overmount/runtime/impl/task_group.ipp>
#include <overmount/runtime/impl/thread_attributes.ipp>
#include <overmount/runtime/impl/worker_pool.ipp>
#include <overmount/storage/impl/diff_record.ipp>
#include <overmount/storage/impl/virtual_storage.ipp>
#include <overmount/storage/on_disk/impl/extractor.ipp>
#include <overmount/storage/on_disk/impl/on_disk_reader.ipp>
#include <overmount/storage/on_disk/impl/on_disk_storage.ipp>
#include <overmount/storage/on_disk/impl/on_disk_verify.ipp>
#include <overmount/storage/on_disk/impl/tree_compare.ipp>
#include <overmount/storage/on_disk/impl/unfinished_files.ipp>
#include <overmount/tar/impl/framing.ipp>
#include <overmount/tar/impl/header.ipp>
#include <overmount/tar/impl/index.ipp>
#include <overmount/tar/impl/libarchive.ipp>
#include <overmount/tar/impl/merged_tree.ipp>
#include <overmount/tar/impl/path.ipp>
#include <overmount/tar/impl/recipe.ipp>

// Last: the bodies may use names such as `image` for what is local to them.
#define OVERMOUNT_INSTANTIATE
#include <overmount/overmount.hpp>

#endif

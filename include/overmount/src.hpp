// All bodies, for OVERMOUNT_SEPARATE_COMPILATION: include it in exactly one translation unit.
#ifndef OVERMOUNT_SRC_HPP
#define OVERMOUNT_SRC_HPP

#include <overmount/impl/archive.ipp>
#include <overmount/impl/archive_output.ipp>
#include <overmount/impl/asset.ipp>
#include <overmount/impl/asset_stream.ipp>
#include <overmount/impl/block_encoder.ipp>
#include <overmount/impl/byte_sink.ipp>
#include <overmount/impl/bzip2_decoder.ipp>
#include <overmount/impl/check.ipp>
#include <overmount/impl/check_records.ipp>
#include <overmount/impl/commit_run.ipp>
#include <overmount/impl/correction.ipp>
#include <overmount/impl/crc32c.ipp>
#include <overmount/impl/decoder.ipp>
#include <overmount/impl/diff_record.ipp>
#include <overmount/impl/digest.ipp>
#include <overmount/impl/docker_archive.ipp>
#include <overmount/impl/documents.ipp>
#include <overmount/impl/error.ipp>
#include <overmount/impl/descriptor_turn.ipp>
#include <overmount/impl/extractor.ipp>
#include <overmount/impl/unfinished_files.ipp>
#include <overmount/impl/framing.ipp>
#include <overmount/impl/fs.ipp>
#include <overmount/impl/gzip_decoder.ipp>
#include <overmount/impl/header.ipp>
#include <overmount/impl/image.ipp>
#include <overmount/impl/image_config.ipp>
#include <overmount/impl/image_config_edit.ipp>
#include <overmount/impl/image_files.ipp>
#include <overmount/impl/index.ipp>
#include <overmount/impl/job.ipp>
#include <overmount/impl/libarchive.ipp>
#include <overmount/impl/manifest.ipp>
#include <overmount/impl/merged_tree.ipp>
#include <overmount/impl/mount_spec.ipp>
#include <overmount/impl/mount_table.ipp>
#include <overmount/impl/mountinfo.ipp>
#include <overmount/impl/oci_layout.ipp>
#include <overmount/impl/oci_layout_target.ipp>
#include <overmount/impl/on_disk_reader.ipp>
#include <overmount/impl/on_disk_storage.ipp>
#include <overmount/impl/on_disk_verify.ipp>
#include <overmount/impl/overlay_mount.ipp>
#include <overmount/impl/path.ipp>
#include <overmount/impl/recipe.ipp>
#include <overmount/impl/reference.ipp>
#include <overmount/impl/repository.ipp>
#include <overmount/impl/semaphore.ipp>
#include <overmount/impl/step.ipp>
#include <overmount/impl/store.ipp>
#include <overmount/impl/task_group.ipp>
#include <overmount/impl/tree_compare.ipp>
#include <overmount/impl/upper_reader.ipp>
#include <overmount/impl/virtual_storage.ipp>
#include <overmount/impl/worker_pool.ipp>
#include <overmount/impl/xz_decoder.ipp>
#include <overmount/impl/zstd_decoder.ipp>

// Last: the bodies may use names such as `image` for what is local to them.
#define OVERMOUNT_INSTANTIATE
#include <overmount/overmount.hpp>

#endif

// The bodies below storage/, storage/on_disk/, repository/records/, compiled once.
#include <overmount/storage/impl/diff_record.ipp>
#include <overmount/storage/impl/virtual_storage.ipp>
#include <overmount/storage/on_disk/impl/extractor.ipp>
#include <overmount/storage/on_disk/impl/on_disk_reader.ipp>
#include <overmount/storage/on_disk/impl/on_disk_storage.ipp>
#include <overmount/storage/on_disk/impl/on_disk_verify.ipp>
#include <overmount/storage/on_disk/impl/tree_compare.ipp>
#include <overmount/storage/on_disk/impl/unfinished_files.ipp>
#include <overmount/repository/records/impl/check.ipp>
#include <overmount/repository/records/impl/check_records.ipp>
#include <overmount/repository/records/impl/mount_table.ipp>
#include <overmount/repository/records/impl/store.ipp>

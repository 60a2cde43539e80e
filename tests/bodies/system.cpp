// The bodies below posix/, mount/, compiled once.
#include <overmount/posix/impl/descriptor_budget.ipp>
#include <overmount/posix/impl/file_range.ipp>
#include <overmount/posix/impl/fs.ipp>
#include <overmount/mount/impl/correction.ipp>
#include <overmount/mount/impl/mount_lookup.ipp>
#include <overmount/mount/impl/mount_spec.ipp>
#include <overmount/mount/impl/mountinfo.ipp>
#include <overmount/mount/impl/overlay_mount.ipp>
#include <overmount/mount/impl/upper_reader.ipp>

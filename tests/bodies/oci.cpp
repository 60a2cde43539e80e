// The bodies below oci/, compiled once.
#include <overmount/oci/impl/image_config.ipp>
#include <overmount/oci/impl/image_config_edit.ipp>
#include <overmount/oci/impl/manifest.ipp>
#include <overmount/oci/impl/reference.ipp>

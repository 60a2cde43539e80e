// The bodies below importer/, exporter/, compiled once.
#include <overmount/importer/impl/archive.ipp>
#include <overmount/importer/impl/archive_pass.ipp>
#include <overmount/importer/impl/archive_reader.ipp>
#include <overmount/importer/impl/docker_archive.ipp>
#include <overmount/importer/impl/image_files.ipp>
#include <overmount/importer/impl/oci_layout.ipp>
#include <overmount/exporter/impl/archive_output.ipp>
#include <overmount/exporter/impl/documents.ipp>
#include <overmount/exporter/impl/oci_layout_target.ipp>

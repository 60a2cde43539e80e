// The bodies below core/, codec/, compiled once.
#include <overmount/core/impl/digest.ipp>
#include <overmount/core/impl/error.ipp>
#include <overmount/codec/impl/block_encoder.ipp>
#include <overmount/codec/impl/bzip2_decoder.ipp>
#include <overmount/codec/impl/crc32c.ipp>
#include <overmount/codec/impl/decoder.ipp>
#include <overmount/codec/impl/gzip_decoder.ipp>
#include <overmount/codec/impl/xz_decoder.ipp>
#include <overmount/codec/impl/zstd_decoder.ipp>

// The bodies below tar/, compiled once.
#include <overmount/tar/impl/framing.ipp>
#include <overmount/tar/impl/header.ipp>
#include <overmount/tar/impl/index.ipp>
#include <overmount/tar/impl/libarchive.ipp>
#include <overmount/tar/impl/lookup.ipp>
#include <overmount/tar/impl/merged_tree.ipp>
#include <overmount/tar/impl/path.ipp>
#include <overmount/tar/impl/recipe.ipp>

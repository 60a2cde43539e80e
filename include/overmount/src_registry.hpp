// All function bodies of `overmount/registry.hpp`, for OVERMOUNT_SEPARATE_COMPILATION: include it in exactly one translation unit.
#ifndef OVERMOUNT_SRC_REGISTRY_HPP
#define OVERMOUNT_SRC_REGISTRY_HPP

#include <overmount/registry/impl/base64.ipp>
#include <overmount/registry/impl/challenge.ipp>
#include <overmount/registry/impl/client.ipp>
#include <overmount/registry/impl/connection.ipp>
#include <overmount/registry/impl/connection_pool.ipp>
#include <overmount/registry/impl/credentials.ipp>
#include <overmount/registry/impl/document.ipp>
#include <overmount/registry/impl/endpoint.ipp>
#include <overmount/registry/impl/exchange.ipp>
#include <overmount/registry/impl/host_memory.ipp>
#include <overmount/registry/impl/link_header.ipp>
#include <overmount/registry/impl/mirrors.ipp>
#include <overmount/registry/impl/range_answer.ipp>
#include <overmount/registry/impl/redirect.ipp>
#include <overmount/registry/impl/registry_image.ipp>
#include <overmount/registry/impl/registry_login.ipp>
#include <overmount/registry/impl/retry.ipp>
#include <overmount/registry/impl/short_name.ipp>
#include <overmount/registry/impl/token_request.ipp>
#include <overmount/registry/impl/url.ipp>
#include <overmount/registry/settings/impl/auth_file.ipp>
#include <overmount/registry/settings/impl/auth_files.ipp>
#include <overmount/registry/settings/impl/certs_directory.ipp>
#include <overmount/registry/settings/impl/credential_helper.ipp>
#include <overmount/registry/settings/impl/host_settings.ipp>
#include <overmount/registry/settings/impl/hosts_toml.ipp>
#include <overmount/registry/settings/impl/proxy.ipp>
#include <overmount/registry/settings/impl/registries_conf.ipp>
#include <overmount/registry/settings/impl/toml.ipp>

#endif

# Sourced: installs Debian packages that are missing. As a user it says what to install and stops.
# shellcheck shell=bash

# need_packages PACKAGE...
need_packages()
{
    if ! command -v dpkg-query >/dev/null; then
        echo "This is no Debian system: the names of what is needed there are: $*" >&2
        return 0
    fi
    local package missing=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$(id -u)" -ne 0 ]; then
        printf 'Please install what is missing, as root, and start again:\n  apt-get install %s\n' "${missing[*]}" >&2
        exit 1
    fi
    echo "Installing: ${missing[*]}"
    local log
    log=$(mktemp)
    # A fresh system has no package lists yet; an old list is renewed only when it does not do.
    if ! apt_install "${missing[@]}" >"$log" 2>&1; then
        if ! { apt-get update && apt_install "${missing[@]}"; } >"$log" 2>&1; then
            cat "$log" >&2
            rm -f "$log"
            exit 1
        fi
    fi
    rm -f "$log"
}

apt_install()
{
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# The Boost of Debian 12 is too old without a number.
boost_package=libboost-dev
if grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release; then
    boost_package=libboost1.81-dev
fi
# What overmount itself and om are built from.
build_packages=(g++ meson ninja-build pkg-config "$boost_package" libarchive-dev libssl-dev zlib1g-dev libzstd-dev
    libisal-dev liblzma-dev libbz2-dev nlohmann-json3-dev libcli11-dev)
# What the tests use besides.
test_packages=(catch2 cmake python3 strace skopeo umoci crun jq libarchive-tools attr acl busybox-static tar gzip zstd
    pigz mount time xz-utils bzip2 e2fsprogs xfsprogs docker-registry apache2-utils openssl)
# What the long test of power cuts uses besides.
powercut_packages=(btrfs-progs)

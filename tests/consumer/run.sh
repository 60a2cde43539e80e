#!/usr/bin/env bash
# Builds a three-line program against overmount in each of the ways that we offer, and runs it.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
root=$(readlink -f "$here/../..")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export PKG_CONFIG_PATH=$scratch/prefix/share/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
empty=sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

check()
{
    [ "$("$2")" = "$empty" ] || { echo "$1: the program does not give the digest of nothing" >&2; exit 1; }
    echo "$1: ok"
}

meson setup "$scratch/overmount" "$root" --prefix="$scratch/prefix" -Dtests=false -Dexamples=false >"$scratch/log" ||
    { cat "$scratch/log"; exit 1; }
meson install -C "$scratch/overmount" >"$scratch/log"

"$here/pkgconfig/build.sh" "$scratch/by-pkgconfig"
check pkg-config "$scratch/by-pkgconfig"

cmake -S "$here/cmake" -B "$scratch/cmake" -DCMAKE_PREFIX_PATH="$scratch/prefix" >"$scratch/log" 2>&1 &&
    cmake --build "$scratch/cmake" --parallel >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
check CMake "$scratch/cmake/consumer"
[ "$("$scratch/cmake/registry_consumer")" = docker.io/library/busybox:latest ] || { echo "CMake: the registry does not work" >&2; exit 1; }
if ldd "$scratch/cmake/consumer" | grep -q libssl; then echo "CMake: a program without the registry has libssl" >&2; exit 1; fi

# As a subproject of meson; nothing is installed for this one.
unset PKG_CONFIG_PATH
mkdir -p "$scratch/meson/subprojects"
cp "$here/meson/meson.build" "$here/main.cpp" "$scratch/meson"
ln -s "$root" "$scratch/meson/subprojects/overmount"
{ meson setup "$scratch/meson/build" "$scratch/meson" && ninja -C "$scratch/meson/build"; } >"$scratch/log" 2>&1 ||
    { cat "$scratch/log"; exit 1; }
check "meson subproject" "$scratch/meson/build/consumer"

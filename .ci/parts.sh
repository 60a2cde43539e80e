# Sourced by run and nightly: parts that are timed, reported and remembered when they fail.
# shellcheck shell=bash
. tests/support/packages.sh
export LC_ALL=C.UTF-8
scratch=$(mktemp -d /tmp/overmount-ci.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
failed=()

# part NAME COMMAND...: runs it, says how long it took, remembers a failure and goes on.
part()
{
    local name=$1 started=$SECONDS status=0
    shift
    echo "=== $name"
    "$@" || status=$?
    [ $status -eq 0 ] || failed+=("$name")
    echo "=== $name: $([ $status -eq 0 ] && echo ok || echo FAILED), $((SECONDS - started)) s"
}

# Prints what the command says only when it fails.
quietly()
{
    "$@" >"$scratch/quiet.log" 2>&1 || { tail -60 "$scratch/quiet.log"; return 1; }
}

# make_images NAME...: below $scratch/images.
make_images()
{
    ONLY="$*" ../shared/images/mkimages.sh "$scratch/images" >"$scratch/images.log" 2>&1 ||
        { tail -20 "$scratch/images.log"; return 1; }
}

# Installs what all parts need, and names the images for the integration tests.
prepare()
{
    (need_packages "${build_packages[@]}" "${test_packages[@]}" clang-19 libclang-rt-19-dev ccache \
        libbenchmark-dev) || exit 1
    if [ -n "${OVERMOUNT_IMAGES:-}" ]; then
        export OVERMOUNT_IMAGES
    elif [ -x ../shared/images/mkimages.sh ]; then
        part "images" make_images small manylayers odd
        export OVERMOUNT_IMAGES=$scratch/images
    fi
}

# The time and the failures; the status is that of the whole.
report()
{
    echo "In all: $((SECONDS / 60)) min $((SECONDS % 60)) s"
    local name
    for name in "${failed[@]+"${failed[@]}"}"; do
        echo "FAILED: $name"
    done
    [ ${#failed[@]} -eq 0 ]
}

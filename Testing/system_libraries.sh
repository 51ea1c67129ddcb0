#!/bin/sh
# Off-screen rendering, Qt and the packaging test need a few system libraries and CMake.
# On Debian as root they are installed; elsewhere what is missing is named.
set -eu
packages="libegl1 libgl1 libgl1-mesa-dri libegl-mesa0 libxkbcommon0 libdbus-1-3 libfontconfig1 fonts-dejavu-core cmake"

missing=""
have_library() { ldconfig -p 2>/dev/null | grep -q "$1"; }
have_library libEGL.so.1 || missing="$missing libegl1 libegl-mesa0"
have_library libGL.so.1 || missing="$missing libgl1"
have_library libxkbcommon.so.0 || missing="$missing libxkbcommon0"
have_library libdbus-1.so.3 || missing="$missing libdbus-1-3"
have_library libfontconfig.so.1 || missing="$missing libfontconfig1 fonts-dejavu-core"
ls /usr/lib/*/libgallium*.so /usr/lib/*/dri/swrast_dri.so >/dev/null 2>&1 || missing="$missing libgl1-mesa-dri"
command -v cmake >/dev/null || missing="$missing cmake"
[ -z "$missing" ] && exit 0
case "$(uname -s)" in Linux) ;; *) exit 0 ;; esac

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing system libraries:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
    echo "Missing system libraries (Debian names):$missing" >&2
    echo "Tests that render pictures will fail until they are installed, for example with:" >&2
    echo "  sudo apt-get install --no-install-recommends $packages" >&2
fi

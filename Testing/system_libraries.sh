#!/bin/sh
# Off-screen rendering, Qt and the packaging test need a few system libraries and CMake; reports are opened in a browser.
# On Debian as root they are installed; elsewhere what is missing is named.
set -eu
[ "$(uname -s)" = Linux ] || exit 0

missing=""
need_library() { # file, packages
    ldconfig -p 2>/dev/null | grep -q "$1" || missing="$missing $2"
}
need_library libEGL.so.1 "libegl1 libegl-mesa0"
need_library libGL.so.1 libgl1
need_library libxkbcommon.so.0 libxkbcommon0
need_library libdbus-1.so.3 libdbus-1-3
need_library libfontconfig.so.1 "libfontconfig1 fonts-dejavu-core"
need_library libglib-2.0.so.0 libglib2.0-0
ls /usr/lib/*/libgallium*.so /usr/lib/*/dri/swrast_dri.so >/dev/null 2>&1 || missing="$missing libgl1-mesa-dri"
command -v cmake >/dev/null || missing="$missing cmake"
command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || command -v google-chrome >/dev/null ||
    missing="$missing chromium-headless-shell"
[ -z "$missing" ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing system libraries:$missing"
    apt-get update -qq
    # Debian 13 and Ubuntu 24.04 call it libglib2.0-0t64.
    if apt-cache show libglib2.0-0t64 >/dev/null 2>&1; then
        missing=$(echo "$missing" | sed 's/libglib2.0-0\b/libglib2.0-0t64/')
    fi
    # Ubuntu has none that works in a container: tests that need a browser are skipped there.
    apt-cache show chromium-headless-shell >/dev/null 2>&1 ||
        missing=$(echo "$missing" | sed 's/ chromium-headless-shell//')
    [ -z "$missing" ] && exit 0
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "Missing system libraries (Debian names):$missing" >&2
    echo "Tests that render pictures fail, and those with a browser are skipped, until they are installed, for example with:" >&2
    echo "  sudo apt-get install --no-install-recommends$missing" >&2
fi

#!/usr/bin/env bash
# Builds speedtrap-device for a 64-bit Raspberry Pi (Raspberry Pi OS 12 or Debian 12, or later) on a PC.
#
#   deploy/device/build-aarch64.sh            prints the path of the program
#   deploy/device/build-aarch64.sh --size     and its size
#   deploy/device/build-aarch64.sh --fetch    builds nothing, but fetches what it lacks
#
# It takes the Rust of rustup if that has the target (rustup target add aarch64-unknown-linux-gnu). Otherwise, on Debian 12 for
# amd64, it unpacks Debian's rustc-web and its standard library for arm64 into a folder of its own under target/, without
# installing anything. That is Rust 1.85, the oldest that the device promises to build with. Either way it needs the C compiler
# and headers for arm64, since the TLS library has some C: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=aarch64-unknown-linux-gnu
# Both must be the same version, and Debian's security suite has newer ones for amd64 alone.
rust=1.85.0+dfsg3-1~deb12u3
folder=${CARGO_TARGET_DIR:-target}/rust-aarch64

stop() { # WHY NEXT
    echo "build-aarch64: $1" >&2
    echo "  next: $2" >&2
    exit 1
}

unpack_rust() {
    command -v apt-get > /dev/null || stop "there is neither the Rust target $target nor apt-get" "rustup target add $target"
    [ "$(dpkg --print-architecture)" = amd64 ] || stop "Debian's packages are taken on amd64 only" "rustup target add $target"
    rm -rf "$folder"
    mkdir -p "$folder"/{lists/partial,archives/partial,debs,root}
    local at
    at=$(cd "$folder" && pwd)
    # Lists of its own, so that neither root nor a foreign architecture is needed.
    local apt=(apt-get -q -o "Dir::State::lists=$at/lists" -o "Dir::Cache=$at" -o APT::Sandbox::User=root
        -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64)
    "${apt[@]}" update >&2
    (
        cd "$at/debs"
        "${apt[@]}" download "rustc-web:amd64=$rust" "libstd-rust-web-1.85:amd64=$rust" "libstd-rust-web-dev:amd64=$rust" \
            "libstd-rust-web-dev:arm64=$rust" libllvm19:amd64 >&2
        for package in *.deb; do dpkg-deb -x "$package" "$at/root"; done
    )
    rm -rf "$at"/{lists,archives,debs} "$at"/*.bin
    cat > "$at/rustc" << WRAPPER
#!/bin/sh
LD_LIBRARY_PATH=$at/root/usr/lib/x86_64-linux-gnu exec "$at/root/usr/bin/rustc" "\$@"
WRAPPER
    chmod +x "$at/rustc"
    "$at/rustc" --version > "$at/ready"
}

# ring's C code includes <stdint.h>; without the headers the compiler would take those of this machine.
echo '#include <stdint.h>' | aarch64-linux-gnu-gcc -E - > /dev/null 2>&1 ||
    stop "there is no C compiler with headers for arm64" "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"

sysroot=$(rustc --print sysroot 2> /dev/null || true)
if [ -z "$sysroot" ] || [ ! -d "$sysroot/lib/rustlib/$target" ] || [ -n "${SPEEDTRAP_DEBIAN_RUST:-}" ]; then
    [ -e "$folder/ready" ] || unpack_rust
    RUSTC=$(cd "$folder" && pwd)/rustc
    export RUSTC
    echo "build-aarch64: with $(cat "$folder/ready")" >&2
fi
[ "${1:-}" != --fetch ] || exit 0
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
cargo build --locked --profile device --package speedtrap-device --features pi --target "$target" >&2

program=${CARGO_TARGET_DIR:-target}/$target/device/speedtrap-device
echo "$program"
[ "${1:-}" != --size ] || echo "$(stat -c %s "$program") bytes"

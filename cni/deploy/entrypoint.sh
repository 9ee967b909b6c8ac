#!/bin/sh
# Starts the daemon in a container that is not privileged. There the runtime has mounted /proc/sys read
# only; the daemon switches forwarding on and IPv6 off on its veth ends, so this mount, which only this
# container sees, is made writable (needs CAP_SYS_ADMIN, which the daemon needs anyway, and no AppArmor
# profile that denies mounts). The first process hands on signals, and takes the exit codes of plugins'
# children whose parents are gone (native/plugin/init.cc).
set -eu
[ -w /proc/sys/net/ipv4/ip_forward ] || mount -o remount,bind,rw /proc/sys
root=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
# The size of V8's young generation: cni/bin/hawser.mjs says why.
exec "$root/build/Release/hawser" --init \
  "$root/node_modules/.bin/node" --max-semi-space-size=2 "$root/cni/cli/main.ts" daemon "$@"

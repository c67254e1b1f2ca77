#!/bin/bash
# Boots systemd over a throw-away copy of this machine: first process of namespaces of its own, nothing enabled, no network of its own.
# usage: unshare --fork --pid --mount --uts --ipc --cgroup --kill-child boot_systemd.sh FOLDER PROGRAM
set -euo pipefail
folder=$1 program=$2
mount --make-rprivate /
mkdir "$folder/machine"
mount -t tmpfs tmpfs "$folder/machine"
mkdir "$folder"/machine/{upper,work,root}
root=$folder/machine/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/machine/upper,workdir=$folder/machine/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t sysfs -o ro sysfs "$root/sys"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
fi
for place in run tmp; do mount -t tmpfs tmpfs "$root/$place"; done
rm -rf "$root"/etc/systemd/system/* "$root"/{usr/,}lib/systemd/system/{multi-user,sysinit,sockets,timers}.target.wants
echo node-1 > "$root/etc/hostname"
hostname node-1
mkdir -p "$root/run/shared" "$root/etc/speedtrap"
mount --bind "$folder/shared" "$root/run/shared"
touch "$root/usr/local/bin/speedtrap"
mount --bind "$program" "$root/usr/local/bin/speedtrap"
cp -r "$folder"/shared/etc/. "$root/etc/"
# Not chroot, in which no process may make the user namespace that the unit asks for.
cd "$root"
pivot_root . mnt
umount -l /mnt
export container=other
exec /usr/lib/systemd/systemd --system --unit=basic.target --log-target=console --log-level=warning --show-status=no

#!/bin/bash
# machine.sh ROOT AGENT WHAT CMDLINE: boots a machine, WHAT is its network or all of it: an initramfs below ROOT, of the real
# scripts, in mount, PID and UTS namespaces of its own; its network is the caller's. What would touch the host is covered:
# SysRq, sysctl, the kernel's log, disks. ROOT/run and ROOT/dev/console are what it leaves.
set -euo pipefail
root=$1 agent=$2 what=$3 cmdline=$4 here=$(dirname "$0")
mkdir -p "$root"/{usr,sbin,proc,sys,dev,run,conf/conf.d,tmp,etc,scripts}
cp -r /usr/share/initramfs-tools/scripts/. "$here/../../initramfs/scripts/." "$root/scripts/"
for link in bin lib lib64; do ln -sfn "usr/$link" "$root/$link"; done
mount --rbind /usr "$root/usr"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
for covered in block class/block class/tty; do mount -t tmpfs tmpfs "$root/sys/$covered"; done
echo "$cmdline" >"$root/conf/cmdline"
mount --bind "$root/conf/cmdline" "$root/proc/cmdline"
if [ -e "$root/proc/sysrq-trigger" ]; then
	: >"$root/conf/sysrq" && mount --bind "$root/conf/sysrq" "$root/proc/sysrq-trigger"
fi
mount --bind "$root/proc/sys" "$root/proc/sys" && mount -o remount,bind,ro "$root/proc/sys"
for device in null zero urandom random; do : >"$root/dev/$device" && mount --bind "/dev/$device" "$root/dev/$device"; done
: >"$root/dev/console" && rm -f "$root/dev/kmsg" && mkfifo "$root/dev/kmsg"
exec 9<>"$root/dev/kmsg"
cat <&9 >"$root/conf/kmsg" &
cp "$here/init.sh" "$root/init"
: >"$root/sbin/testbox-agent" && mount --bind "$agent" "$root/sbin/testbox-agent"
exec chroot "$root" /usr/bin/busybox sh /init "$what"

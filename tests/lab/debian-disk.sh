#!/bin/bash
# Makes the disk of a testbox: GPT, an ESP that it boots from (see debian-esp.sh), and a Debian on ext4, XFS or btrfs.
# Usage: debian-disk.sh FILE-SYSTEM TAR-OF-debian-root.sh DISK-IMAGE ARCHITECTURE LOADER
set -euo pipefail
kind=$1 tar=$2 disk=$3 arch=$4 loader=$5 work=$3.d loop=''
cleanup() {
  umount -q "$work/root" 2>/dev/null || true
  [ -z "$loop" ] || losetup -d "$loop"
  rm -rf "$work"
}
trap cleanup EXIT
mkdir -p "$work/root"
truncate -s 800M "$disk"
sgdisk --clear --new=1:2048:+64M --typecode=1:ef00 --change-name=1:esp --attributes=1:set:2 \
  --new=2:0:0 --typecode=2:8300 --change-name=2:own-root "$disk" >/dev/null
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$disk" conv=notrunc status=none
read -r first last < <(sgdisk -i 2 "$disk" | awk '/First sector/ {f = $3} /Last sector/ {print f, $3}')
loop=$(losetup --find --show --offset $((first * 512)) --sizelimit $(((last - first + 1) * 512)) "$disk")
case $kind in
ext4) mkfs.ext4 -q -L own-root -E lazy_itable_init=0,lazy_journal_init=0 "$loop" ;;
*) "mkfs.$kind" -q -L own-root "$loop" ;;
esac
mount -t "$kind" "$loop" "$work/root"
tar --numeric-owner --xattrs -C "$work/root" -xf "$tar"
"${0%disk.sh}esp.sh" "$work/root" "$disk" "$arch" "$loader"
umount "$work/root"

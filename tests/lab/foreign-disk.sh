#!/bin/bash
# Makes a data disk whose filesystems come from their own tools: MBR, NTFS and FAT, with files in both.
# Usage: foreign-disk.sh DISK-IMAGE
set -euo pipefail
disk=$1
trap 'rm -f "$disk.ntfs" "$disk.file"' EXIT
rm -f "$disk" "$disk.ntfs" && truncate -s 96M "$disk" && truncate -s 48M "$disk.ntfs"
printf '%s\n' 'label: dos' 'start=1M, size=48M, type=7' 'start=49M, size=46M, type=c' | sfdisk --quiet "$disk"
mkntfs --quick --force --quiet --label OWN-NTFS --partition-start 2048 "$disk.ntfs"
mkfs.vfat -F 32 -s 1 -n OWN-FAT --offset $((49 * 2048)) "$disk" $((46 * 1024)) >/dev/null
for n in 1 2 3; do
  seq "$n" 200000 >"$disk.file"
  ntfscp --quiet "$disk.ntfs" "$disk.file" "numbers-$n.txt"
  mcopy -i "$disk@@49M" "$disk.file" "::/numbers-$n.txt"
done
dd if="$disk.ntfs" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none

#!/bin/bash
# Makes a disk as Windows 10 lays it out: ESP, reserved (MSR), its NTFS, recovery at the end. No Windows is in it: in the place
# of its loader is Debian's GRUB, which says WINDOWS-LIKE-BOOTED and switches the machine off. Usage: windows-disk.sh DISK-IMAGE
set -euo pipefail
disk=$1 work=$1.d
trap 'rm -rf "$work"' EXIT
mkdir "$work" && truncate -s 400M "$disk"
# Attributes of the recovery partition: required, no drive letter (bits 0 and 63), as diskpart's documentation says.
sgdisk --clear --new=1:2048:+100M --typecode=1:ef00 --change-name=1:'EFI system partition' \
  --new=2:0:+16M --typecode=2:0c01 --change-name=2:'Microsoft reserved partition' \
  --new=3:0:+200M --typecode=3:0700 --change-name=3:'Basic data partition' \
  --new=4:0:0 --typecode=4:2700 --attributes=4:set:0 --attributes=4:set:63 "$disk" >/dev/null
mkfs.vfat -F 32 -s 1 -n SYSTEM --offset 2048 "$disk" $((100 * 1024)) >/dev/null
(cd "$work" && apt-get download -qq grub-efi-amd64-signed && dpkg -x ./*.deb x)
mmd -i "$disk@@1M" ::/EFI ::/EFI/Microsoft ::/EFI/Microsoft/Boot ::/EFI/debian
mcopy -i "$disk@@1M" "$work/x/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed" ::/EFI/Microsoft/Boot/bootmgfw.efi
printf 'terminal_output console\necho WINDOWS-LIKE-BOOTED\nsleep 2\nhalt\n' >"$work/cfg"
mcopy -i "$disk@@1M" "$work/cfg" ::/EFI/debian/grub.cfg
for n in 3 4; do
  read -r first last < <(sgdisk -i $n "$disk" | awk '/First sector/ {f = $3} /Last sector/ {print f, $3}')
  truncate -s $(((last - first + 1) * 512)) "$work/ntfs"
  mkntfs --quick --force --quiet --label "VOLUME-$n" --partition-start "$first" "$work/ntfs"
  seq "$n" 400000 >"$work/numbers" && ntfscp --quiet "$work/ntfs" "$work/numbers" "numbers-$n.txt"
  dd if="$work/ntfs" of="$disk" bs=512 seek="$first" conv=notrunc,sparse status=none && rm "$work/ntfs"
done

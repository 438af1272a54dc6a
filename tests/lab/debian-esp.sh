#!/bin/bash
# Makes the ESP of debian-disk.sh's disk. Usage: debian-esp.sh ROOT DISK-IMAGE ARCHITECTURE LOADER
# LOADER grub: shim and GRUB, and SYSLINUX for BIOS; systemd-boot: that alone. Kernel and initrd lie on it: SYSLINUX reads no
# XFS or btrfs of today. By shim's fallback (fb….efi) and its list, a firmware without an entry for this disk makes one.
set -euo pipefail
root=$1 disk=$2 arch=$3 loader=$4 work=$2.esp
trap 'rm -rf "$work"' EXIT
mkdir "$work"
mkfs.vfat -F 32 -s 1 -n OWN-ESP --offset 2048 "$disk" $((64 * 1024)) >/dev/null
case $arch in
arm64) cpu=aa64 grub=arm64-efi console='console=ttyAMA0' ;;
# no_timer_check: on a busy host a guest may miss timer interrupts, and its kernel panic.
*) cpu=x64 grub=x86_64-efi console='console=ttyS0,115200 no_timer_check' ;;
esac
put() { mcopy -i "$disk@@1M" "$1" "::/$2"; }
options="root=LABEL=own-root quiet console=tty0 $console systemd.volatile=state"
for file in vmlinuz initrd.img; do put "$root/$file" "$file"; done
mmd -i "$disk@@1M" ::/EFI ::/EFI/BOOT ::/EFI/debian ::/EFI/systemd ::/loader ::/loader/entries
if [ "$loader" = systemd-boot ]; then
  for to in systemd/systemd-bootx64.efi BOOT/BOOTX64.EFI; do put /usr/lib/systemd/boot/efi/systemd-bootx64.efi "EFI/$to"; done
  printf 'title own\nlinux /vmlinuz\ninitrd /initrd.img\noptions %s ro\n' "$options" >"$work/own.conf"
  echo 'timeout 0' >"$work/loader.conf"
  put "$work/loader.conf" loader/ && put "$work/own.conf" loader/entries/
  exit
fi
printf 'insmod all_video\nlinux /vmlinuz %s ro\ninitrd /initrd.img\nboot\n' "$options" >"$work/grub.cfg"
lib=$root/usr/lib signed=$root/usr/lib/grub/$grub-signed
printf '\xff\xfe' >"$work/csv" && iconv -t UTF-16LE <<<"shim$cpu.efi,debian,,The machine's own Debian" >>"$work/csv"
while read -r from to; do put "$from" "EFI/$to"; done <<EOT
$lib/shim/shim$cpu.efi.signed BOOT/BOOT${cpu^^}.EFI
$lib/shim/fb$cpu.efi.signed BOOT/fb$cpu.efi
$lib/shim/shim$cpu.efi.signed debian/shim$cpu.efi
$signed/grub$cpu.efi.signed debian/grub$cpu.efi
$work/grub.cfg debian/grub.cfg
$work/csv debian/BOOT${cpu^^}.CSV
EOT
[ "$arch" = amd64 ] || exit 0
# The second label is for a machine that is cut off while it writes.
echo 'DEFAULT own' >"$work/default.cfg"
printf 'INCLUDE default.cfg\n' >"$work/syslinux.cfg"
for label in own:ro writes:'rw own-os=writes'; do
  printf 'LABEL %s\n  KERNEL /vmlinuz\n  APPEND initrd=/initrd.img %s %s\n' "${label%%:*}" "$options" "${label#*:}" >>"$work/syslinux.cfg"
done
for file in default syslinux; do put "$work/$file.cfg" ''; done
syslinux --install --offset $((1 << 20)) "$disk"

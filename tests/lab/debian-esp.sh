#!/bin/bash
# Makes the ESP of debian-disk.sh's disk: SYSLINUX for BIOS, shim and GRUB for UEFI. Usage: debian-esp.sh ROOT DISK-IMAGE
# Kernel and initrd lie on it: SYSLINUX reads no XFS or btrfs of today. By the fallback of shim (fbx64.efi) and its list, a
# firmware without an entry for this disk makes one, as on any Debian.
set -euo pipefail
root=$1 disk=$2 work=$2.esp
trap 'rm -rf "$work"' EXIT
mkdir "$work"
mkfs.vfat -F 32 -s 1 -n OWN-ESP --offset 2048 "$disk" $((64 * 1024)) >/dev/null
# no_timer_check: on a busy host a guest may miss timer interrupts, and its kernel panic. The second label is for a machine that is cut off while it writes.
options='initrd=/initrd.img root=LABEL=own-root quiet console=tty0 console=ttyS0,115200 no_timer_check systemd.volatile=state'
echo 'DEFAULT own' >"$work/default.cfg"
cat >"$work/syslinux.cfg" <<EOT
INCLUDE default.cfg
LABEL own
  KERNEL /vmlinuz
  APPEND $options ro
LABEL writes
  KERNEL /vmlinuz
  APPEND $options rw own-os=writes
EOT
for file in "$root"/{vmlinuz,initrd.img} "$work"/{default,syslinux}.cfg; do mcopy -i "$disk@@1M" "$file" ::/; done
cat >"$work/grub.cfg" <<EOT
insmod all_video
linux /vmlinuz ${options#* } ro
initrd /initrd.img
boot
EOT
lib=$root/usr/lib signed=$root/usr/lib/grub/x86_64-efi-signed
printf '\xff\xfe' >"$work/csv" && iconv -t UTF-16LE <<<'shimx64.efi,debian,,The machine'"'"'s own Debian' >>"$work/csv"
mmd -i "$disk@@1M" ::/EFI ::/EFI/BOOT ::/EFI/debian
while read -r from to; do mcopy -i "$disk@@1M" "$from" "::/EFI/$to"; done <<EOT
$lib/shim/shimx64.efi.signed BOOT/BOOTX64.EFI
$lib/shim/fbx64.efi.signed BOOT/fbx64.efi
$lib/shim/shimx64.efi.signed debian/shimx64.efi
$signed/grubx64.efi.signed debian/grubx64.efi
$work/grub.cfg debian/grub.cfg
$work/csv debian/BOOTX64.CSV
EOT
syslinux --install --offset $((1 << 20)) "$disk"

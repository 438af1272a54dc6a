#!/bin/bash
# Makes the disk of a testbox: a real Debian with its own kernel and boot loader (GPT, ESP, ext4, BIOS).
# Usage: target-disk.sh DISK-IMAGE. Its root is mounted read-only, so that booting it changes no byte.
set -euo pipefail
disk=$1 work=$1.d
mkdir -p "$work"
root=$work/root
trap 'umount -q "$work/mnt" 2>/dev/null || true; rm -rf "$work"' EXIT
mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
  --include=systemd-sysv,linux-image-cloud-amd64,initramfs-tools,busybox,udev,zstd \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$root"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/etc/machine-id"
echo testbox-own-os >"$root/etc/hostname"
# An initrd with nothing but the way to the root file system: emulated machines load it slowly.
sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$root/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_blk virtio_pci virtio_scsi ahci sd_mod nvme ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
cat >"$root/etc/systemd/system/own-os.service" <<'EOF'
[Unit]
Description=Says that this machine's own operating system is up
After=local-fs.target dbus.socket systemd-tmpfiles-setup.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for tty in ttyS0 tty1; do echo "OWN-OS-BOOTED $(cat /etc/machine-id)" >/dev/$tty; done; systemctl poweroff'
[Install]
WantedBy=multi-user.target
EOF
chroot "$root" systemctl --quiet enable own-os.service
chroot "$root" systemctl --quiet mask getty.target systemd-timesyncd systemd-networkd apt-daily.timer systemd-hwdb-update
mkdir -p "$root/boot/extlinux"
cat >"$root/boot/extlinux/extlinux.conf" <<'EOF'
DEFAULT own
LABEL own
  KERNEL /vmlinuz
  APPEND initrd=/initrd.img root=LABEL=own-root ro quiet console=tty0 console=ttyS0,115200 systemd.volatile=state
EOF
truncate -s 1200M "$disk"
sgdisk --clear --new=1:2048:+48M --typecode=1:ef00 --change-name=1:esp \
  --new=2:0:0 --typecode=2:8300 --change-name=2:own-root --attributes=2:set:2 "$disk" >/dev/null
dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$disk" conv=notrunc status=none
mkfs.vfat -F 32 -s 1 -n OWN-ESP --offset 2048 "$disk" $((48 * 1024)) >/dev/null
echo "kept by the firmware" >"$work/note" && mcopy -i "$disk@@1M" "$work/note" ::/note.txt
start=$(sgdisk -i 2 "$disk" | awk '/First sector/ {print $3}') end=$(sgdisk -i 2 "$disk" | awk '/Last sector/ {print $3}')
mke2fs -q -t ext4 -L own-root -O ^64bit,^metadata_csum_seed,^orphan_file -E offset=$((start * 512)) -d "$root" "$disk" $(((end - start + 1) / 2))k
mkdir "$work/mnt" && mount -o loop,offset=$((start * 512)),sizelimit=$(((end - start + 1) * 512)) "$disk" "$work/mnt"
extlinux --install "$work/mnt/boot/extlinux" 2>&1
umount "$work/mnt"

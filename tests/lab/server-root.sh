#!/bin/bash
# Makes the disk of a lab's server: a Debian with the packages that the manual names, before any line of the manual is run.
# Usage: server-root.sh DISK-IMAGE PACKAGE,...; kernel and initrd come out beside it. /dev/vdc of the machine is a tar file:
# it is unpacked over the root, and /srv/setup run on the serial console.
set -euo pipefail
disk=$1 packages=$2 root=$1.d
trap 'rm -rf "$root"' EXIT
mmdebstrap --quiet --variant=minbase --aptopt='APT::Install-Recommends "false"' \
  --include="systemd-sysv,linux-image-cloud-amd64,initramfs-tools,busybox,udev,zstd,sudo,iproute2,$packages" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$root"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
echo lab-server >"$root/etc/hostname"
# The name of a sudo that must not wait for DNS.
echo '127.0.0.1 localhost lab-server' >"$root/etc/hosts"
sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$root/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_blk virtio_pci ext4 >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
cat >"$root/etc/systemd/system/setup.service" <<'EOT'
[Unit]
Description=Sets this server up
After=multi-user.target
[Service]
ExecStart=/bin/sh -c 'tar -C / -xf /dev/vdc && exec sh /srv/setup'
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=multi-user.target
EOT
chroot "$root" systemctl --quiet enable setup.service
chroot "$root" systemctl --quiet mask serial-getty@ttyS0.service getty.target systemd-timesyncd systemd-networkd \
  apt-daily.timer apt-daily-upgrade.timer e2scrub_reap systemd-hwdb-update
mkdir -p "$disk" "$root/export"
cp "$root"/boot/vmlinuz-* "$disk/vmlinuz" && cp "$root"/boot/initrd.img-* "$disk/initrd.img"
truncate -s 2G "$disk/root" && mkfs.ext4 -q -d "$root" "$disk/root"

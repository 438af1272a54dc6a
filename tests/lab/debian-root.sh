#!/bin/bash
# Makes the root file system of a testbox, for debian-disk.sh: a real Debian with its own kernel, as a tar file.
# Usage: debian-root.sh TAR ARCHITECTURE. It mounts its root read-only, so that booting it changes no byte, says that it
# is up, and switches the machine off. With own-os=writes on the kernel command line it writes for ever instead.
set -euo pipefail
tar=$1 arch=$2 root=$1.d
trap 'rm -rf "$root"' EXIT
mmdebstrap --quiet --architectures="$arch" --variant=minbase --aptopt='APT::Install-Recommends "false"' \
  --include=systemd-sysv,linux-image-cloud-"$arch",initramfs-tools,busybox,udev,zstd,shim-signed,grub-efi-"$arch"-signed \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$root"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/etc/machine-id"
echo testbox-own-os >"$root/etc/hostname"
# An initrd with nothing but the way to the root file system: emulated machines load it slowly.
sed -i 's/^MODULES=.*/MODULES=list/; s/^COMPRESS=.*/COMPRESS=gzip/' "$root/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_blk virtio_pci virtio_scsi ahci sd_mod nvme ext4 xfs btrfs >>"$root/etc/initramfs-tools/modules"
chroot "$root" update-initramfs -u
cat >"$root/etc/systemd/system/own-os.service" <<'EOT'
[Unit]
Description=Says that this machine's own operating system is up
After=local-fs.target dbus.socket systemd-tmpfiles-setup.service
[Service]
Type=oneshot
ExecStart=/usr/local/sbin/own-os
[Install]
WantedBy=multi-user.target
EOT
cat >"$root/usr/local/sbin/own-os" <<'EOT'
#!/bin/sh
say() { for tty in /dev/ttyS0 /dev/ttyAMA0 /dev/tty1; do [ ! -e $tty ] || echo "$*" >$tty; done; }
cd /srv/written
if grep -q own-os=writes /proc/cmdline; then
  # What is announced is on the disk: the file, its sum in its name, and the name.
  for n in $(seq 1000); do
    head -c 300000 /dev/urandom >new && sync new && mv new "$(sha256sum new | cut -c1-64)" && sync . && say "OWN-OS-WROTE $n"
  done
fi
for file in *; do [ "$(sha256sum "$file" 2>/dev/null | cut -c1-64)" = "$file" ] && good=$((good + 1)); done
say "OWN-OS-BOOTED $(cat /etc/machine-id), ${good:-0} files as they were written"
systemctl poweroff
EOT
chmod 755 "$root/usr/local/sbin/own-os" && mkdir "$root/srv/written"
chroot "$root" systemctl --quiet enable own-os.service
chroot "$root" systemctl --quiet mask getty.target systemd-timesyncd systemd-networkd apt-daily.timer systemd-hwdb-update
tar --numeric-owner --xattrs -C "$root" -cf "$tar" .

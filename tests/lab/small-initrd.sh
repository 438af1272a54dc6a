#!/bin/bash
# Makes the initrd of machines that are started directly: the real one without the drivers that no machine of the lab has,
# and not compressed. Usage: small-initrd.sh NFSROOT INITRD OUT. Works on a tmpfs that nobody else sees.
set -euo pipefail
[ -n "${SMALL_INITRD-}" ] || SMALL_INITRD=1 exec unshare --mount bash "$0" "$@"
root=$1 files=$1/tmp/files
mount -t tmpfs tmpfs "$root/tmp"
cp "$2" "$root/tmp/initrd"
chroot "$root" unmkinitramfs /tmp/initrd /tmp/files
[ ! -d "$files/main" ] || files=$files/main
version=$(basename "$files"/lib/modules/*)
keep=$(for module in e1000e virtio_pci virtio_blk virtio_scsi sd_mod ahci nvme nfs nfsv3 nfsv4 overlay af_packet crc32c_generic; do
  chroot "$root" modprobe -d "${files#"$root"}" -S "$version" --show-depends "$module"
done | sed -nE 's#^insmod .*/([^/ ]+) *$#\1#p')
find "$files/lib/modules/$version/" -name '*.ko*' | grep -vE "/($(tr '\n' '|' <<<"$keep"))\$" | xargs rm
chroot "$root" depmod -b "${files#"$root"}" "$version"
(cd "$files" && find . -mindepth 1 | cpio --quiet -o -H newc) >"$3"

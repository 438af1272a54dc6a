#!/bin/bash
# Unpacks DHCP and TFTP servers and the initramfs's own programs, unless they are there, and prints where: its usr/ goes
# over /usr of a test. Not installed: no service starts, now or at the next boot, no initrd of the host is made again, and
# tftpd-hpa and atftpd, which exclude each other, are both there.
set -euo pipefail
cache=${TESTBOX_LAB_CACHE:-$(dirname "$(readlink -f "$0")")/../../target/lab-assets}
dir=$(readlink -m "$cache")/network-$(sha256sum <"$0" | head -c 16)
half=$dir.$$
get() {
	apt-get -qq -y --no-install-recommends -o Debug::NoLocking=1 -o "Dir::Cache::archives=$half/archives" --download-only install "$@"
}
all() {
	get initramfs-tools-core klibc-utils isc-dhcp-server kea-dhcp4-server atftpd && get tftpd-hpa
}
if [ ! -d "$dir" ]; then
	mkdir -p "$half/archives/partial" "$half"/usr/{bin,sbin,lib,lib64}
	all >"$half/log" 2>&1 || { apt-get -qq update && all; } >>"$half/log" 2>&1 || { cat "$half/log" >&2; exit 1; }
	for link in bin sbin lib lib64; do ln -s "usr/$link" "$half/$link"; done
	for package in "$half"/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$half"
	done
	rm -r "$half/archives"
	# Whoever else does the same may have been quicker.
	mv -T "$half" "$dir" 2>/dev/null || rm -r "$half"
fi
echo "$dir"

#!/bin/bash
# bmc.sh: an emulator of BMCs that speak Redfish (sushy-tools, from PyPI, in a venv), one of IPMI and ipmitool (openipmi, ipmitool,
# unpacked and not installed), unless they are there; prints the folder. Its usr/lib is theirs alone.
set -euo pipefail
cache=${TESTBOX_LAB_CACHE:-$(dirname "$(readlink -f "$0")")/../../target/lab-assets}
dir=$(readlink -m "$cache")/bmc-$(sha256sum <"$0" | head -c 16)
half=$dir.$$
get() {
	apt-get -qq -y --no-install-recommends -o Debug::NoLocking=1 -o "Dir::Cache::archives=$half/archives" --download-only install openipmi ipmitool
}
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
if [ ! -d "$dir" ]; then
	trap 'rm -rf "$half"' EXIT
	mkdir -p "$half/archives/partial"
	{
		get || { apt-get -qq update && get; }
		for package in "$half"/archives/*.deb; do
			dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$half"
		done
		# Not moved afterwards: its programs know where they are.
		python3 -m venv "$dir.venv" && "$dir.venv/bin/pip" -q --disable-pip-version-check install sushy-tools==2.2.0
	} >"$dir.log" 2>&1 || { echo "apt's archives and PyPI must be reached once:" >&2; tail -5 "$dir.log" >&2; exit 1; }
	rm -r "$half/archives"
	mv -T "$half" "$dir"
fi
echo "$dir"

#!/bin/bash
# The server side of a lab, inside its own network, mount and process namespaces: rpcbind, nfs-ganesha, dnsmasq.
# Usage: netns.sh LAB-DIR LOG-DIR NFSROOT; prints READY; ends (and everything with it) when its stdin is closed.
set -euo pipefail
lab=$1 logs=$2 nfsroot=$3
mount -t tmpfs tmpfs /run
mkdir -p /export /run/dbus /run/rpcbind /run/ganesha/recovery
mount -t tmpfs tmpfs /export
mkdir /export/testbox-{nfsroot,backup,tftp}
mount --bind "$nfsroot" /export/testbox-nfsroot
mount --bind "$lab/backup" /export/testbox-backup
mount --bind "$lab/tftp" /export/testbox-tftp
ip link set lo up
ip link add lab type bridge && ip addr add 10.9.0.1/24 dev lab && ip link set lab up
for n in 1 2; do ip tuntap add "tap$n" mode tap && ip link set "tap$n" master lab up; done
cp "$lab/hosts" /run/hosts && echo 'nameserver 127.0.0.1' >/run/resolv.conf
mount --bind /run/resolv.conf "$(readlink -f /etc/resolv.conf)"
# LAB_BOOT: 'none' and 'addresses' leave to another server what machines boot, 'none' their addresses too.
addresses="--dhcp-range=10.9.0.100,10.9.0.200,1h --dhcp-host=52:54:00:09:00:01,10.9.0.11 --dhcp-host=52:54:00:09:00:02,10.9.0.12"
boot="--dhcp-match=set:bios,option:client-arch,0 --dhcp-boot=tag:bios,pxelinux.0
  --dhcp-match=set:uefi,option:client-arch,7 --dhcp-boot=tag:uefi,shimx64.efi
  --dhcp-match=set:arm64,option:client-arch,11 --dhcp-boot=tag:arm64,shimaa64.efi
  --enable-tftp --tftp-root=/export/testbox-tftp"
[ "${LAB_BOOT-}" != addresses ] || bash "$(dirname "$0")/addresses.sh" $addresses
[ -z "${LAB_BOOT-}" ] || addresses='' boot=''
dnsmasq --conf-file=/dev/null --no-hosts --addn-hosts=/run/hosts --no-resolv --local=// --pid-file=/run/dnsmasq.pid \
  --interface=lab --interface=lo --bind-dynamic --user=root --dhcp-leasefile=/run/leases \
  --log-dhcp --log-facility="$logs/dnsmasq.log" --no-ping $addresses $boot
# Attr_Expiration_Time: ganesha keeps attributes and names for a minute, and does not see what the admin writes on the server.
export_of() {
  echo "EXPORT { Export_Id = $1; Path = /export/testbox-$2; Pseudo = /export/testbox-$2; Access_Type = $3;
    Squash = No_Root_Squash; SecType = sys; Protocols = 3,4; Transports = TCP; PrivilegedPort = false; Attr_Expiration_Time = 0; FSAL { Name = VFS; } }"
}
cat >/run/ganesha/conf <<EOF
NFS_CORE_PARAM { Protocols = 3,4; Enable_NLM = false; Enable_RQUOTA = false; MNT_Port = 20048; }
NFSv4 { Graceless = true; RecoveryRoot = /run/ganesha/recovery; }
NFS_KRB5 { Active_krb5 = false; }
$(export_of 1 nfsroot RO)
$(export_of 2 backup RW)
$(export_of 3 tftp RW)
EOF
rpcbind -w && dbus-daemon --system --fork --nopidfile
cat >/run/ganesha/start <<EOF
setsid ganesha.nfsd -F -N EVENT -L "$logs/ganesha.log" -f /run/ganesha/conf -p /run/ganesha/pid </dev/null >/dev/null 2>&1 &
for _ in \$(seq 100); do rpcinfo -t 127.0.0.1 nfs 3 >/dev/null 2>&1 && exit; sleep 0.1; done
exit 1
EOF
[ -n "${LAB_NO_NFS-}" ] || sh /run/ganesha/start
echo READY
exec cat >/dev/null

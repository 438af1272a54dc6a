#!/bin/sh
# What init of initramfs-tools does with the words of the network, and then its boot mode's script.
export PATH=/usr/lib/klibc/bin:/sbin:/bin DEVICE='' IP='' BOOTIF='' quiet=y
for x in $(cat /proc/cmdline); do
	case $x in
	ip=*) IP=${x#ip=} ;;
	BOOTIF=*) BOOTIF=${x#BOOTIF=} ;;
	esac
done
. /scripts/functions
. /scripts/testbox
if [ -e /conf/agent ]; then
	testbox_agent() { /conf/agent "$@"; }
	mountroot
else
	testbox_network
fi

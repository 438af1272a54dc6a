#!/bin/sh
# What init of initramfs-tools does with the words of the network, and then its boot mode's script.
export PATH=/usr/lib/klibc/bin:/sbin:/usr/sbin:/bin DEVICE='' IP='' BOOTIF='' quiet=y
for x in $(cat /proc/cmdline); do
	case $x in
	ip=*) IP=${x#ip=} ;;
	BOOTIF=*) BOOTIF=${x#BOOTIF=} ;;
	esac
done
. /scripts/functions
. /scripts/testbox
case $1 in
network) testbox_network ;;
all) mountroot ;;
esac

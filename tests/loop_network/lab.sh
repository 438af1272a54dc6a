#!/bin/bash
# lab.sh DIR: the servers' side of a lab, in namespaces of its own: a bridge with the address 10.9.0.1, and a port for each
# machine (m1, m2) and for a second server (s2, 10.9.0.2). DIR/usr lies over /usr. Prints READY; ends with its stdin.
set -euo pipefail
assets=$1
mount -t overlay overlay -o "lowerdir=$assets/usr:/usr" /usr
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/kea /run/lock
ip link set lo up
ip link add lab type bridge && ip link set lab up
ip addr add 10.9.0.1/24 dev lab
for n in m1 m2 s2; do
	ip netns add "$n"
	ip link add "$n" type veth peer name eth0 netns "$n"
	ip link set "$n" master lab up
	ip -n "$n" link set lo up
done
for n in 1 2; do ip -n "m$n" link set eth0 address "52:54:00:09:00:0$n" up; done
ip -n s2 addr add 10.9.0.2/24 dev eth0 && ip -n s2 link set eth0 up
echo READY
exec cat >/dev/null

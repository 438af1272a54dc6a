#!/bin/bash
# A computer at the bridge of netns.sh, 10.9.0.2, whose DHCP server gives addresses and nothing to boot: dnsmasq with these options.
set -euo pipefail
ip netns add dhcp
ip link add dhcp type veth peer name eth0 netns dhcp
ip link set dhcp master lab up
ip -n dhcp addr add 10.9.0.2/24 dev eth0
ip -n dhcp link set eth0 up
ip netns exec dhcp dnsmasq --conf-file=/dev/null --port=0 --user=root --pid-file=/run/addresses.pid --dhcp-leasefile=/run/addresses \
  --no-ping "$@"

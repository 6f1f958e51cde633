#!/usr/bin/env bash
# Installs what Plimsoll's hosts need from Debian's or Ubuntu's packages, if it
# is missing. With "bench", also what the measurements compare with.
set -euo pipefail

want=(containerd:containerd runc:runc nft:nftables ip:iproute2 iptables:iptables skopeo:skopeo)
if [ "${1:-}" = bench ]; then
  want+=(dockerd:docker.io /usr/lib/cni/bridge:containernetworking-plugins)
fi

missing=()
for pair in "${want[@]}"; do
  program=${pair%%:*}
  PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null 2>&1 || missing+=("${pair#*:}")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "deps: install these packages first: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" != 0 ]; then
  echo "deps: installing ${missing[*]} with sudo"
  sudo=(sudo)
else
  echo "deps: installing ${missing[*]}"
fi
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

#!/bin/sh
# base.sh BRIG DIR: has the base system of the host's own FreeBSD release as image example.com/freebsd-release. Its ACI, made in DIR, is not signed: brigd
# needs unsigned-acis = files.
set -e
brig=$1 dir=$2
release=$(uname -r | sed 's/-p[0-9]*$//') machine=$(uname -m) arch=$(uname -p)
mkdir -p "$dir"
[ -f "$dir/base.txz" ] || fetch -o "$dir/base.txz" "https://download.freebsd.org/releases/$machine/$arch/$release/base.txz"
cat > "$dir/manifest" <<END
{"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/freebsd-release", "labels": [
  {"name": "version", "value": "${release%%-*}"}, {"name": "os", "value": "freebsd"}, {"name": "arch", "value": "$arch"}]}
END
mkdir -p "$dir/rootfs"
tar -c -f "$dir/base.aci" -C "$dir" manifest rootfs
tar -r -f "$dir/base.aci" -s '|^\.\{0,1\}/\{0,1\}|rootfs/|' "@$dir/base.txz"
$brig image import "$dir/base.aci"

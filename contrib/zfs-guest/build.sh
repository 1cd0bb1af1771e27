#!/bin/sh
# build.sh CACHE: builds CACHE/vmlinux and CACHE/initrd.base, a guest with real OpenZFS, out of Debian packages alone.
#
# Nothing is installed on the host: packages are downloaded with apt's own signatures checked, into a private apt
# directory with the host's mirror plus Debian's contrib section, where zfs lives, and unpacked under CACHE. The
# kernel is Debian's cloud kernel; zfs's modules are compiled from zfs-dkms against its headers, which takes about
# eleven minutes of processor time once.
set -eu
cache=$(mkdir -p "$1" && cd "$1" && pwd)
jobs=${JOBS:-$(nproc)}
done_mark=$cache/built-4
[ -e "$done_mark" ] && exit 0
say() { echo "zfs-guest: $*"; }

# --- packages ---
apt=$cache/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts"
. /etc/os-release
key=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$key" ] || key=
# Each source that the host itself uses for its own release.
apt-get indextargets --format '$(SITE)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' | sort -u |
while IFS='|' read -r site release component; do
	case $release in
	"$VERSION_CODENAME" | "$VERSION_CODENAME"-updates | "$VERSION_CODENAME"-security | "$VERSION_CODENAME"/updates) ;;
	*) continue ;;
	esac
	[ "$component" = main ] || continue
	echo "deb ${key:+[signed-by=$key] }$site $release main contrib"
done >"$apt/sources.list"
[ -s "$apt/sources.list" ] || { say "no Debian source for $VERSION_CODENAME in apt's configuration" >&2; exit 1; }
# An empty status file makes apt download what the host has already too.
: >"$apt/status"
aptget() {
	apt-get -qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/parts" \
		-o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
		-o APT::Sandbox::User=root -o APT::Install-Recommends=false "$@"
}
aptcache() {
	apt-cache -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/parts" \
		-o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" "$@"
}
depends() { aptcache show --no-all-versions "$1" | sed -n 's/^Depends: \([^ ,]*\).*/\1/p' | head -n 1; }

say "reading the package lists"
aptget update
image=$(depends linux-image-cloud-amd64)
headers=$(depends linux-headers-cloud-amd64)
release=${image#linux-image-}
debs=$cache/debs
rm -rf "$debs" && mkdir -p "$debs"
say "downloading $image, zfs and their parts"
# The kernel's headers name the packages that they are built from; libraries of the zfs tools come from the solver.
kbuild=$(aptcache show --no-all-versions "$headers" | sed -n 's/^Depends: //p' | tr ',' '\n' | sed 's/^ *//; s/ .*//' | grep -E '^linux-(headers|kbuild)')
tools=$(aptcache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances zfsutils-linux |
	sed -n 's/^\([a-z0-9][^ :<]*\)$/\1/p' | grep -E '^(zfsutils-linux|lib(zfs|zpool|nvpair|uutil|blkid|uuid|udev|tirpc|c6|crypt|ssl|zstd|gcc|com-err|k5|gssapi|krb5|keyutils|cap|selinux|pcre|crypto)[^ ]*|zlib1g)$')
# shellcheck disable=SC2086  # lists of package names
(cd "$debs" && aptget download "$image" "$headers" $kbuild zfs-dkms $tools)

tree=$cache/tree
rm -rf "$tree" && mkdir -p "$tree"
for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$tree"; done

# --- kernel ---
hdr=$tree/usr/src/linux-headers-$release
# The header package's Makefile names its common part by an absolute path.
grep -rlI " */usr/src/linux-headers" "$hdr/Makefile" | xargs -r sed -i "s#/usr/src/linux-headers#$tree/usr/src/linux-headers#g"
common=$(echo "$tree"/usr/src/linux-headers-*-common)
# Where a bzImage keeps its compressed kernel: Documentation/x86/boot.rst, payload_offset and payload_length. Debian
# compresses with lz4; the last four bytes are the size, not data.
bz=$tree/boot/vmlinuz-$release
field() { od -An -t"$2" -j "$1" -N "${2#u}" "$bz" | tr -d ' '; }
from=$((($(field 497 u1) + 1) * 512 + $(field 584 u4)))
length=$(($(field 588 u4) - 4))
tail -c +$((from + 1)) "$bz" | head -c "$length" | lz4 -dcq >"$cache/vmlinux" || true
[ "$(head -c 4 "$cache/vmlinux" | tail -c 3)" = ELF ] || { say "$bz holds no lz4-compressed kernel" >&2; exit 1; }

# --- modules ---
src=$(echo "$tree"/usr/src/zfs-*)
say "compiling $(basename "$src") for $release with $jobs jobs"
log=$cache/build.log
if ! (cd "$src" && ./configure --with-config=kernel --with-linux="$common" --with-linux-obj="$hdr" && make -s -j"$jobs") >"$log" 2>&1; then
	tail -n 40 "$log" >&2
	say "the build failed; its whole log is $log" >&2
	exit 1
fi

# --- the guest's files ---
root=$cache/root
rm -rf "$root" && mkdir -p "$root/bin" "$root/lib/modules" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/run" "$root/etc" "$root/var" "$root/work"
cp /bin/busybox "$root/bin/busybox"
find "$src" -name '*.ko' -exec cp {} "$root/lib/modules/" \;
strip --strip-debug "$root"/lib/modules/*.ko
for m in virtio_blk virtio_mmio virtio_ring virtio overlay ext4 jbd2 mbcache crc16 crc32c_generic libcrc32c; do
	find "$tree/lib/modules/$release" "$tree/usr/lib/modules/$release" -name "$m.ko*" -exec cp {} "$root/lib/modules/" \; 2>/dev/null || true
done
for tool in zfs zpool; do
	bin=$(find "$tree/sbin" "$tree/usr/sbin" -name "$tool" -type f 2>/dev/null | head -n 1)
	cp "$bin" "$root/bin/$tool"
done
# The loader of the unpacked tree lists and copies the libraries, so that the host's own never mix in.
libs=$(find "$tree/lib" "$tree/usr/lib" -maxdepth 2 -type d -name x86_64-linux-gnu 2>/dev/null | paste -sd:)
loader=$(find "$tree" -name 'ld-linux-x86-64.so.2' | head -n 1)
mkdir -p "$root/lib64"
cp -L "$loader" "$root/lib64/ld-linux-x86-64.so.2"
for tool in zfs zpool; do "$loader" --library-path "$libs" --list "$root/bin/$tool"; done |
	sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' | sort -u | while read -r lib; do
	case $lib in
	"$tree"/*) cp -L "$lib" "$root/lib64/" ;;
	*) say "$lib is the host's: a package is missing from the list" >&2; exit 1 ;;
	esac
done
touch "$done_mark"
say "ready in $cache"

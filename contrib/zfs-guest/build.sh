#!/bin/sh
# build.sh CACHE: makes CACHE/vmlinux and CACHE/root, a guest with real OpenZFS, out of Debian packages alone.
#
# Nothing is installed on the host: packages are downloaded with apt's own signatures checked, into a private apt
# directory with the host's mirror plus Debian's contrib section, where zfs lives, and unpacked under CACHE. The
# kernel is Debian's cloud kernel; zfs's modules are compiled from zfs-dkms against its headers, which takes about
# eleven minutes of processor time once. Raise the mark's number when what is built changes.
set -eu
cache=$(mkdir -p "$1" && cd "$1" && pwd)
jobs=${JOBS:-$(nproc)}
done_mark=$cache/built-5
[ -e "$done_mark" ] && exit 0
say() { echo "zfs-guest: $*"; }
[ "$(uname -m)" = x86_64 ] || { say "only for x86_64 hosts" >&2; exit 1; }

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
root=$cache/root.new
rm -rf "$root"
for dir in bin lib64 modules proc sys dev tmp run etc; do mkdir -p "$root/$dir"; done
cp "$(command -v busybox)" "$root/bin/busybox"
# The modules in the order in which they load. overlay is for the overlay driver's tests in the same suite.
for m in spl zavl znvpair zunicode zcommon zlua zzstd icp zfs overlay; do
	ko=$(find "$src/module" "$tree/lib/modules/$release/kernel" -name "$m.ko" | head -n 1)
	[ -n "$ko" ] || { say "no module $m was built" >&2; exit 1; }
	strip --strip-debug -o "$root/modules/$m.ko" "$ko"
	echo "$m" >>"$root/modules/order"
done
for tool in zfs zpool; do cp "$tree/sbin/$tool" "$root/bin/$tool"; done
# The loader of the unpacked tree lists the libraries, so that the host's own never mix in.
libs=$(find "$tree/lib" "$tree/usr/lib" -maxdepth 2 -type d -name x86_64-linux-gnu | paste -sd:)
loader=$(find "$tree" -name 'ld-linux-x86-64.so.2' | head -n 1)
cp -L "$loader" "$root/lib64/"
for tool in zfs zpool; do "$loader" --library-path "$libs" --list "$root/bin/$tool"; done | sed -n 's/.*=> \([^ ]*\).*/\1/p' | sort -u |
	while read -r lib; do
		case $lib in
		"$tree"/*) cp -L "$lib" "$root/lib64/" ;;
		*) say "$lib is not from the unpacked packages: one is missing from the list" >&2; exit 1 ;;
		esac
	done
rm -rf "$cache/root"
mv "$root" "$cache/root"
# What it was made of is ten times as large as what is needed.
rm -rf "$tree" "$debs" "$apt" "$cache"/built-*
touch "$done_mark"
say "ready in $cache"

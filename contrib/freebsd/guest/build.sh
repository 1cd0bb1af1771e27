#!/bin/sh
# build.sh: makes a FreeBSD 13.2 machine (amd64) for QEMU, on a Linux host of the same kind, out of FreeBSD's sources.
#
#	SRC	a tree of FreeBSD 13.2's sources (needed; nothing is written to it)
#	OUT	where to build (.cache/freebsd-guest); run.sh boots what is there
#	JOBS	how many compilers side by side (the processors of this host)
#	LLVM	the directory of clang, ld.lld and llvm-* of version 14 (/usr/lib/llvm-14/bin)
#
# The kernel has what brig uses (SLIM, modules.txt), the base system what brig and its tests run (programs.txt), linked
# statically. OpenSSL isn't there, so zfs makes no keys from pass phrases; nor are PAM, C++, locales and ld-elf.so, without
# which FreeBSD programs that aren't static don't run. sshd/ is the server. Each step leaves a mark in OUT/done: a build
# that failed goes on where it was. After changes here or in SRC: OUT removed, or the marks of what has to be made again.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
say() { echo "freebsd-guest: $*"; }
die() { say "$*" >&2; exit 1; }
[ "$(uname -sm)" = 'Linux x86_64' ] || die "only for x86_64 hosts with Linux"
[ -n "${SRC:-}" ] || die "SRC is not set: it is the directory of FreeBSD 13.2's sources"
grep -qs '^REVISION="13.2"' "$SRC/sys/conf/newvers.sh" || die "$SRC has no sources of FreeBSD 13.2"
src=$(cd "$SRC" && pwd -P)
out=${OUT:-$here/../../../.cache/freebsd-guest}
out=$(mkdir -p "$out/log" "$out/done" "$out/obj" && cd "$out" && pwd -P)
jobs=${JOBS:-$(nproc)}
llvm=${LLVM:-/usr/lib/llvm-14/bin}
PATH=$PATH:/usr/sbin:/sbin
for tool in "$llvm/clang" "$llvm/ld.lld" "$llvm/llvm-nm" cc c++ cpp python3 objcopy mkfs.vfat mcopy ssh-keygen "${GO:-go}"; do
	command -v "$tool" >/dev/null || die "$tool is missing"
done
# root's files are made by root: their owner is what the image gets.
[ "$(id -u)" = 0 ] || die "must be root"

objtop=$out/obj$src/amd64.amd64
legacy=$objtop/tmp/legacy/bin
sysroot=$objtop/tmp
root=$out/root
export MAKEOBJDIRPREFIX="$out/obj" STRIPBIN=/usr/bin/strip
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS CC CXX

# step NAME: runs the function of that name unless it has been run; what it says goes to a log.
step() {
	[ ! -e "$out/done/$1" ] || return 0
	say "$1"
	# Not as a condition, in which set -e would mean nothing.
	set +e
	(set -e; "$1") >"$out/log/$1" 2>&1
	failed=$?
	set -e
	if [ $failed != 0 ]; then
		tail -n 30 "$out/log/$1" | cut -c1-400 >&2
		die "$1 failed; its whole log is $out/log/$1"
	fi
	touch "$out/done/$1"
}

# fbsd ARGUMENT...: FreeBSD's make, with this machine's settings.
fbsd() {
	(cd "$src" && exec python3 tools/build/make.py --cross-bindir="$llvm" --no-clean TARGET=amd64 TARGET_ARCH=amd64 \
		SRCCONF="$here/src.conf" SRC_ENV_CONF=/dev/null __MAKE_CONF=/dev/null KERNCONF=SLIM KERNCONFDIR="$here" "$@")
}

# each LIST INTO: builds the directories of LIST.txt and installs them into INTO, in FreeBSD's environment for cross builds.
each() {
	what=$1 into=$2
	export what into src out jobs
	fbsd buildenv BUILDENV_SHELL="$here/each.sh"
}

# make.py would run bmake's tests, one of which depends on the host's shell.
bmake() {
	installed=$out/obj/bmake-install
	include=$src/tools/build/cross-build/include
	mkdir -p "$out/obj/bmake-build" "$installed/bin" "$installed/share/mk"
	cd "$out/obj/bmake-build"
	CFLAGS="-I$include/common -I$include/linux -D_GNU_SOURCE=1" sh "$src/contrib/bmake/configure" \
		--with-default-sys-path="$installed/share/mk" --with-machine=amd64 --without-filemon --prefix="$installed"
	sh ./make-bootstrap.sh
	sh "$src/contrib/bmake/mk/install-mk" "$installed/share/mk"
	cp bmake "$installed/bin/"
}

tools() {
	fbsd -s -j"$jobs" kernel-toolchain
	# After the libraries that it is linked with: it and they have no order in the makefile.
	fbsd -s -j"$jobs" _bootstrap-tools LOCAL_BSTOOL_DIRS=usr.sbin/makefs
	# LLVM's, in the place of ELF Tool Chain's.
	for tool in nm objcopy ar ranlib strip size strings; do ln -sf "$llvm/llvm-$tool" "$legacy/$tool"; done
	printf '#!/bin/sh\nexec %s "$@"\n' "$llvm/llvm-readelf" >"$legacy/elfdump"
	chmod +x "$legacy/elfdump"
}

headers() { fbsd -s -j"$jobs" _includes; }

kernel() { fbsd -s -j"$jobs" buildkernel MODULES_OVERRIDE="$(tr '\n' ' ' <"$here/modules.txt")"; }

libraries() {
	# The one function of OpenSSL's that libzfs calls makes keys from pass phrases; this one always fails.
	echo 'int PKCS5_PBKDF2_HMAC_SHA1(void); int PKCS5_PBKDF2_HMAC_SHA1(void) { return 0; }' |
		"$llvm/clang" -target x86_64-unknown-freebsd13.2 -x c -c -o "$out/crypto.o" -
	"$llvm/llvm-ar" rcs "$sysroot/usr/lib/libcrypto.a" "$out/crypto.o"
	# Nothing unwinds in C; clang's driver names the library all the same.
	"$llvm/llvm-ar" rcs "$sysroot/usr/lib/libgcc_eh.a"
	each libraries "$sysroot"
}

programs() {
	for part in root:. usr:usr var:var; do
		mkdir -p "$root/${part#*:}"
		"$legacy/mtree" -deU -N "$src/etc" -f "$src/etc/mtree/BSD.${part%:*}.dist" -p "$root/${part#*:}" >/dev/null || true
	done
	each programs "$root"
}

# The loader's interpreter is the simple one: it reads loader.rc.
loader() { each loader "$out/none"; }

# files puts configuration, kernel and server in their places: FreeBSD's own files first, then the machine's.
files() {
	etc=$root/etc
	mkdir -p "$etc/defaults" "$etc/rc.d" "$etc/newsyslog.conf.d" "$etc/syslog.d" "$root/boot/kernel" "$root/boot/modules" \
		"$root/usr/local/sbin" "$root/usr/local/bin" "$root/usr/local/etc/rc.d" "$root/usr/share/misc"
	while read -r file; do cp "$src/$file" "$etc/"; done <"$here/etc.txt"
	cp "$src/libexec/rc/rc.conf" "$src/sbin/devfs/devfs.rules" "$etc/defaults/"
	# Scripts for what isn't here would be read at each boot.
	while read -r name; do install -m 555 "$src/libexec/rc/rc.d/$name" "$etc/rc.d/$name"; done <"$here/rc.txt"
	sed 's,:/bin/csh$,:/bin/sh,' "$src/etc/master.passwd" >"$etc/master.passwd"
	chmod 600 "$etc/master.passwd"
	cp "$src/share/termcap/termcap.small" "$root/usr/share/misc/termcap"
	ln -sf /usr/share/misc/termcap "$etc/termcap"
	cp "$here"/etc/* "$etc/"
	mv "$etc/loader.rc" "$root/boot/"
	chmod 755 "$etc/rc.local"
	PATH=$legacy:$PATH pwd_mkdb -d "$etc" -i -p "$etc/master.passwd"
	"$legacy/cap_mkdb" "$etc/login.conf"
	"$legacy/services_mkdb" -l -q -o "$root/var/db/services.db" "$etc/services"
	touch "$root/var/log/messages" "$root/var/log/utx.log"

	cp "$objtop/sys/SLIM/kernel" "$root/boot/kernel/"
	find "$objtop/sys/SLIM/modules" -name '*.ko' | while read -r ko; do
		"$llvm/llvm-strip" --strip-debug -o "$root/boot/kernel/$(basename "$ko")" "$ko"
	done
	(cd "$here/sshd" && CGO_ENABLED=0 GOOS=freebsd GOARCH=amd64 "${GO:-go}" build -trimpath -ldflags '-s -w' -o "$root/usr/local/sbin/guest-sshd" .)
	[ -e "$out/key" ] || ssh-keygen -q -t ed25519 -N '' -C freebsd-guest -f "$out/key"
	cp "$out/key.pub" "$etc/authorized_keys"
}

# image makes a disk with an EFI system partition and a root file system of 14 GB, most of which is a hole.
image() {
	esp=$out/esp.img
	rm -f "$esp" "$out/ufs.img" "$out/root.img.new"
	truncate -s 33M "$esp"
	mkfs.vfat -F 16 -n EFI "$esp"
	mmd -i "$esp" ::/EFI ::/EFI/BOOT
	mcopy -i "$esp" "$objtop/stand/efi/loader_simp/loader_simp.efi" ::/EFI/BOOT/BOOTX64.EFI
	"$legacy/makefs" -t ffs -B little -Z -o version=2,bsize=32768,fsize=4096,label=root -s 14g -f 400000 "$out/ufs.img" "$root"
	"$legacy/mkimg" -s gpt -f raw -p "efi/efi:=$esp" -p "freebsd-ufs/root:=$out/ufs.img" -o "$out/root.img.new"
	rm -f "$esp" "$out/ufs.img"
	mv "$out/root.img.new" "$out/root.img"
}

for name in bmake tools headers kernel libraries programs loader files image; do step $name; done
say "ready in $out"

#!/bin/sh
# install.sh install|uninstall|plist: installs what make build has made, removes it again, or prints what there would be, as a pkg-plist.
#
# PREFIX (/usr/local) and DESTDIR (empty; what is installed doesn't know of it) are as in any Makefile. OS is freebsd or linux, this system by
# default, and BIN where the programs are. uninstall leaves the configuration and what brigd keeps.
set -eu
cd "$(dirname "$0")/.."
PREFIX=${PREFIX:-/usr/local} DESTDIR=${DESTDIR:-} BIN=${BIN:-bin}
OS=${OS:-$(uname -s | tr '[:upper:]' '[:lower:]')}

# list prints a mode, a source and a place for each file; a place that is not absolute is beneath PREFIX. hier(7): daemons in sbin, what only
# programs run in libexec. A program that was not built is not installed. A file whose place ends in .sample is for the administrator to copy.
list() {
	echo "755 $BIN/brigd sbin/brigd"
	echo "755 $BIN/brig bin/brig"
	for p in brig-shim brig-net brig-mds brig-jail; do
		[ ! -e "$BIN/$p" ] || echo "755 $BIN/$p libexec/brig/$p"
	done
	for page in man/*.[1-8]; do
		echo "644 $page share/man/man${page##*.}/${page#man/}.gz"
	done
	case $OS in
	freebsd)
		echo "555 contrib/freebsd/brigd etc/rc.d/brigd"
		echo "644 contrib/freebsd/newsyslog.conf etc/newsyslog.conf.d/brigd.conf.sample"
		echo "644 contrib/brig.conf etc/brig.conf.sample" ;;
	linux)
		echo "644 contrib/systemd/brigd.service lib/systemd/system/brigd.service"
		echo "644 contrib/brig.conf /etc/brig/brig.conf.sample" ;;
	*) echo "install.sh: brig runs on freebsd and linux, not on $OS" >&2; exit 1 ;;
	esac
}

place() {
	case $1 in
	/*) echo "$DESTDIR$1" ;;
	*) echo "$DESTDIR$PREFIX/$1" ;;
	esac
}

# put copies a file to its place by way of a new one, since a program that runs can't be written to.
put() {
	mode=$1 source=$2 to=$3
	mkdir -p "${to%/*}"
	case $to in
	*.gz) gzip -9nc "$source" >"$to.new" ;;
	*/rc.d/* | *.service) sed "s|/usr/local|$PREFIX|g" "$source" >"$to.new" ;;
	*) cp "$source" "$to.new" ;;
	esac
	chmod "$mode" "$to.new"
	mv -f "$to.new" "$to"
}

files=$(list)
case ${1:-} in
install)
	[ -e "$BIN/brigd" ] || { echo "install.sh: there is no $BIN/brigd: make build" >&2; exit 1; }
	echo "$files" | while read -r mode source to; do put "$mode" "$source" "$(place "$to")"; done ;;
uninstall)
	echo "$files" | while read -r _ _ to; do rm -f "$(place "$to")"; done
	rmdir "$(place libexec/brig)" "$(place /etc/brig)" 2>/dev/null || : ;;
plist)
	echo "$files" | while read -r _ _ to; do
		case $to in
		*.sample) echo "@sample $to" ;;
		*) echo "$to" ;;
		esac
	done | LC_ALL=C sort -k 1 ;;
*) echo "usage: install.sh install|uninstall|plist" >&2; exit 2 ;;
esac

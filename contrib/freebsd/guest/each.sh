#!/bin/sh
# each.sh [DIRECTORY]: run by build.sh in the environment of FreeBSD's cross build. Builds the directories of $what.txt, of
# the tree $src, and installs them into $into; or one of them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
: "${what:?} ${src:?} ${into:?} ${out:?} ${jobs:?}"

# FreeBSD's install takes the names of users from the tree and leaves owners alone: everything is root's.
fbsd() {
	INSTALL="install -N $src/etc -U" "$out/obj/bmake-install/bin/bmake" -m "$src/share/mk" -s MK_TESTS=no MK_MAN=no "$@"
}

# build DIRECTORY ARGUMENT...
build() {
	cd "$src/$1"
	dir=$1
	shift
	fbsd DIRPRFX="$dir/" "$@" all
	# A loader is taken from where it was built.
	[ "$what" = loader ] || fbsd DIRPRFX="$dir/" "$@" DESTDIR="$into" install
}

one() {
	mark=$out/done/$what-$(echo "$1" | tr / _)
	log=$out/log/$what-$(echo "$1" | tr / _)
	[ ! -e "$mark" ] || return 0
	case $what in
	libraries) set -- "$1" -j"$jobs" -DNO_PIC ;;
	programs) set -- "$1" -DNO_SHARED MK_PIE=no ;;
	# LLVM's objcopy doesn't write EFI programs.
	loader) set -- "$1" -j"$jobs" OBJCOPY=/usr/bin/objcopy ;;
	esac
	# ZFS's own parts ask for OpenSSL, the others can do without.
	case $1 in cddl/*) ;; *) set -- "$@" MK_OPENSSL=no ;; esac
	set +e
	(set -e; build "$@") >"$log" 2>&1
	failed=$?
	set -e
	if [ $failed != 0 ]; then
		tail -n 20 "$log" | cut -c1-400 >&2
		echo "$1 failed; its whole log is $log" >&2
		exit 255
	fi
	touch "$mark"
}

if [ $# = 1 ]; then
	one "$1"
elif [ "$what" = programs ]; then
	# xargs stops at the first that ends with 255.
	xargs -P "$jobs" -n 1 sh "$0" <"$here/$what.txt"
else
	while read -r dir; do one "$dir"; done <"$here/$what.txt"
fi

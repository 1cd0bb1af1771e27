#!/bin/sh
# build.sh [NAME…]: builds the example images, those of this system if none is named, on the brigd at $BRIG_HOST. BASE is the image with busybox that showenv
# and nginx are built on, CACHE where downloads are kept.
set -e
cd "$(dirname "$0")"
brig=${BRIG:-../bin/brig} base=${BASE:-busybox} cache=${CACHE:-../.cache/images}
[ $# -gt 0 ] || case $(uname) in
FreeBSD) set -- freebsd-base ;;
*) set -- showenv nginx ;;
esac
for name; do
	case $name in
	showenv)
		$brig build --dir showenv "$base" sh build.sh
		;;
	nginx)
		nginx/packages.sh "$cache/nginx"
		set --
		for p in "$cache"/nginx/*.deb; do
			set -- "$@" --cp "$p"
		done
		$brig build --dir nginx "$@" "$base" sh build.sh
		;;
	freebsd-base)
		freebsd-base/base.sh "$brig" "$cache/freebsd-base"
		$brig build --dir freebsd-base example.com/freebsd-release sh build.sh
		;;
	*)
		echo "build.sh: no image $name" >&2
		exit 1
		;;
	esac
done

#!/bin/sh
# packages.sh DIR: has the Debian packages of nginx, and of the libraries that it needs, in DIR. They come from the host's own apt.
set -e
mkdir -p "$1"
cd "$1"
ls ./*.deb >/dev/null 2>&1 && exit 0
needed=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances nginx |
	grep -E '^(nginx|nginx-common|lib(c6|pcre2-8-0|ssl3(t64)?|crypt1)|zlib1g)$' | sort -u)
apt-get download $needed

#!/bin/sh
# deps.sh [peers|zfs|buildx|freebsd-guest]: installs what brig's build, tests and demo need and the host lacks. Says nothing when nothing is missing.
set -eu
group=${1:-base}

missing=
# need PACKAGE COMMAND...: the package is missing if a command is.
need() {
	package=$1
	shift
	for command; do
		command -v "$command" >/dev/null 2>&1 || { missing="$missing $package"; return; }
	done
}

go_there() {
	command -v go >/dev/null 2>&1 || { echo "deps: no go on PATH: brig needs Go 1.21 or later (it fetches the toolchain that go.mod names)" >&2; exit 1; }
	version=$(go env GOVERSION 2>/dev/null) || { echo "deps: go cannot run here: $(go version 2>&1)" >&2; exit 1; }
	minor=${version#go1.}
	minor=${minor%%[!0-9]*}
	[ "${minor:-0}" -ge 21 ] || { echo "deps: $version is too old: brig needs Go 1.21 or later" >&2; exit 1; }
}

root() {
	[ "$(id -u)" = 0 ] || { echo "deps: must be root to install$missing" >&2; exit 1; }
}

# Services of the packages must not start: invoke-rc.d asks policy-rc.d, and 101 means forbidden.
policy=/usr/sbin/policy-rc.d
forbid_services() {
	[ -e $policy ] && mv $policy $policy.brig-saved
	trap 'allow_services' EXIT
	trap 'exit 130' INT TERM
	printf '#!/bin/sh\nexit 101\n' >$policy
	chmod 755 $policy
}
allow_services() {
	rm -f $policy
	if [ -e $policy.brig-saved ]; then mv $policy.brig-saved $policy; fi
}

debian() {
	case $group in
	base)
		need runc runc
		need crun crun
		need docker-registry docker-registry
		need skopeo skopeo
		need debootstrap debootstrap
		need isal igzip
		need nftables nft
		need iproute2 ip
		need procps ps
		need xz-utils xz
		need bzip2 bzip2
		need git git
		need docker-compose docker-compose
		need mandoc mandoc
		[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
		# The docker command alone, and never in the place of one that is there.
		if ! command -v docker >/dev/null 2>&1; then missing="$missing docker-cli"; fi
		# busybox-static and busybox give the same command; images need the one that stands alone.
		dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q ' installed' || missing="$missing busybox-static" ;;
	peers)
		need docker.io dockerd
		need containerd containerd
		need iptables iptables
		need podman podman ;;
	zfs)
		need qemu-system-x86 qemu-system-x86_64
		need lz4 lz4
		need cpio cpio
		need gcc gcc
		need make make
		# What compiles kernel modules runs on the host: it needs C's own headers, more of perl than perl-base, and objtool's library.
		[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
		perl -MGetopt::Std -e 1 2>/dev/null || missing="$missing perl"
		ls /usr/lib/*/libelf.so.1 >/dev/null 2>&1 || missing="$missing libelf1" ;;
	buildx)
		need runc runc ;;
	freebsd-guest)
		need qemu-system-x86 qemu-system-x86_64
		need qemu-utils qemu-img
		[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || missing="$missing ovmf"
		need clang-14 clang-14
		need lld-14 ld.lld-14
		need llvm-14 llvm-nm-14
		need g++ cc c++ cpp
		need binutils objcopy
		need python3 python3
		need dosfstools mkfs.vfat
		need mtools mcopy
		need openssh-client ssh-keygen
		[ -e /usr/include/archive.h ] || missing="$missing libarchive-dev"
		[ -e /usr/include/bzlib.h ] || missing="$missing libbz2-dev"
		[ -e /usr/include/zlib.h ] || missing="$missing zlib1g-dev" ;;
	*) echo "deps: no group $group" >&2; exit 2 ;;
	esac
	[ -n "$missing" ] || return 0
	root
	forbid_services
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	echo "deps: installing$missing"
	apt-get -qq update </dev/null >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
	# Debian 12 has no docker-cli: its docker command comes with docker.io.
	case $missing in *docker-cli*)
		[ -n "$(apt-cache policy docker-cli | sed -n '/Candidate: (none)/d; /Candidate:/p')" ] || missing=$(echo "$missing" | sed 's/docker-cli/docker.io/') ;;
	esac
	# shellcheck disable=SC2086  # a list
	apt-get -qq -y -o Dpkg::Use-Pty=0 --no-install-recommends install $missing </dev/null >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
	rm -f "$log"
}

# docker compose, of the version that its module here names, as a plugin for the tests alone: .cache/bin is in no one's PATH.
compose() {
	top=$(cd "$(dirname "$0")/.." && pwd)
	module=$top/integration/clients/compose
	version=$(sed -n 's|.*github.com/docker/compose/v5 \(v[^ ]*\).*|\1|p' "$module/go.mod")
	[ ! -e "$top/.cache/bin/docker-compose-$version" ] || return 0
	echo "deps: building docker compose $version"
	mkdir -p "$top/.cache/bin"
	(cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/docker/compose/v5/internal.Version=$version" \
		-o "$top/.cache/bin/docker-compose-$version" github.com/docker/compose/v5/cmd)
	ln -sf "docker-compose-$version" "$top/.cache/bin/docker-compose"
}

# docker buildx, and the programs of BuildKit for a builder's image, of the versions that their module here names; for make test-buildx alone.
buildx() {
	top=$(cd "$(dirname "$0")/.." && pwd)
	module=$top/integration/clients/buildx
	version=$(sed -n 's|.*github.com/docker/buildx \(v[^ ]*\).*|\1|p' "$module/go.mod")
	buildkit=$(sed -n 's|.*github.com/moby/buildkit \(v[^ ]*\).*|\1|p' "$module/go.mod")
	into=$top/.cache/buildx-$version
	[ ! -e "$into/done" ] || return 0
	echo "deps: building docker buildx $version and BuildKit $buildkit"
	mkdir -p "$into"
	for p in github.com/docker/buildx/cmd/buildx github.com/moby/buildkit/cmd/buildkitd github.com/moby/buildkit/cmd/buildctl; do
		(cd "$module" && CGO_ENABLED=0 go build -trimpath -o "$into/${p##*/}" \
			-ldflags "-s -w -X github.com/docker/buildx/version.Version=$version -X github.com/moby/buildkit/version.Version=$buildkit" "$p")
	done
	touch "$into/done"
	rm -f "$top/.cache/buildx"
	ln -s "buildx-$version" "$top/.cache/buildx"
}

freebsd() {
	case $group in
	base)
		need docker docker
		need docker-registry registry
		need skopeo skopeo
		need isa-l igzip
		need git git ;;
	*) echo "deps: $group is for Linux" >&2; exit 1 ;;
	esac
	[ -n "$missing" ] || return 0
	root
	echo "deps: installing$missing"
	# shellcheck disable=SC2086  # a list
	pkg install -qy $missing </dev/null
}

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
go_there
case $(uname -s) in
Linux)
	command -v apt-get >/dev/null 2>&1 && {
		debian
		[ "$group" != base ] || compose
		[ "$group" != buildx ] || buildx
		exit 0
	}
	echo "deps: this is no Debian: see contrib/deps.sh for what brig's tests need" >&2 ;;
FreeBSD)
	freebsd
	[ "$group" != base ] || compose ;;
*) echo "deps: brig runs on Linux and FreeBSD" >&2; exit 1 ;;
esac

#!/bin/sh
# HOST=root@machine [SSH='ssh -p 2222 -i key'] [RUN=PATTERN] [SLOW=N] test.sh [PACKAGE…]: runs tests on a FreeBSD machine, as root, and says what
# came of them. On FreeBSD itself no HOST is needed. Without packages: the unit tests with anything of FreeBSD's own in them, and the integration
# suite.
#
# Programs and tests are built here, for FreeBSD, and copied in one archive through ssh; so are the docker command, docker compose, a registry, a
# static busybox for Linux and the images of services. The machine needs sh, tar, and what brig needs, but neither Go nor packages nor this
# repository. It should be one for tests: jails, interfaces, rules of pf in brig's anchor and, for the length of the tests of docker compose,
# /etc/resolv.conf are made and taken away.
#
# RUN is go test's -run; SLOW says how many times as long everything may take (an emulated machine: 10). ARGS goes to each test.
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go}
[ $# -gt 0 ] || set -- ./internal/host ./internal/kmod ./internal/hostcheck ./internal/erase ./internal/tarfs ./internal/records ./internal/journal \
	./internal/logfile ./zfsstore ./network ./network/keeper ./metadata ./jailer/jailctl ./jailer/jailrun ./jailer/jailspec ./jailer/shim ./jailer ./runtime \
	./cmd/brigd ./integration ./integration/compose
# SLOW lengthens the limits of whole packages too.
limit=$((${SLOW:-1} * 30))m
stage=$(mktemp -d)
chmod 755 "$stage" # tests run programs in it as other users
trap 'rm -rf "$stage"' EXIT
CGO_ENABLED=0 "$GO" build -o "$stage/summary" ./integration/cmd/summary

if [ -z "${HOST:-}" ]; then
	[ "$(uname -s)" = FreeBSD ] || { echo "test.sh: HOST=root@machine is not set" >&2; exit 2; }
	kldload -n linux64 # brigd does it too, but busybox is asked before
	# shellcheck disable=SC2086  # a list
	BRIG_TEST_SLOW="${SLOW:-1}" "$GO" test -json -count=1 -p 1 -timeout "$limit" -run "${RUN:-}" "$@" ${ARGS:-} | "$stage/summary"
	exit
fi

SSH=${SSH:-ssh}
cross() { GOOS=freebsd GOARCH="${GOARCH:-amd64}" CGO_ENABLED=0 "$GO" "$@"; }
there=/var/tmp/brig-test

# tools are what the integration suite needs besides brig, for a machine that has no packages. Those of fixed versions are kept.
tools() {
	mkdir -p "$stage/tools" "$stage/built/faults" "$stage/.cache/bin"
	kept=.cache/freebsd-${GOARCH:-amd64}
	mkdir -p "$kept"
	version() { sed -n "s|.*$2 \(v[^ +]*\).*|\1|p" "integration/clients/$1/go.mod" | head -n 1; }
	# program MODULE PACKAGE FILE [LDFLAGS]
	program() {
		[ "$kept/$1" -nt "integration/clients/$1/go.mod" ] ||
			(cd "integration/clients/$1" && cross build -trimpath -ldflags "-s -w ${4:-}" -o "../../../$kept/$1" "$2")
		cp "$kept/$1" "$stage/$3"
	}
	v=$(version docker github.com/docker/cli)
	program docker github.com/docker/cli/cmd/docker tools/docker "-X github.com/docker/cli/cli/version.Version=${v#v}"
	program registry github.com/distribution/distribution/v3/cmd/registry tools/docker-registry
	v=$(version compose github.com/docker/compose/v5)
	program compose github.com/docker/compose/v5/cmd .cache/bin/docker-compose "-X github.com/docker/compose/v5/internal.Version=$v"
	for m in moby discovery testcontainers; do (cd "integration/clients/$m" && cross build -ldflags '-s -w' -o "$stage/built/$m" .); done
	(cd integration/clients/moby && GOOS=linux GOARCH="${GOARCH:-amd64}" CGO_ENABLED=0 "$GO" build -ldflags '-s -w' -o "$stage/built/reaper" ./reaper) # goes into an image
	cross build -trimpath -tags faults -ldflags '-s -w' -o "$stage/built/faults/brigd" ./cmd/brigd
	cross build -ldflags '-s -w' -o "$stage/built/hello" ./integration/internal/hello
	"$GO" run ./integration/cmd/mkimage -services .cache -save "$stage/services"
}

mkdir "$stage/bin"
cp -R contrib docs man images "$stage" # which tests read and build, and install.sh installs
for p in brigd brig brig-shim brig-net brig-mds brig-jail; do cross build -trimpath -ldflags '-s -w' -o "$stage/bin/$p" "./cmd/$p"; done
for pkg; do
	case $pkg in *integration*) [ -d "$stage/tools" ] || tools ;; esac
	dir=$("$GO" list -f '{{.Dir}}' "$pkg")
	rel=${dir#"$PWD"/}
	mkdir -p "$stage/$rel"
	cross test -c -ldflags '-s -w' -o "$stage/$rel/run.test" "$pkg"
	[ -d "$dir/testdata" ] && cp -R "$dir/testdata" "$stage/$rel/"
	[ -e "$stage/$rel/run.test" ] && echo "$rel" >>"$stage/list"
done
for box in "${BUSYBOX:-}" /bin/busybox /usr/bin/busybox; do
	[ -n "$box" ] && [ -x "$box" ] && cp "$box" "$stage/busybox" && break
done
tar -C "$stage" --exclude ./summary -cf - . | $SSH "$HOST" "kldload -n linux64; rm -rf $there && mkdir -p $there && tar -xf - -C $there"
while read -r rel; do
	echo "== $rel" >&2
	# shellcheck disable=SC2029  # all of it is expanded here
	$SSH "$HOST" "cd $there/$rel && export PATH=$there/tools:\$PATH BRIG_TEST_BIN=$there/bin BRIG_TEST_BUSYBOX=$there/busybox BRIG_TEST_BUILT=$there/built \
		BRIG_TEST_SERVICES=$there/services BRIG_TEST_SLOW=${SLOW:-1} && ./run.test -test.v=test2json -test.timeout $limit -test.run '${RUN:-}' ${ARGS:-} 2>&1" </dev/null |
		"$GO" tool test2json -t -p "$rel"
done <"$stage/list" | "$stage/summary"

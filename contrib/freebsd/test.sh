#!/bin/sh
# HOST=root@machine [SSH='ssh -p 2222 -i key'] test.sh [PACKAGE…]: runs tests on a FreeBSD machine, as root. On FreeBSD itself no HOST is needed.
#
# Programs and tests are built here, for FreeBSD, and copied in one archive through ssh; the machine needs sh, tar, and what brig needs, but
# neither Go nor this repository. A static busybox for Linux goes with them: its programs run in jails by the Linux ABI.
set -eu
cd "$(dirname "$0")/../.."
GO=${GO:-go}
# Those with anything of FreeBSD's own in them.
[ $# -gt 0 ] || set -- ./internal/host ./internal/kmod ./internal/hostcheck ./internal/tarfs ./internal/records ./internal/journal ./internal/logfile ./zfsstore ./network ./network/keeper ./jailer/jailctl ./jailer/jailrun ./jailer/jailspec ./jailer/shim ./jailer ./runtime ./cmd/brigd
if [ -z "${HOST:-}" ]; then
	[ "$(uname -s)" = FreeBSD ] || { echo "test.sh: HOST=root@machine is not set" >&2; exit 2; }
	exec "$GO" test -count=1 -timeout 20m "$@"
fi
SSH=${SSH:-ssh}
export GOOS=freebsd GOARCH="${GOARCH:-amd64}" CGO_ENABLED=0
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir "$stage/bin"
for p in brigd brig brig-shim brig-net brig-jail; do "$GO" build -trimpath -ldflags '-s -w' -o "$stage/bin/$p" "./cmd/$p"; done
for pkg; do
	dir=$("$GO" list -f '{{.Dir}}' "$pkg")
	rel=${dir#"$PWD"/}
	mkdir -p "$stage/$rel"
	"$GO" test -c -o "$stage/$rel/run.test" "$pkg"
	[ -d "$dir/testdata" ] && cp -R "$dir/testdata" "$stage/$rel/"
	[ -e "$stage/$rel/run.test" ] && echo "$rel" >>"$stage/list"
done
for box in "${BUSYBOX:-}" /bin/busybox /usr/bin/busybox; do
	[ -n "$box" ] && [ -x "$box" ] && cp "$box" "$stage/busybox" && break
done
cat >"$stage/run" <<'RUN'
cd "$(dirname "$0")" && here=$PWD || exit 1
export BRIG_TEST_BIN="$here/bin" BRIG_TEST_BUSYBOX="$here/busybox"
status=0
while read -r dir; do
	echo "== $dir"
	(cd "$dir" && ./run.test -test.timeout 20m ${ARGS:-}) </dev/null || status=1
done <list
exit $status
RUN
tar -C "$stage" -cf - . | $SSH "$HOST" 'rm -rf /var/tmp/brig-test && mkdir -p /var/tmp/brig-test && tar -xf - -C /var/tmp/brig-test'
$SSH "$HOST" "ARGS='${ARGS:-}' sh /var/tmp/brig-test/run"

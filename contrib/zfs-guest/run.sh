#!/bin/sh
# run.sh CACHE: runs zfsstore's suite against real OpenZFS in a virtual machine, which build.sh makes on the first run. The
# machine is emulated, so that it runs wherever the build does, inside other virtual machines too. RUN is a pattern of tests
# (go test -run); TIMEOUT is the suite's, in seconds.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=$(mkdir -p "$1" && cd "$1" && pwd)
timeout=${TIMEOUT:-2400}
exec 7>"$cache/lock"
flock -n 7 || { echo "zfs-guest: another run uses $cache; waiting for it" >&2; flock 7; }
"$here/build.sh" "$cache"

run=$cache/run
rm -rf "$run"
mkdir "$run"
qemu=
show=
finish() {
	[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true
	[ -z "$show" ] || wait "$show" || true
	rm -rf "$run"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

cp -a "$cache/root" "$run/root"
cp "$here/init" "$run/root/init"
CGO_ENABLED=0 GOOS=linux GOARCH=amd64 "${GO:-go}" test -c -tags faults -o "$run/root/suite" "$here/../../zfsstore"
printf '%s\n' -test.v "-test.run=${RUN:-.}" "-test.timeout=${timeout}s" >"$run/root/args"
(cd "$run/root" && find . | cpio --quiet -o -H newc | gzip -1) >"$run/initrd"

# Without -no-reboot and panic=-1 a guest that dies would start again and hide it.
# The kernel measures its clock against the emulated pit, which fails on a busy host, and then waits for ticks that never come: it is told
# how fast the emulated counter, the host's own, runs.
khz=$(sed -n 's/^cpu MHz[^0-9]*\([0-9]*\)\.\([0-9]\{3\}\).*/\1\2/p' /proc/cpuinfo | head -n 1)
timeout -k 10 $((timeout + 60)) qemu-system-x86_64 -M microvm,rtc=on,isa-serial=on -accel tcg,thread=multi -cpu max -smp 2 -m 2560 \
	-nodefaults -no-user-config -no-reboot -display none -serial "file:$run/console" -kernel "$cache/vmlinux" -initrd "$run/initrd" \
	-append "console=ttyS0 quiet reboot=t panic=-1 random.trust_cpu=on tsc_early_khz=${khz:-2000000} lpj=10000000" </dev/null 7>&- &
qemu=$!
: >>"$run/console"
tail -n +1 -f --pid="$qemu" "$run/console" 7>&- &
show=$!
# A kernel that panics doesn't always come to the end of it.
while kill -0 "$qemu" 2>/dev/null; do
	if grep -q 'Kernel panic' "$run/console"; then
		sleep 3
		kill "$qemu" 2>/dev/null || true
		break
	fi
	sleep 1
done
wait "$qemu" || echo "zfs-guest: the machine ended with $?" >&2
qemu=
wait "$show" || true
show=
code=$(tr -d '\r' <"$run/console" | sed -n 's/^BRIG-TEST-EXIT //p')
case $code in
0) ;;
'') echo "zfs-guest: the machine stopped before the suite ended, or took longer than $((timeout + 60)) seconds" >&2; exit 1 ;;
*) echo "zfs-guest: the suite failed: $code" >&2; exit 1 ;;
esac

#!/bin/sh
# run.sh boot|ssh|stop|forget [N] [COMMAND...]: machine number N (0 if it isn't said) out of what build.sh made.
#
#	boot	starts it and waits until it answers at port 2222+N of 127.0.0.1 alone
#	ssh	runs a command in it, or a shell
#	stop	shuts it down; its disks stay
#	forget	removes the disks of a machine that is stopped, so that the next boot begins afresh
#
# Each machine writes to files of its own in OUT/machines/N, over the one root file system that all begin with; the
# second disk of 8 GB is the pool "tank". MEMORY is in MB (4096), PORT the first port (2222).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/../../../.cache/freebsd-guest}
[ -e "$out/root.img" ] || { echo "freebsd-guest: $out has no machine: make freebsd-guest SRC=... makes it" >&2; exit 1; }
out=$(cd "$out" && pwd)
act=${1:-}
n=${2:-0}
[ $# -lt 2 ] || shift 2
case $n in *[!0-9]* | '') echo "freebsd-guest: $n is no number of a machine" >&2; exit 1 ;; esac
dir=$out/machines/$n
port=$((${PORT:-2222} + n))
say() { echo "freebsd-guest $n: $*" >&2; }
guest() {
	ssh -q -p "$port" -i "$out/key" -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=20 -o UserKnownHostsFile=/dev/null \
		-o StrictHostKeyChecking=no -o ServerAliveInterval=60 -o ServerAliveCountMax=10 root@127.0.0.1 "$@"
}
pid() { cat "$dir/pid" 2>/dev/null; }
running() { p=$(pid) && grep -qs "freebsd-guest-$n" "/proc/$p/cmdline"; }

boot() {
	! running || { say "runs already, as process $(pid)"; return 0; }
	mkdir -p "$dir"
	[ -e "$dir/root.qcow2" ] || qemu-img create -q -f qcow2 -F raw -b "$out/root.img" "$dir/root.qcow2"
	[ -e "$dir/tank.raw" ] || truncate -s 8G "$dir/tank.raw"
	[ -e "$dir/vars.fd" ] || cp "${OVMF:-/usr/share/OVMF}/OVMF_VARS_4M.fd" "$dir/vars.fd"
	# One processor: with the time stamp counter and a periodic timer it is three times as fast as two. SMAP costs
	# time in emulation and guards nothing here. Disks are not synchronised: a host that dies takes them along.
	setsid qemu-system-x86_64 -name "freebsd-guest-$n" -machine q35 -accel tcg,tb-size=512 -cpu max,-smap,-smep,-la57 \
		-smp 1 -m "${MEMORY:-4096}" -nodefaults -no-user-config -display none -serial "file:$dir/console" -pidfile "$dir/pid" \
		-monitor "unix:$dir/monitor,server,nowait" \
		-drive "if=pflash,format=raw,readonly=on,file=${OVMF:-/usr/share/OVMF}/OVMF_CODE_4M.fd" \
		-drive "if=pflash,format=raw,file=$dir/vars.fd" \
		-drive "if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,file=$dir/root.qcow2" \
		-drive "if=none,id=tank,format=raw,cache=unsafe,discard=unmap,file=$dir/tank.raw" \
		-device virtio-blk-pci,drive=root,bootindex=0 -device virtio-blk-pci,drive=tank \
		-device virtio-rng-pci -netdev "user,id=net,hostfwd=tcp:127.0.0.1:$port-:22" -device virtio-net-pci,netdev=net,romfile= \
		</dev/null >"$dir/qemu.log" 2>&1 &
	qemu=$!
	i=0
	until guest true 2>/dev/null; do
		i=$((i + 1))
		# By now it has a session of its own, and where the kernel schedules by session it comes before what is compiled beside it.
		[ ! -w "/proc/$qemu/autogroup" ] || echo "${NICE:--12}" >"/proc/$qemu/autogroup" 2>/dev/null || true
		kill -0 "$qemu" 2>/dev/null || { cat "$dir/qemu.log" >&2; say "QEMU ended"; return 1; }
		[ "$i" -lt 300 ] || { tail -n 20 "$dir/console" >&2; say "doesn't answer; its console is $dir/console"; return 1; }
		# A machine that panics waits for a debugger's commands for ever.
		! grep -q '^panic:' "$dir/console" 2>/dev/null || { tail -n 40 "$dir/console" >&2; say "panicked"; return 1; }
		sleep 1
	done
	say "answers at port $port after $i seconds"
}

stop() {
	running || { say "doesn't run"; return 0; }
	p=$(pid)
	guest 'shutdown -p now' >/dev/null 2>&1 || true
	i=0
	while running; do
		i=$((i + 1))
		[ "$i" -lt 120 ] || { say "doesn't end, and is killed"; kill "$p" || true; sleep 2; break; }
		sleep 1
	done
	rm -f "$dir/pid"
}

case $act in
boot) boot ;;
ssh) guest "$@" ;;
stop) stop ;;
forget)
	! running || { say "runs"; exit 1; }
	rm -rf "$dir"
	;;
*) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

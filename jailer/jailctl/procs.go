// Package jailctl speaks to FreeBSD's kernel about jails, mounts, limits and processes: jail_set(2) and its like, nmount(2), rctl_add_rule(2),
// sysctl(3) kern.proc. What reads the kernel's structures is plain Go and tested anywhere; the calls are FreeBSD's alone.
package jailctl

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// Proc is what brig wants to know of a process.
type Proc struct {
	PID, PPID int
	Jail      int    // jid; 0 outside of any
	Start     uint64 // µs since 1970, which names a process together with its pid
	// User and Kernel are µs of processor time, that of children which it has waited for, and theirs, among it.
	User, Kernel uint64
	State        byte // SRUN 2, SSLEEP 3, SSTOP 4, SZOMB 5 (sys/proc.h)
	Command      string
}

// States of processes.
const (
	Stopped = 4
	Zombie  = 5
)

// Offsets in struct kinfo_proc (sys/user.h), the same on amd64 and arm64 and since FreeBSD 12.
const (
	offSize  = 0
	offPID   = 72
	offPPID  = 76
	offStart = 336
	offStat  = 388
	offComm  = 447
	lenComm  = 20
	offJail  = 592
	offUsage = 608 // struct rusage, which begins with the times of the user and of the system
	offChild = 752 // the same of children that have been waited for
	minSize  = 784
)

// ParseProcs reads an array of struct kinfo_proc, as kern.proc.all and kern.proc.pid.N give it.
func ParseProcs(b []byte) (out []Proc, err error) {
	e := binary.LittleEndian
	for len(b) > 0 {
		if len(b) < minSize {
			return nil, errors.New("the kernel's list of processes ends in the middle of one")
		}
		n := int(e.Uint32(b[offSize:]))
		if n < minSize || n > len(b) {
			return nil, errors.New("a process in the kernel's list has " + strconv.Itoa(n) + " bytes: not the structure of FreeBSD 12 and later")
		}
		comm, _, _ := strings.Cut(string(b[offComm:offComm+lenComm]), "\x00")
		out = append(out, Proc{
			User: µs(b[offUsage:]) + µs(b[offChild:]), Kernel: µs(b[offUsage+16:]) + µs(b[offChild+16:]),
			PID: int(int32(e.Uint32(b[offPID:]))), PPID: int(int32(e.Uint32(b[offPPID:]))), Jail: int(int32(e.Uint32(b[offJail:]))),
			Start: µs(b[offStart:]), State: b[offStat], Command: comm,
		})
		b = b[n:]
	}
	return out, nil
}

// µs reads a struct timeval.
func µs(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b)*1e6 + binary.LittleEndian.Uint64(b[8:])
}

// ParseLimits reads what rctl_get_rules(2) lists of one jail: "jail:NAME:memoryuse:sigkill=4096,…".
func ParseLimits(s string) map[string]uint64 {
	out := map[string]uint64{}
	for rule := range strings.SplitSeq(strings.TrimRight(s, "\x00"), ",") {
		f := strings.Split(rule, ":")
		if len(f) != 4 {
			continue
		}
		_, amount, _ := strings.Cut(f[3], "=")
		amount, _, _ = strings.Cut(amount, "/")
		if n, err := strconv.ParseUint(amount, 10, 64); err == nil {
			out[f[2]] = n
		}
	}
	return out
}

// ParseUsage reads what rctl_get_racct(2) tells of a jail: "cputime=3,memoryuse=4096,…".
func ParseUsage(s string) map[string]uint64 {
	out := map[string]uint64{}
	for pair := range strings.SplitSeq(strings.TrimRight(s, "\x00"), ",") {
		key, value, _ := strings.Cut(pair, "=")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			out[key] = n
		}
	}
	return out
}

// CPUMask turns a cpuset(1) list, "0-2,5", into the bits of a cpuset_t; cpus is how many there are.
func CPUMask(list string, cpus int) ([]uint64, error) {
	mask := make([]uint64, maxCPU/64)
	for part := range strings.SplitSeq(list, ",") {
		low, high, ranged := strings.Cut(strings.TrimSpace(part), "-")
		if !ranged {
			high = low
		}
		a, err1 := strconv.Atoi(low)
		b, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || a < 0 || b < a {
			return nil, errors.New("invalid list of processors: " + strconv.Quote(list))
		}
		if b >= cpus {
			return nil, errors.New("processor " + strconv.Itoa(b) + " of the list " + strconv.Quote(list) + " is not there: this host has " + strconv.Itoa(cpus))
		}
		for n := a; n <= b; n++ {
			mask[n/64] |= 1 << (n % 64)
		}
	}
	return mask, nil
}

// maxCPU is CPU_MAXSIZE of FreeBSD 13 (sys/_cpuset.h); a kernel for more takes a smaller set as well.
const maxCPU = 256

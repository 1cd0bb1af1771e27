package testbed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Offsets in sys/user.h's struct kinfo_proc, the same on all machines of 64 bits.
const (
	atPid, atParent = 72, 76
	atResident      = 264 // in pages
	atChildTime     = 352 // struct timeval: processor time of children that have been waited for
	atState         = 388
	zombie          = 5 // SZOMB
)

// Processes lists those of the host.
func Processes() ([]Process, error) {
	list, err := kinfo("kern.proc.proc")
	if err != nil {
		return nil, err
	}
	var out []Process
	for _, k := range list {
		out = append(out, processIn(k))
	}
	return out, nil
}

func processOf(pid int) (Process, error) {
	list, err := kinfo("kern.proc.pid", pid)
	if err != nil {
		return Process{}, err
	}
	if len(list) == 0 {
		return Process{}, unix.ESRCH
	}
	return processIn(list[0]), nil
}

// processIn also asks for the arguments, of which a process that has ended has none.
func processIn(k []byte) Process {
	p := Process{Pid: int(int32(binary.LittleEndian.Uint32(k[atPid:]))), Parent: int(int32(binary.LittleEndian.Uint32(k[atParent:]))), Dead: k[atState] == zombie}
	if args, err := unix.SysctlRaw("kern.proc.args", p.Pid); err == nil {
		p.Args = string(bytes.ReplaceAll(bytes.TrimRight(args, "\x00"), []byte{0}, []byte{' '}))
	}
	return p
}

// kinfo splits what a sysctl gives of processes: each structure begins with its size.
func kinfo(name string, args ...int) (out [][]byte, err error) {
	var b []byte
	for {
		if b, err = unix.SysctlRaw(name, args...); !errors.Is(err, unix.ENOMEM) {
			break // more processes than a moment ago
		}
	}
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("sysctl %s: %w", name, err)
	}
	for len(b) >= 4 {
		size := int(binary.LittleEndian.Uint32(b))
		if size <= atState || size > len(b) {
			return nil, fmt.Errorf("sysctl %s: a structure of %d bytes", name, size)
		}
		out, b = append(out, b[:size]), b[size:]
	}
	return out, nil
}

// OpenFiles counts the descriptors of a process: each struct kinfo_file (sys/user.h) begins with its size, its kind and its descriptor, which is
// negative for what has none, as the current directory.
func OpenFiles(pid int) (n int, err error) {
	b, err := unix.SysctlRaw("kern.proc.filedesc", pid)
	if err != nil {
		return 0, fmt.Errorf("sysctl kern.proc.filedesc of %d: %w", pid, err)
	}
	for len(b) >= 12 {
		size := int(binary.LittleEndian.Uint32(b))
		if size == 0 {
			break // the kernel gives some room more than it fills
		}
		if size < 12 || size > len(b) {
			return 0, fmt.Errorf("sysctl kern.proc.filedesc of %d: a structure of %d bytes", pid, size)
		}
		if int32(binary.LittleEndian.Uint32(b[8:])) >= 0 {
			n++
		}
		b = b[size:]
	}
	return n, nil
}

// Resident is the resident memory of a process in bytes.
func Resident(pid int) (int64, error) {
	list, err := kinfo("kern.proc.pid", pid)
	if err == nil && len(list) == 0 {
		err = unix.ESRCH
	}
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(list[0][atResident:])) * int64(os.Getpagesize()), nil
}

// FileLimits are a process's limits of descriptors.
func FileLimits(pid int) (soft, hard int64, err error) {
	b, err := unix.SysctlRaw("kern.proc.rlimit", pid, unix.RLIMIT_NOFILE)
	if err != nil || len(b) < 16 {
		return 0, 0, fmt.Errorf("sysctl kern.proc.rlimit of %d: %d bytes, %w", pid, len(b), err)
	}
	return int64(binary.LittleEndian.Uint64(b)), int64(binary.LittleEndian.Uint64(b[8:])), nil
}

// Spent says what a process's children have cost that it has waited for, and how many it has now: the same twice means that it has started none.
func Spent(pid int) (string, error) {
	list, err := kinfo("kern.proc.pid", pid)
	if err == nil && len(list) == 0 {
		err = unix.ESRCH
	}
	if err != nil {
		return "", err
	}
	n, err := Children(pid)
	return fmt.Sprintf("%x seconds and microseconds, %d children", list[0][atChildTime:atChildTime+16], n), err
}

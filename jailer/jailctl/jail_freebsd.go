package jailctl

import (
	"encoding/binary"
	"errors"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Flags of jail_set(2).
const (
	Create = 1
	Update = 2
)

// iovecs holds byte slices for the kernel. A nil one has no base.
func iovecs(parts [][]byte) []unix.Iovec {
	out := make([]unix.Iovec, len(parts))
	for i, b := range parts {
		if b != nil {
			out[i].Base = &b[0]
			out[i].SetLen(len(b))
		}
	}
	return out
}

// Set makes or changes a jail by name and value pairs (jailspec.Param.Iov) and returns its jid. The error has the kernel's own words where it has some.
func Set(pairs [][]byte, flags int) (jid int, err error) {
	message := make([]byte, 1024)
	parts := append(pairs[:len(pairs):len(pairs)], []byte("errmsg\x00"), message)
	iov := iovecs(parts)
	r, _, e := unix.Syscall(unix.SYS_JAIL_SET, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)), uintptr(flags))
	if e != 0 {
		if text, _, _ := strings.Cut(string(message), "\x00"); text != "" {
			return 0, errors.New("jail_set: " + text + ": " + e.Error())
		}
		return 0, &callError{"jail_set", e}
	}
	return int(r), nil
}

// callError is a system call's error.
type callError struct {
	call string
	err  unix.Errno
}

func (e *callError) Error() string { return e.call + ": " + e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

// ID finds a jail by its name. ENOENT: there is none, or it is dying.
func ID(name string) (int, error) {
	jid, _, err := get([]byte("name\x00"), append([]byte(name), 0), 0)
	return jid, err
}

// Path is a jail's root on the host; "" if there is no such jail.
func Path(name string) string {
	path := make([]byte, unix.PathMax)
	iov := iovecs([][]byte{[]byte("name\x00"), append([]byte(name), 0), []byte("path\x00"), path})
	if _, _, e := unix.Syscall(unix.SYS_JAIL_GET, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)), 0); e != 0 {
		return ""
	}
	return unix.ByteSliceToString(path)
}

func get(key, value []byte, flags int) (jid int, name string, err error) {
	full := make([]byte, 1024)
	parts := [][]byte{key, value}
	if string(key) != "name\x00" {
		parts = append(parts, []byte("name\x00"), full)
	}
	iov := iovecs(parts)
	r, _, e := unix.Syscall(unix.SYS_JAIL_GET, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)), uintptr(flags))
	if e != 0 {
		return 0, "", e
	}
	name, _, _ = strings.Cut(string(full), "\x00")
	return int(r), name, nil
}

// List lists all jails, jid to full name.
func List() (map[int]string, error) {
	out := map[int]string{}
	for last := 0; ; {
		jid, name, err := get([]byte("lastjid\x00"), binary.NativeEndian.AppendUint32(nil, uint32(last)), 0)
		if err == unix.ENOENT {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		out[jid], last = name, jid
	}
}

// Attach moves this process into a jail, for good.
func Attach(jid int) error {
	if _, _, e := unix.Syscall(unix.SYS_JAIL_ATTACH, uintptr(jid), 0, 0); e != 0 {
		return &callError{"jail_attach", e}
	}
	return nil
}

// Remove kills all processes of a jail and lets it die.
func Remove(jid int) error {
	if _, _, e := unix.Syscall(unix.SYS_JAIL_REMOVE, uintptr(jid), 0, 0); e != 0 && e != unix.EINVAL { // EINVAL: no such jail
		return &callError{"jail_remove", e}
	}
	return nil
}

// SetCPUs binds a jail, and all that is in it, to processors (cpuset_setaffinity(2)).
func SetCPUs(jid int, mask []uint64) error {
	const levelWhich, whichJail = 3, 5
	_, _, e := unix.Syscall6(unix.SYS_CPUSET_SETAFFINITY, levelWhich, whichJail, uintptr(jid), uintptr(len(mask)*8), uintptr(unsafe.Pointer(&mask[0])), 0)
	if e != 0 {
		return &callError{"cpuset_setaffinity", e}
	}
	return nil
}

// AddRule and RemoveRules change rctl(8)'s rules. A filter that nothing matches is no error.
func AddRule(rule string) error { _, err := rctl(unix.SYS_RCTL_ADD_RULE, rule, 0); return err }

// RemoveRules removes the rules that match a filter.
func RemoveRules(filter string) error {
	_, err := rctl(unix.SYS_RCTL_REMOVE_RULE, filter, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOSYS) { // without racct there are none
		return nil
	}
	return err
}

// Usage tells what a jail uses, by rctl(8)'s names.
func Usage(jail string) (map[string]uint64, error) {
	s, err := rctl(unix.SYS_RCTL_GET_RACCT, "jail:"+jail, 4096)
	return ParseUsage(s), err
}

// Limits tells what a jail's own rules hold it to, by rctl(8)'s names.
func Limits(jail string) (map[string]uint64, error) {
	s, err := rctl(unix.SYS_RCTL_GET_RULES, "jail:"+jail+":", 16384)
	return ParseLimits(s), err
}

// Links lists the interfaces of this process's network stack with what they have counted.
func Links() ([]Link, error) {
	b, err := unix.SysctlRaw("net.routetable", 0, 0, 3, 0) // any family, NET_RT_IFLIST, all interfaces
	if err != nil {
		return nil, &callError{"sysctl net.routetable", err.(unix.Errno)}
	}
	return ParseLinks(b)
}

// Description is an interface's, as `ifconfig … descr` sets it (netintro(4), SIOCGIFDESCR); "" if it has none or isn't there any more.
func Description(name string) (string, error) {
	fd, err := unix.Socket(unix.AF_LOCAL, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", &callError{"socket", err.(unix.Errno)}
	}
	defer unix.Close(fd)
	text := make([]byte, 256)
	arg := struct { // struct ifreq with ifr_buffer, net/if.h
		name   [16]byte
		length uint64
		buffer *byte
	}{length: uint64(len(text)), buffer: &text[0]}
	copy(arg.name[:], name)
	const siocgifdescr = 0xc020692a // _IOWR('i', 42, struct ifreq)
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), siocgifdescr, uintptr(unsafe.Pointer(&arg)))
	if e == unix.ENXIO || e == unix.ENOMSG || e == 0 && arg.buffer == nil { // no such interface, no description, one longer than any of brig's
		return "", nil
	} else if e != 0 {
		return "", &callError{"look for the description of " + name, e}
	}
	return unix.ByteSliceToString(text), nil
}

// Loopback gives lo0 of this process's network stack 127.0.0.1, and brings it up (netintro(4), SIOCAIFADDR); ::1 comes by itself.
func Loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return &callError{"socket", err.(unix.Errno)}
	}
	defer unix.Close(fd)
	address := func(a ...byte) (out [16]byte) { // struct sockaddr_in
		out[0], out[1] = 16, unix.AF_INET
		copy(out[4:], a)
		return out
	}
	arg := struct { // struct ifaliasreq, net/if.h
		name             [16]byte
		addr, peer, mask [16]byte
		vhid             int32
	}{addr: address(127, 0, 0, 1), mask: address(255, 0, 0, 0)}
	copy(arg.name[:], "lo0")
	const siocaifaddr = 0x8044692b // _IOW('i', 43, struct ifaliasreq); x/sys has an older one
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), siocaifaddr, uintptr(unsafe.Pointer(&arg))); e != 0 {
		return &callError{"bring up lo0", e}
	}
	return nil
}

// OpenPorts lets everybody in this process's network stack have ports below 1024. The stack must be its jail's own.
func OpenPorts() error {
	name, zero := "net.inet.ip.portrange.reservedhigh", int32(0)
	_, _, e := unix.Syscall6(unix.SYS___SYSCTLBYNAME, uintptr(unsafe.Pointer(unsafe.StringData(name))), uintptr(len(name)), 0, 0,
		uintptr(unsafe.Pointer(&zero)), unsafe.Sizeof(zero))
	if e != 0 {
		return &callError{"sysctl " + name, e}
	}
	return nil
}

func rctl(call uintptr, in string, room int) (string, error) {
	arg := append([]byte(in), 0)
	out := make([]byte, room+1)
	_, _, e := unix.Syscall6(call, uintptr(unsafe.Pointer(&arg[0])), uintptr(len(arg)), uintptr(unsafe.Pointer(&out[0])), uintptr(room), 0, 0)
	if e != 0 {
		return "", &callError{"rctl " + in, e}
	}
	s, _, _ := strings.Cut(string(out), "\x00")
	return s, nil
}

// Process tells of one process. ESRCH: there is none.
func Process(pid int) (Proc, error) {
	b, err := unix.SysctlRaw("kern.proc.pid", pid)
	if err != nil {
		return Proc{}, err
	}
	procs, err := ParseProcs(b)
	if err != nil {
		return Proc{}, err
	}
	if len(procs) == 0 {
		return Proc{}, unix.ESRCH
	}
	return procs[0], nil
}

// Processes lists all processes of the host.
func Processes() ([]Proc, error) {
	b, err := unix.SysctlRaw("kern.proc.proc")
	if err != nil {
		return nil, err
	}
	return ParseProcs(b)
}

// Inside lists the processes of a jail.
func Inside(jid int) (out []Proc, err error) {
	all, err := Processes()
	for _, p := range all {
		if p.Jail == jid {
			out = append(out, p)
		}
	}
	return out, err
}

// Commands of procctl(2) for this process.
const (
	reapAcquire = 2
	traceCtl    = 7
	noNewPrivs  = 19
)

// Reap makes this process the parent of what its descendants leave behind.
func Reap() error { return procctl(reapAcquire, nil) }

// Untraceable keeps debuggers, and core dumps, away until the next execve(2), its own or its children's: what enters a jail is not the jail's before.
func Untraceable() error { v := int32(2); return procctl(traceCtl, &v) }

// NoNewPrivileges ignores set-user-ID bits from now on, in all children too.
func NoNewPrivileges() error { v := int32(1); return procctl(noNewPrivs, &v) }

func procctl(command uintptr, value *int32) error {
	const pPID = 0
	if _, _, e := unix.Syscall6(unix.SYS_PROCCTL, pPID, uintptr(unix.Getpid()), command, uintptr(unsafe.Pointer(value)), 0, 0); e != 0 {
		return &callError{"procctl", e}
	}
	return nil
}

// OpenTerminal makes a pseudoterminal. In a jail it must be made from within: devfs(5) shows it to the jail of who made it.
func OpenTerminal() (master int, slave string, err error) {
	r, _, e := unix.Syscall(unix.SYS_POSIX_OPENPT, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, "", &callError{"posix_openpt", e}
	}
	// struct fiodgname_arg, ioctl(FIODGNAME): the name beneath /dev.
	name := make([]byte, 64)
	arg := struct {
		len int32
		_   int32
		buf *byte
	}{len: int32(len(name)), buf: &name[0]}
	const fiodgname = 0x80106678 // _IOW('f', 120, struct fiodgname_arg)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, r, fiodgname, uintptr(unsafe.Pointer(&arg))); e != 0 {
		unix.Close(int(r))
		return -1, "", &callError{"ioctl FIODGNAME", e}
	}
	return int(r), "/dev/" + unix.ByteSliceToString(name), nil
}

// WaitEnded waits until a child has ended, and leaves it to be reaped. ECHILD: there are no children.
func WaitEnded() (pid int, err error) {
	const pAll, wexited, wnowait = 7, 16, 8 // sys/wait.h
	var status int32
	for {
		r, _, e := unix.Syscall6(unix.SYS_WAIT6, pAll, 0, uintptr(unsafe.Pointer(&status)), wexited|wnowait, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, e
		}
		return int(r), nil
	}
}

package survivor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxShed is how far Shed looks: descriptors that a shell or a service leaves open are among the first.
const maxShed = 4096

// Shed closes the descriptors that whoever started brigd left open in it: what they lead to must not stay open as long as this
// process. Our own are all closed upon exec. FreeBSD's /dev/fd lists the first three alone, unless fdescfs(5) is there.
func Shed() {
	for fd := 3; fd < maxShed; fd++ {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// Prefer makes the kernel end other processes before this one when memory is short, as protect(1) does: procctl(2), sys/procctl.h.
func Prefer() error {
	const (
		pid            = 0 // P_PID
		sprotect       = 1 // PROC_SPROTECT
		protect  int32 = 1 // PPROT_SET
	)
	how := protect
	if _, _, e := unix.Syscall6(unix.SYS_PROCCTL, pid, uintptr(unix.Getpid()), sprotect, uintptr(unsafe.Pointer(&how)), 0, 0); e != 0 {
		return e
	}
	return nil
}

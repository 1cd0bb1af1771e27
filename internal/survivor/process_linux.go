package survivor

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Shed closes the descriptors that whoever started brigd left open in it: what they lead to must not stay open as long as this
// process. Our own are all closed upon exec.
func Shed() {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range all {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// oomScore is as brigd's unit has it: what a survivor serves, containers lack until brigd starts it again.
const oomScore = -500

// Prefer makes the kernel end other processes before this one when memory is short.
func Prefer() error {
	const path = "/proc/self/oom_score_adj"
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if now, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && now <= oomScore {
		return nil
	}
	return os.WriteFile(path, []byte(strconv.Itoa(oomScore)), 0o600)
}

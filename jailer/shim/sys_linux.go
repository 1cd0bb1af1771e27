package shim

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of what its descendants leave behind (PR_SET_CHILD_SUBREAPER).
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// held is a process that can be signalled as long as it is there, and whose pid nobody else gets meanwhile.
type held struct{ fd int }

// hold takes hold of an unreaped child.
func hold(pid int) *held {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		fd = -1
	}
	return &held{fd}
}

func (h *held) signal(n int) error { return unix.PidfdSendSignal(h.fd, unix.Signal(n), nil, 0) }

func (h *held) release() { unix.Close(h.fd) }

// getTermios is the ioctl(2) of tcgetattr(3).
const getTermios = unix.TCGETS

// endJail has nothing to do: with process 1 of a PID namespace all others end.
func endJail() {}

// killLeft ends what an OCI runtime has started and then said that it had failed, so that nobody would know of it. Its main process, if
// it has one, has fallen to the shim.
func killLeft(pidFile string) {
	pid, err := readPid(pidFile)
	if err != nil {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(b), ") ") // proc_pid_stat(5); a name with ") " in it makes this do nothing
	if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) // it may have ended
	}
}

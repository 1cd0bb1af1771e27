package shim

import (
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/brigd/brig/jailer/jailctl"
	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of what its descendants leave behind (procctl(2), PROC_REAP_ACQUIRE).
func adoptOrphans() error { return jailctl.Reap() }

// held is a process that can be signalled as long as it is there. It is the shim's own child, so that its pid is nobody else's until
// it has been reaped; reaping says so first.
type held struct {
	pid int
	mu  sync.Mutex
	end bool
}

// holds are the processes held, by pid.
var holds struct {
	sync.Mutex
	by map[int]*held
}

func hold(pid int) *held {
	h := &held{pid: pid}
	holds.Lock()
	defer holds.Unlock()
	if holds.by == nil {
		holds.by = map[int]*held{}
	}
	holds.by[pid] = h
	return h
}

func (h *held) signal(n int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end {
		return unix.ESRCH
	}
	return unix.Kill(h.pid, unix.Signal(n))
}

func (h *held) release() {
	holds.Lock()
	defer holds.Unlock()
	if holds.by[h.pid] == h {
		delete(holds.by, h.pid)
	}
}

// lost tells that pid is about to be reaped.
func lost(pid int) {
	holds.Lock()
	h := holds.by[pid]
	holds.Unlock()
	if h != nil {
		h.mu.Lock()
		h.end = true
		h.mu.Unlock()
	}
}

// getTermios is the ioctl(2) of tcgetattr(3).
const getTermios = unix.TIOCGETA

// JailName is the file in a run directory that has the jail's full name.
const JailName = "jail"

// endJail kills what the main process left in its jail, as the end of process 1 of a PID namespace does on Linux.
func endJail() {
	b, err := os.ReadFile(JailName)
	if err != nil {
		return
	}
	if jid, err := jailctl.ID(strings.TrimSpace(string(b))); err == nil {
		_ = jailctl.Remove(jid) // Destroy does it again
	}
}

// killLeft ends what a runtime has started and then said that it had failed.
func killLeft(pidFile string) {
	pid, err := readPid(pidFile)
	if err != nil {
		return
	}
	if p, err := jailctl.Process(pid); err == nil && p.PPID == os.Getpid() {
		unix.Kill(pid, unix.SIGKILL)
	}
}

// reapOne waits for the end of a child, whichever is first, says so, and reaps it.
func reapOne() (pid int, ws syscall.WaitStatus, err error) {
	if pid, err = jailctl.WaitEnded(); err != nil {
		return 0, 0, err
	}
	lost(pid)
	pid, err = syscall.Wait4(pid, &ws, syscall.WNOHANG, nil)
	return pid, ws, err
}

// spawn forks and executes program with argv in the current directory. There is nothing to hide on FreeBSD.
func spawn(program string, argv []string, files []uintptr, _ string) (int, error) {
	return syscall.ForkExec(program, argv, &syscall.ProcAttr{Files: files, Env: []string{"PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"}})
}

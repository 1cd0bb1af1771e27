//go:build linux || freebsd

package shim

import (
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Init runs argv as the one child of a container's process 1: it forwards signals to it, reaps whatever falls to it, and returns the
// child's exit status (128+n for signal n; 126 and 127 if it can't be executed).
func Init(argv []string) int {
	if len(argv) == 0 {
		return 127
	}
	signals := make(chan os.Signal, 32)
	signal.Notify(signals)
	path, code := lookPath(argv[0])
	if code != 0 {
		os.Stderr.WriteString("init: " + argv[0] + ": " + map[int]string{126: "permission denied", 127: "not found"}[code] + "\n")
		return code
	}
	attr := &syscall.ProcAttr{Files: []uintptr{0, 1, 2}, Env: os.Environ(), Sys: &syscall.SysProcAttr{Setpgid: true}}
	if _, err := unix.IoctlGetTermios(0, getTermios); err == nil {
		attr.Sys.Foreground = true
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		os.Stderr.WriteString("init: " + argv[0] + ": " + err.Error() + "\n")
		return 126
	}
	go forward(signals, pid)
	for {
		var ws syscall.WaitStatus
		got, err := syscall.Wait4(-1, &ws, 0, nil)
		if got == pid {
			return exitCode(ws)
		}
		if err != nil && err != syscall.EINTR {
			return 127
		}
	}
}

// forward passes signals on, until the process ends.
func forward(signals <-chan os.Signal, pid int) {
	for sig := range signals {
		switch sig {
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE: // the first is ours; Go sends itself the second
		default:
			unix.Kill(pid, sig.(syscall.Signal))
		}
	}
}

// lookPath finds a program as execvp(3) does; code is 0, 126 or 127.
func lookPath(name string) (path string, code int) {
	if strings.Contains(name, "/") {
		return name, 0
	}
	code = 127
	for _, dir := range strings.Split(os.Getenv("PATH"), ":") {
		if dir == "" {
			dir = "."
		}
		p := dir + "/" + name
		if unix.Access(p, unix.X_OK) == nil {
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				return p, 0
			}
		} else if _, err := os.Stat(p); err == nil {
			code = 126
		}
	}
	return "", code
}

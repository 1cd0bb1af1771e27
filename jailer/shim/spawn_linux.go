package shim

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// reapOne waits for the end of a child, whichever is first, and reaps it.
func reapOne() (pid int, ws syscall.WaitStatus, err error) {
	pid, err = syscall.Wait4(-1, &ws, 0, nil)
	return pid, ws, err
}

// spawn forks and executes program with argv in the current directory. With hide, the child gets a mount namespace in which the mount at
// hide is gone; no other mount is any different, and the namespace ends with the child.
func spawn(program string, argv []string, files []uintptr, hide string) (int, error) {
	attr := &syscall.ProcAttr{Files: files, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}
	if hide == "" {
		return syscall.ForkExec(program, argv, attr)
	}
	type result struct {
		pid int
		err error
	}
	ch := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and its namespace with it. The main thread would stay.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			pid, err := spawn(program, argv, files, hide)
			ch <- result{pid, err}
			return
		}
		err := hideMount(hide)
		pid := 0
		if err == nil {
			pid, err = syscall.ForkExec(program, argv, attr)
		}
		ch <- result{pid, err}
	}()
	r := <-ch
	return r.pid, r.err
}

// hideMount moves the calling thread to its own mount namespace and unmounts path there. The parent mount is made private
// first, so that the host keeps path.
func hideMount(path string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	parent := path[:max(1, lastSlash(path))]
	if err := unix.Mount("", parent, "", unix.MS_PRIVATE, ""); err != nil && err != unix.EINVAL {
		return err
	}
	if err := unix.Mount("", path, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Unmount(path, unix.MNT_DETACH)
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

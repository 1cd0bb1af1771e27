//go:build linux || freebsd

// Package jailrun is FreeBSD's counterpart of an OCI runtime: it makes a jail of a jailspec.Bundle, and executes processes in it. A shim calls it as it would
// call crun: one invocation for one process, which it leaves behind.
package jailrun

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the symbolic links followed for one path, as the kernel does.
const maxLinks = 40

// beneath walks path in the tree at the directory root as the kernel would in a chroot: a link, be it absolute or with "..", leads nowhere else.
// It returns the open directory that contains the last component, and that one's name, which is no link; for the root itself dir is root's and the name is ".".
// What is missing on the way is made, mode 0755, and the last component too: a file if file is set, else a directory. The caller closes dir.
func beneath(root int, path string, file bool) (dir int, name string, err error) {
	stack := []int{} // open directories from the root down, root itself not among them
	at := func() int {
		if len(stack) == 0 {
			return root
		}
		return stack[len(stack)-1]
	}
	defer func() {
		for _, fd := range stack {
			unix.Close(fd)
		}
	}()
	todo, links := strings.Split(path, "/"), 0
	for {
		for len(todo) > 0 && (todo[0] == "" || todo[0] == ".") {
			todo = todo[1:]
		}
		if len(todo) == 0 { // it ended with "..", or names the root
			dir, err = unix.FcntlInt(uintptr(at()), unix.F_DUPFD_CLOEXEC, 0)
			return dir, ".", err
		}
		part, last := todo[0], !more(todo[1:])
		todo = todo[1:]
		if part == ".." {
			if len(stack) > 0 {
				unix.Close(stack[len(stack)-1])
				stack = stack[:len(stack)-1]
			}
			continue
		}
		var st unix.Stat_t
		err = unix.Fstatat(at(), part, &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			if err = makeAt(at(), part, last && file); err == nil {
				err = unix.Fstatat(at(), part, &st, unix.AT_SYMLINK_NOFOLLOW)
			}
		}
		if err != nil {
			return -1, "", errors.New(part + ": " + err.Error())
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			if links++; links > maxLinks {
				return -1, "", errors.New(part + ": " + unix.ELOOP.Error())
			}
			link, err := readlinkAt(at(), part)
			if err != nil {
				return -1, "", errors.New(part + ": " + err.Error())
			}
			if strings.HasPrefix(link, "/") {
				for _, fd := range stack {
					unix.Close(fd)
				}
				stack = stack[:0]
			}
			todo = append(strings.Split(link, "/"), todo...)
			continue
		}
		if last {
			dir, err = unix.FcntlInt(uintptr(at()), unix.F_DUPFD_CLOEXEC, 0)
			return dir, part, err
		}
		fd, err := unix.Openat(at(), part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, "", errors.New(part + ": " + err.Error())
		}
		stack = append(stack, fd)
	}
}

// more reports whether a component is left.
func more(todo []string) bool {
	for _, p := range todo {
		if p != "" && p != "." {
			return true
		}
	}
	return false
}

func makeAt(dir int, name string, file bool) error {
	if !file {
		if err := unix.Mkdirat(dir, name, 0o755); err != unix.EEXIST {
			return err
		}
		return nil
	}
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func readlinkAt(dir int, name string) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

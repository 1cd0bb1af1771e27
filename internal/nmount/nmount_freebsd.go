package nmount

import (
	"errors"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Mount calls nmount(2) with Pairs. The error has the kernel's own words where it has some.
func Mount(pairs [][]byte) error {
	message := make([]byte, 256)
	parts := append(pairs[:len(pairs):len(pairs)], []byte("errmsg\x00"), message)
	iov := make([]unix.Iovec, len(parts))
	for i, b := range parts {
		if b != nil {
			iov[i].Base = &b[0]
			iov[i].SetLen(len(b))
		}
	}
	_, _, e := unix.Syscall(unix.SYS_NMOUNT, uintptr(unsafe.Pointer(&iov[0])), uintptr(len(iov)), 0)
	if e == 0 {
		return nil
	}
	if text, _, _ := strings.Cut(string(message), "\x00"); text != "" {
		return &kernelError{text, e}
	}
	return os.NewSyscallError("nmount", e)
}

// kernelError is an error with the kernel's words for it.
type kernelError struct {
	text string
	err  unix.Errno
}

func (e *kernelError) Error() string { return "nmount: " + e.text + ": " + e.err.Error() }
func (e *kernelError) Unwrap() error { return e.err }

// Points lists where something is mounted on the host, oldest first.
func Points() (out []string, err error) {
	for {
		n, err := unix.Getfsstat(nil, unix.MNT_NOWAIT)
		if err != nil {
			return nil, os.NewSyscallError("getfsstat", err)
		}
		list := make([]unix.Statfs_t, n+8)
		if n, err = unix.Getfsstat(list, unix.MNT_NOWAIT); err != nil {
			return nil, os.NewSyscallError("getfsstat", err)
		}
		if n == len(list) {
			continue // there may be more by now
		}
		for i := range list[:n] {
			out = append(out, unix.ByteSliceToString(list[i].Mntonname[:]))
		}
		return out, nil
	}
}

// NoFileSystem tells whether err is that the kernel lacks the file system (sys/kern/vfs_mount.c says either).
func NoFileSystem(err error) bool {
	k := new(kernelError)
	return errors.Is(err, unix.ENODEV) || errors.As(err, &k) && k.text == "Invalid fstype"
}

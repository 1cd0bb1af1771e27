package tarfs

import (
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// lseek(2)'s SEEK_DATA and SEEK_HOLE, as <unistd.h> has them.
const (
	seekData = 3
	seekHole = 4
)

// errNoXattr: extattr(2) reaches symlinks and special files by path only, which can't be kept beneath a directory; and Linux's
// security and trusted namespaces have no counterpart.
var errNoXattr = errors.New("no attributes for this kind of file")

func mknodat(fd int, name string, mode uint32, major, minor uint32) error {
	return unix.Mknodat(fd, name, mode, unix.Mkdev(major, minor))
}

func chmodat(fd int, name string, mode uint32) error {
	return unix.Fchmodat(fd, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

func holds(n node, name string) bool { return n.fd >= 0 && strings.HasPrefix(name, "user.") }

func setXattr(n node, name, value string) error {
	if !holds(n, name) {
		return errNoXattr
	}
	return unix.Fsetxattr(n.fd, name, []byte(value), 0)
}

func removeXattr(n node, name string) error {
	if !holds(n, name) {
		return errNoXattr
	}
	return unix.Fremovexattr(n.fd, name)
}

func getXattr(n node, name string) (string, error) {
	if !holds(n, name) {
		return "", errNoXattr
	}
	size, err := unix.Fgetxattr(n.fd, name, nil)
	if err != nil || size == 0 {
		return "", err
	}
	b := make([]byte, size)
	got, err := unix.Fgetxattr(n.fd, name, b)
	return string(b[:max(got, 0)]), err
}

func listXattr(n node) ([]string, error) {
	if n.fd < 0 {
		return nil, errNoXattr
	}
	size, err := unix.Flistxattr(n.fd, nil)
	if err != nil || size == 0 {
		return nil, err
	}
	b := make([]byte, size)
	got, err := unix.Flistxattr(n.fd, b)
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(b[:got]), "\x00"), "\x00"), nil
}

// reflink: block cloning comes with copy_file_range(2), which io.Copy between files uses.
func reflink(_, _ *os.File) error { return unix.EOPNOTSUPP }

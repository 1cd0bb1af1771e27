package tarfs

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	seekData = unix.SEEK_DATA
	seekHole = unix.SEEK_HOLE
)

// errNoXattr is for systems that can't name an attribute of every kind of file; Linux can.
var errNoXattr = errors.New("no attributes for this kind of file")

func mknodat(fd int, name string, mode uint32, major, minor uint32) error {
	return unix.Mknodat(fd, name, mode, int(unix.Mkdev(major, minor)))
}

// chmodat never follows a symlink. Kernels before 6.6 have no fchmodat2(2): there it goes through an O_PATH descriptor.
func chmodat(fd int, name string, mode uint32) error {
	err := unix.Fchmodat(fd, name, mode, unix.AT_SYMLINK_NOFOLLOW)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return err
	}
	p, err := openat(fd, name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(p)
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(p), mode)
}

// procPath names a file through its directory's descriptor; the l-calls do not follow the last component.
func procPath(n node) string {
	if n.dir == unix.AT_FDCWD {
		return n.name
	}
	return "/proc/self/fd/" + strconv.Itoa(n.dir) + "/" + n.name
}

func setXattr(n node, name, value string) error {
	if n.fd >= 0 {
		return unix.Fsetxattr(n.fd, name, []byte(value), 0)
	}
	return unix.Lsetxattr(procPath(n), name, []byte(value), 0)
}

func removeXattr(n node, name string) error {
	if n.fd >= 0 {
		return unix.Fremovexattr(n.fd, name)
	}
	return unix.Lremovexattr(procPath(n), name)
}

func getXattr(n node, name string) (string, error) {
	b, err := growing(func(b []byte) (int, error) {
		if n.fd >= 0 {
			return unix.Fgetxattr(n.fd, name, b)
		}
		return unix.Lgetxattr(procPath(n), name, b)
	})
	return string(b), err
}

func listXattr(n node) ([]string, error) {
	b, err := growing(func(b []byte) (int, error) {
		if n.fd >= 0 {
			return unix.Flistxattr(n.fd, b)
		}
		return unix.Llistxattr(procPath(n), b)
	})
	if err != nil || len(b) == 0 {
		return nil, err
	}
	return strings.Split(strings.TrimRight(string(b), "\x00"), "\x00"), nil
}

// growing calls get with growing buffers until the value fits.
func growing(get func([]byte) (int, error)) ([]byte, error) {
	for n := 256; ; n *= 4 {
		b := make([]byte, n)
		got, err := get(b)
		if err == unix.ERANGE && n < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:got], nil
	}
}

// reflink shares src's blocks with dst, where the file system can.
func reflink(dst, src *os.File) error {
	return unix.IoctlFileClone(int(dst.Fd()), int(src.Fd()))
}

package tarfs

import (
	"os"

	"golang.org/x/sys/unix"
)

// lseek(2)'s SEEK_DATA and SEEK_HOLE, as <unistd.h> has them.
const (
	seekData = 3
	seekHole = 4
)

// mknodat passes over the numbers of what is no device, as Linux does: the kernel refuses them, and ZFS's fifos show some.
func mknodat(fd int, name string, mode uint32, major, minor uint32) error {
	if mode&unix.S_IFMT == unix.S_IFIFO {
		return unix.Mknodat(fd, name, mode, 0)
	}
	return unix.Mknodat(fd, name, mode, unix.Mkdev(major, minor))
}

func chmodat(fd int, name string, mode uint32) error {
	return unix.Fchmodat(fd, name, mode, unix.AT_SYMLINK_NOFOLLOW)
}

// reflink: block cloning comes with copy_file_range(2), which io.Copy between files uses.
func reflink(_, _ *os.File) error { return unix.EOPNOTSUPP }

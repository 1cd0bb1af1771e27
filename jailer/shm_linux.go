package jailer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/ocispec"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// shmName is, in a run directory, where the /dev/shm of a jail that shares its IPC is mounted: a mount of another mount namespace can't
// be bound, so what others shall join lies on the host.
const shmName = "shm"

// makeShm mounts /dev/shm in b's run directory if others may join it, or if it is another jail's. "": the jail has one of its own.
func makeShm(b *brig.Jail) (string, error) {
	dir := filepath.Join(b.Dir, shmName)
	source, flags, data := "shm", uintptr(unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV), ""
	switch {
	case b.Pod != nil:
		return b.Pod.Shm, nil
	case b.IPCOf != nil:
		source, flags = filepath.Join(b.IPCOf.Dir, shmName), unix.MS_BIND
		if mounted, err := mountinfo.Mounted(source); !mounted {
			if err == nil || errors.Is(err, os.ErrNotExist) {
				return "/dev/shm", nil // it has the host's
			}
			return "", errs.Wrap(err, "find the /dev/shm of jail %s", b.IPCOf.JailID)
		}
	case b.Spec.IpcMode == "shareable":
		size := b.Spec.ShmSize
		if size == 0 {
			size = ocispec.DefaultShm
		}
		data = fmt.Sprintf("mode=1777,size=%d", size)
	default:
		return "", nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, errs.Wrap(unix.Mount(source, dir, "tmpfs", flags, data), "mount /dev/shm on %s", dir)
}

// dropShm undoes makeShm for the jail in the run directory dir. Jails that joined keep what they have.
func dropShm(dir string) error {
	switch err := unix.Unmount(filepath.Join(dir, shmName), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
	case nil, unix.ENOENT, unix.EINVAL: // EINVAL: it is no mount point
		return nil
	default:
		return errs.Wrap(err, "unmount /dev/shm in %s", dir)
	}
}

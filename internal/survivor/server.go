package survivor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// Names of files in Config.Dir.
const (
	SocketName = "sock"
	LockName   = "lock" // held with flock(2) by the survivor; has its pid
	LogName    = "log"
)

// lockWait is how long a new survivor waits for the former one's end.
const lockWait = 10 * time.Second

// Listen is what a survivor begins with: it waits until no other one of dir runs, and listens there for brigd. lock is closed last.
func Listen(ctx context.Context, dir string) (l *net.UnixListener, lock *os.File, err error) {
	lock, err = takeLock(ctx, filepath.Join(dir, LockName))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, nil, errs.Wrap(err, "listen for brigd")
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, lock, nil
}

// takeLock waits until no other survivor of the directory runs.
func takeLock(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockWait); ; {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) || ctx.Err() != nil {
			f.Close()
			return nil, errs.Wrap(err, "lock %s: another one runs", path)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := errors.Join(f.Truncate(0), write(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func write(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

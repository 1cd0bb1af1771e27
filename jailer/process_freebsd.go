package jailer

import (
	"context"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/jailctl"
	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// startTime is when a process started, in µs since 1970 (sysctl kern.proc.pid).
func startTime(pid int) (uint64, error) {
	p, err := jailctl.Process(pid)
	return p.Start, err
}

// parentOf is a process's parent.
func parentOf(pid int) (int, error) {
	p, err := jailctl.Process(pid)
	return p.PPID, err
}

// stopped reports whether a process has been stopped by a signal.
func stopped(pid int) bool {
	p, err := jailctl.Process(pid)
	return err == nil && p.State == jailctl.Stopped
}

// grasped is a process by its pid and the time of its start: FreeBSD has no handle of a process that isn't a child.
type grasped struct {
	pid   int
	start uint64
}

// grasp finds a process. ESRCH: there is none.
func grasp(pid int) (*grasped, error) {
	start, err := startTime(pid)
	if err != nil {
		return nil, unix.ESRCH
	}
	return &grasped{pid, start}, nil
}

func (p *grasped) release() {}

// signal returns ESRCH if the process has ended.
func (p *grasped) signal(sig unix.Signal) error {
	if start, err := startTime(p.pid); err != nil || start != p.start {
		return unix.ESRCH
	}
	return unix.Kill(p.pid, sig)
}

// wait returns when the process has ended, be it that nobody has reaped it.
func (p *grasped) wait(ctx context.Context) error {
	for wait := time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 50*time.Millisecond) {
		now, err := jailctl.Process(p.pid)
		if err != nil || now.Start != p.start || now.State == jailctl.Zombie {
			return nil
		}
		time.Sleep(wait)
	}
	return ctx.Err()
}

// socketPath is how to reach a shim's socket: New has seen to it that the path isn't too long.
func socketPath(h *brig.Handle) (path string, done func(), err error) {
	return h.Socket, func() {}, nil
}

// listenIn returns a listening socket in dir.
func listenIn(dir string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), shim.SocketName)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, shim.SocketName)}); err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		f.Close()
		return nil, errs.Wrap(err, "listen in %s", dir)
	}
	return f, nil
}

// dropShm has nothing to undo: what was mounted in a run directory is unmountAll's.
func dropShm(dir string) error { return unmountAll(context.Background(), dir, "") }

// shims finds this instance's shims by their command line.
func (j *Jailer) shims() (out []*brig.Handle) {
	procs, _ := jailctl.Processes()
	for _, p := range procs {
		if !strings.HasPrefix(path.Base(j.cfg.Shim), p.Command) || p.State == jailctl.Zombie {
			continue
		}
		b, err := unix.SysctlRaw("kern.proc.args", p.PID)
		a := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if err != nil || len(a) < 4 || a[1] != shim.ModeShim || a[2] != "instance="+j.cfg.Instance {
			continue
		}
		dir, ok := strings.CutPrefix(a[3], "dir=")
		if !ok {
			continue
		}
		out = append(out, &brig.Handle{
			JailID: shim.ParseArgs(a[2:]).ID, Dir: dir, Socket: filepath.Join(dir, shim.SocketName), ShimPID: p.PID, ShimStart: p.Start,
		})
	}
	return out
}

// sockets refuses them: the number of the process that is to have them must be in its environment, which is made before it is.
func sockets(b *brig.Jail) ([]*os.File, error) {
	if len(b.Spec.Sockets) > 0 {
		return nil, errs.New(errs.NotImplemented, "brig can't activate an app by its sockets on FreeBSD")
	}
	return nil, nil
}

// ownerIn finds the owner and group of a file beneath root. Links in it lead nowhere else; an absolute one is not followed.
func ownerIn(root, name string) (uid, gid int, err error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return 0, 0, err
	}
	defer dir.Close()
	info, err := dir.Stat(strings.TrimLeft(name, "/"))
	if err != nil {
		return 0, 0, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return int(st.Uid), int(st.Gid), nil
}

// openIn opens a regular file beneath root. Links in it lead nowhere else (O_RESOLVE_BENEATH, open(2)); an absolute one is not followed.
func openIn(root, name string) (*os.File, error) {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errs.New(errs.Invalid, "%s is no regular file", name)
	}
	return f, nil
}

package jailer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/undo"
	"github.com/brigd/brig/jailer/ocispec"
	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// Files in a run directory beside the shim's.
const (
	configName = "config.json"
	cgroupName = "cgroup" // the jail's cgroup, absolute in each hierarchy
	stateName  = "rt"     // the OCI runtime's own
	// How many sockets the main process gets; there is none if it gets none.
	socketsName = "sockets"
)

// Create writes the bundle and starts the shim. See runtime.Jails.
func (j *Jailer) Create(ctx context.Context, b *brig.Jail) (h *brig.Handle, warnings []string, err error) {
	if len(b.Args) == 0 {
		return nil, nil, errs.New(errs.Invalid, "no command specified")
	}
	j.reap()
	var u undo.Stack
	defer u.Run(ctx, &err)
	parent := b.Cgroup
	if parent == "" {
		parent = CgroupParent(j.cfg.Instance)
	}
	group := filepath.Join("/", parent, string(b.ID))
	if err = os.MkdirAll(b.Dir, 0o700); err != nil {
		return nil, nil, err
	}
	u.Push("empty the run directory", func(context.Context) error { return cleanDir(b.Dir) })
	if err = cleanDir(b.Dir); err != nil {
		return nil, nil, err
	}
	in, err := j.input(b, group)
	if err != nil {
		return nil, nil, err
	}
	if in.Shm, err = makeShm(b); err != nil {
		return nil, nil, err
	}
	if err = makeCwd(b.Root, ocispec.Cwd(b.Cwd)); err != nil {
		return nil, nil, err
	}
	spec, warnings, err := ocispec.Build(in)
	if err != nil {
		return nil, nil, err
	}
	if err = j.useFilter(string(b.ID), spec); err != nil {
		return nil, nil, err
	}
	if err = writeJSON(filepath.Join(b.Dir, configName), spec); err != nil {
		return nil, nil, err
	}
	if err = os.WriteFile(filepath.Join(b.Dir, cgroupName), []byte(group), 0o600); err != nil {
		return nil, nil, err
	}
	if n := len(b.Spec.Sockets); n > 0 {
		if err = os.WriteFile(filepath.Join(b.Dir, socketsName), []byte(strconv.Itoa(n)), 0o600); err != nil {
			return nil, nil, err
		}
	}
	fault.Point("jail.bundled")
	pid, start, err := j.spawnShim(b, group)
	if err != nil {
		return nil, nil, errs.Wrap(err, "start brig-shim")
	}
	u.Release()
	return &brig.Handle{
		Version: handleVersion, JailID: string(b.ID), Dir: b.Dir, Socket: filepath.Join(b.Dir, shim.SocketName), ShimPID: pid, ShimStart: start,
	}, warnings, nil
}

// input gathers what the rules need.
func (j *Jailer) input(b *brig.Jail, group string) (*ocispec.Input, error) {
	in := &ocispec.Input{Jail: b, Host: j.host, CgroupPath: group}
	for _, share := range []struct {
		with *brig.Handle
		pid  *int
		mode string
	}{{b.PIDOf, &in.PIDOf, "pid"}, {b.IPCOf, &in.IPCOf, "ipc"}} {
		if share.with == nil {
			continue
		}
		if share.with.InitPID == 0 {
			return nil, errs.New(errs.Conflict, "cannot join the %s namespace of a container that is not running", share.mode)
		}
		*share.pid = share.with.InitPID
	}
	var err error
	in.User, err = findUser(b.Root, b.Spec.User, b.Spec.GroupAdd)
	return in, err
}

// openIn opens a regular file beneath root, which every link is resolved in.
func openIn(root, path string) (*os.File, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, errors.New(path + " is no regular file")
	}
	return f, nil
}

// ownerIn finds the owner and group of a file beneath root, which every link is resolved in.
func ownerIn(root, path string) (uid, gid int, err error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(dir)
	fd, err := unix.Openat2(dir, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return 0, 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return int(st.Uid), int(st.Gid), err
}

// makeCwd makes a container's working directory beneath root if it is missing, as dockerd does.
func makeCwd(root, cwd string) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errs.Wrap(err, "open root file system %s", root)
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	path, at := "", dir
	for _, part := range strings.Split(filepath.Clean(cwd), "/") {
		if part == "" {
			continue
		}
		path = filepath.Join(path, part)
		fd, err := unix.Openat2(dir, path, &how)
		if err == unix.ENOENT {
			if err = unix.Mkdirat(at, part, 0o755); err == nil || err == unix.EEXIST {
				fd, err = unix.Openat2(dir, path, &how)
			}
		}
		if at != dir {
			unix.Close(at)
		}
		if err != nil {
			return errs.New(errs.Invalid, "mkdir %s: %w", "/"+path, err)
		}
		at = fd
	}
	if at != dir {
		unix.Close(at)
	}
	return nil
}

// listenIn returns a listening socket in dir, whatever the length of dir's name.
func listenIn(dir string) (*os.File, error) {
	d, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(d)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), shim.SocketName)
	if err = unix.Bind(fd, &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(d) + "/" + shim.SocketName}); err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		f.Close()
		return nil, errs.Wrap(err, "listen in %s", dir)
	}
	return f, nil
}

// startTime is field 22 of /proc/PID/stat, in clock ticks since boot (proc_pid_stat(5)).
func startTime(pid int) (uint64, error) { return statField(pid, 22) }

// parentOf is field 4 of /proc/PID/stat.
func parentOf(pid int) (int, error) {
	n, err := statField(pid, 4)
	return int(n), err
}

// statField returns a numeric field after the third of /proc/PID/stat, counted from 1 as in proc_pid_stat(5).
func statField(pid, n int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:]) // the second field, a name, may hold anything; f begins with the third
	if len(f) < n-2 {
		return 0, errors.New("/proc stat of " + strconv.Itoa(pid) + " is short")
	}
	return strconv.ParseUint(f[n-3], 10, 64)
}

// runtimeFor tells the shim how it calls the OCI runtime, and returns the open program if that is executed from memory.
func (j *Jailer) runtimeFor(c *shim.Config, group string) *os.File {
	c.Hide, c.OOMFile = j.runtime.hide, j.groups.oomFile(group)
	return j.runtime.sealed.open()
}

// socketPath is how to reach a shim's socket. sun_path holds 108 bytes: a longer path goes by its directory's descriptor, which done closes.
func socketPath(h *brig.Handle) (path string, done func(), err error) {
	if len(h.Socket) <= 100 {
		return h.Socket, func() {}, nil
	}
	d, err := unix.Open(h.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, errs.As(errs.NotFound, errs.Wrap(err, "open run directory %s", h.Dir))
	}
	return "/proc/self/fd/" + strconv.Itoa(d) + "/" + shim.SocketName, func() { unix.Close(d) }, nil
}

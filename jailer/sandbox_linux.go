package jailer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/nsfile"
	"github.com/brigd/brig/internal/undo"
	"github.com/brigd/brig/jailer/ocispec"
)

// Files in a pod's directory: what its namespaces are bound to, and the mount point of its /dev/shm.
const (
	podIPC = "ipc"
	podUTS = "uts"
	podNet = "net"
	podShm = "shm"
)

// MakeSandbox makes namespaces of IPC and UTS, which no process need live in to keep them, and /dev/shm. See runtime.Sandboxes.
func (j *Jailer) MakeSandbox(ctx context.Context, s *brig.Sandbox) (err error) {
	j.pods.Lock()
	defer j.pods.Unlock()
	if err := nsfile.Private(j.cfg.PodDir); err != nil {
		return err
	}
	dir := filepath.Join(j.cfg.PodDir, string(s.ID))
	if err := dropSandbox(dir); err != nil { // what a former brigd may have left
		return err
	}
	var u undo.Stack
	defer u.Run(ctx, &err)
	u.Push("remove the pod's namespaces", func(context.Context) error { return dropSandbox(dir) })
	if err := os.Mkdir(dir, 0o700); err != nil {
		return errs.Wrap(err, "make the pod's directory")
	}
	fault.Point("sandbox.dir")
	s.IPC, s.UTS, s.Shm = filepath.Join(dir, podIPC), filepath.Join(dir, podUTS), filepath.Join(dir, podShm)
	if err := spaces(s, filepath.Join(dir, podNet)); err != nil {
		return errs.Wrap(err, "make the namespaces of pod %s", s.ID.Short())
	}
	fault.Point("sandbox.bound")
	if err := os.Mkdir(s.Shm, 0o700); err != nil {
		return err
	}
	size := s.ShmSize
	if size == 0 {
		size = ocispec.DefaultShm
	}
	err = unix.Mount("shm", s.Shm, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, fmt.Sprintf("mode=1777,size=%d", size))
	if err != nil {
		return errs.Wrap(err, "mount the pod's /dev/shm on %s", s.Shm)
	}
	u.Release()
	return nil
}

// spaces makes the namespaces and binds them to their files; net is the file of the network's, where the pod has none from a network.
func spaces(s *brig.Sandbox, net string) error {
	flags, files := unix.CLONE_NEWIPC|unix.CLONE_NEWUTS, map[string]string{"ipc": s.IPC, "uts": s.UTS}
	if s.Netns.Kind == brig.NetnsPrivate {
		flags |= unix.CLONE_NEWNET
		files["net"] = net
	}
	for _, f := range files {
		if err := nsfile.Touch(f); err != nil {
			return err
		}
	}
	err := nsfile.OnThread(func() error {
		if err := unix.Unshare(flags); err != nil {
			return errs.Wrap(err, "unshare")
		}
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return errs.New(errs.Invalid, "set the host name %q: %w", s.Hostname, err)
		}
		if files["net"] != "" {
			if err := raiseLoopback(); err != nil {
				return err
			}
		}
		for kind, f := range files {
			if err := nsfile.Bind(nsfile.Mine(kind), f); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && files["net"] != "" {
		s.Netns = brig.Netns{Kind: brig.NetnsPath, Path: net}
	}
	return err
}

// raiseLoopback brings up lo in the calling thread's namespace.
func raiseLoopback() error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return errs.Wrap(err, "open netlink in the pod's namespace")
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return errs.Wrap(err, "find lo")
	}
	return errs.Wrap(nl.LinkSetUp(lo), "bring up lo")
}

// DropSandbox lets go of what MakeSandbox made; it lives on as long as processes use it. Idempotent.
func (j *Jailer) DropSandbox(_ context.Context, id brig.ID) error {
	j.pods.Lock()
	defer j.pods.Unlock()
	return errors.Join(dropSandbox(filepath.Join(j.cfg.PodDir, string(id))), j.dropPodDir())
}

func dropSandbox(dir string) error {
	for _, name := range []string{podIPC, podUTS, podNet, podShm} {
		if err := nsfile.Unbind(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	fault.Point("sandbox.unbound")
	return os.RemoveAll(dir)
}

// dropPodDir unmounts the pods' directory when it has become empty. The caller holds pods.
func (j *Jailer) dropPodDir() error {
	left, err := os.ReadDir(j.cfg.PodDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil || len(left) > 0 {
		return err
	}
	if err := nsfile.Unbind(j.cfg.PodDir); err != nil {
		return err
	}
	return nsfile.Remove(j.cfg.PodDir)
}

// SweepSandboxes drops all but those of the pods live.
func (j *Jailer) SweepSandboxes(_ context.Context, live []brig.ID) error {
	j.pods.Lock()
	defer j.pods.Unlock()
	return errors.Join(eachStray(j.cfg.PodDir, live, dropSandbox), j.dropPodDir())
}

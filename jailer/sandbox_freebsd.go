package jailer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/internal/undo"
	"github.com/brigd/brig/jailer/jailctl"
	"github.com/brigd/brig/jailer/jailspec"
	"github.com/brigd/brig/jailer/ocispec"
)

// podShm is, in a pod's directory, where its /dev/shm is mounted.
const podShm = "shm"

// MakeSandbox gives the jail that holds the pod's network stack a System V IPC of its own, which the apps' jails, its children, inherit; where
// there is no such jail it makes one. See runtime.Sandboxes.
func (j *Jailer) MakeSandbox(ctx context.Context, s *brig.Sandbox) (err error) {
	dir := filepath.Join(j.cfg.PodDir, string(s.ID))
	if err := j.dropSandbox(ctx, dir); err != nil { // what a former brigd may have left
		return err
	}
	var u undo.Stack
	defer u.Run(ctx, &err)
	u.Push("remove the pod's jail and directory", func(ctx context.Context) error { return j.dropSandbox(ctx, dir) })
	s.Shm = filepath.Join(dir, podShm)
	if err := os.MkdirAll(s.Shm, 0o700); err != nil {
		return errs.Wrap(err, "make the pod's directory")
	}
	fault.Point("sandbox.dir")
	for _, argv := range jailspec.PodJail(j.cfg.Instance, j.host.VNET, s) {
		if _, err := host.Run(ctx, argv...); err != nil {
			return errs.Wrap(err, "make what the apps of pod %s share", s.ID.Short())
		}
	}
	fault.Point("sandbox.bound")
	size := s.ShmSize
	if size == 0 {
		size = ocispec.DefaultShm
	}
	if _, err := host.Run(ctx, "mount", "-t", "tmpfs", "-o", "nosuid,noexec,mode=1777,size="+strconv.FormatInt(size, 10), "tmpfs", s.Shm); err != nil {
		return errs.Wrap(err, "mount the pod's /dev/shm on %s", s.Shm)
	}
	u.Release()
	return nil
}

// DropSandbox undoes MakeSandbox. Idempotent.
func (j *Jailer) DropSandbox(ctx context.Context, id brig.ID) error {
	return j.dropSandbox(ctx, filepath.Join(j.cfg.PodDir, string(id)))
}

func (j *Jailer) dropSandbox(ctx context.Context, dir string) error {
	failed := unmount(ctx, filepath.Join(dir, podShm))
	jid, err := jailctl.ID(jailspec.PodJailName(j.cfg.Instance, brig.ID(filepath.Base(dir))))
	if err == nil {
		failed = errors.Join(failed, jailctl.Remove(jid))
	}
	fault.Point("sandbox.unbound")
	if failed != nil {
		return errs.Wrap(failed, "drop the sandbox %s", dir)
	}
	return erase.All(dir)
}

// SweepSandboxes drops all but those of the pods live.
func (j *Jailer) SweepSandboxes(ctx context.Context, live []brig.ID) error {
	return eachStray(j.cfg.PodDir, live, func(dir string) error { return j.dropSandbox(ctx, dir) })
}

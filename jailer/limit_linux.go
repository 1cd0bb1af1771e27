package jailer

import (
	"context"
	"os"
	"path/filepath"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/jailer/ocispec"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Limit changes the limits of a running jail. See runtime.Limiter. The OCI runtime writes them, in the order that the kernel asks for.
func (j *Jailer) Limit(ctx context.Context, h *brig.Handle, l *brig.Limits) error {
	r, err := newLimits(l, j.host)
	if err != nil {
		return err
	}
	file := filepath.Join(h.Dir, "limits.json")
	if err := writeJSON(file, r); err != nil {
		return errs.As(errs.NotFound, err)
	}
	defer os.Remove(file)
	argv := []string{j.runtime.path, "--root", filepath.Join(h.Dir, stateName)}
	if j.runtime.crun {
		argv = append(argv, "--cgroup-manager=cgroupfs")
	}
	if _, err = host.Run(ctx, append(argv, "update", "--resources", file, h.JailID)...); err != nil {
		return errs.Wrap(err, "update the limits of %s", h.JailID)
	}
	if r.Pids != nil || !j.groups.has("pids") {
		return nil
	}
	// crun writes the -1 that stands for no limit as it is, which the kernel refuses (cgroup-v1/pids.rst).
	free := filepath.Join(j.groups.dir("pids", j.cgroup(h)), "pids.max")
	return errs.Wrap(os.WriteFile(free, []byte("max"), 0o644), "lift the limit of processes of %s", h.JailID)
}

// newLimits says every limit that can be changed.
func newLimits(l *brig.Limits, h *ocispec.Host) (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	if _, err := ocispec.Resources(l, h, r); err != nil {
		return nil, err
	}
	if r.BlockIO != nil {
		r.BlockIO = &specs.LinuxBlockIO{Weight: r.BlockIO.Weight} // rates of devices can't be updated, in Docker either
		if r.BlockIO.Weight == nil {
			r.BlockIO = nil
		}
	}
	if r.Memory != nil {
		r.Memory.Swappiness, r.Memory.DisableOOMKiller = nil, nil // likewise
	}
	return r, nil
}

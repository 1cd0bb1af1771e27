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
	"github.com/brigd/brig/jailer/shim"
)

// Destroy kills and removes all of a jail. It tries every part; a second call goes on with what a first one left.
func (j *Jailer) Destroy(ctx context.Context, h *brig.Handle) error {
	group := j.cgroup(h)
	j.dropFilter(h.JailID)
	// A frozen process can't be killed, and the shim waits for its end.
	failed := []error{j.groups.thaw(group), j.endShim(ctx, h)}
	fault.Point("jail.shimended")
	failed = append(failed, j.groups.kill(ctx, group))
	failed = append(failed, j.groups.remove(group))
	if err := errors.Join(failed...); err != nil {
		return errs.Wrap(err, "destroy jail %s", h.JailID) // the run directory stays, for it names what is left
	}
	if filepath.Dir(group) == CgroupParent(j.cfg.Instance) {
		j.dropParent()
	}
	fault.Point("jail.ungrouped")
	if err := dropShm(h.Dir); err != nil {
		return err
	}
	return os.RemoveAll(h.Dir)
}

// Sweep removes what of this instance handles don't name. See runtime.Jails.
func (j *Jailer) Sweep(ctx context.Context, handles []*brig.Handle) error {
	dirs, ids := live(handles)
	var failed []error
	for _, h := range j.shims() {
		if !dirs[h.Dir] {
			failed = append(failed, j.Destroy(ctx, h))
		}
	}
	if j.cfg.RunDir != "" {
		entries, err := os.ReadDir(j.cfg.RunDir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			failed = append(failed, err)
		}
		for _, e := range entries {
			dir := filepath.Join(j.cfg.RunDir, e.Name())
			if e.IsDir() && !dirs[dir] {
				failed = append(failed, j.Destroy(ctx, &brig.Handle{JailID: jailID(dir), Dir: dir, Socket: filepath.Join(dir, shim.SocketName)}))
			}
		}
	}
	parent := CgroupParent(j.cfg.Instance)
	for _, name := range j.groups.children(parent) {
		if group := filepath.Join(parent, name); !ids[name] {
			failed = append(failed, j.groups.thaw(group), j.groups.kill(ctx, group), j.groups.remove(group))
		}
	}
	j.dropParent()
	return errs.Wrap(errors.Join(failed...), "sweep jails")
}

// dropParent removes the cgroup that the jails' are in, if it is empty and no jail starts just now: that one's own Destroy comes by again.
// Of several at once each looks for itself, for only the last sees it empty.
func (j *Jailer) dropParent() {
	j.dropping.Lock()
	defer j.dropping.Unlock()
	if !j.starting.TryLock() {
		return
	}
	defer j.starting.Unlock()
	if parent := CgroupParent(j.cfg.Instance); len(j.groups.children(parent)) == 0 {
		j.groups.removeParent(parent)
	}
}

// jailID finds a jail's ID from its run directory; without one a name that no cgroup has.
func jailID(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, cgroupName))
	if err != nil || len(b) == 0 {
		return "none-" + filepath.Base(dir)
	}
	return filepath.Base(string(b))
}

// shims finds this instance's shims by their command line.
func (j *Jailer) shims() (out []*brig.Handle) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		a := strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
		if err != nil || len(a) < 4 || a[1] != shim.ModeShim || a[2] != "instance="+j.cfg.Instance {
			continue
		}
		start, err := startTime(pid)
		dir, ok := strings.CutPrefix(a[3], "dir=")
		if err != nil || !ok {
			continue
		}
		out = append(out, &brig.Handle{
			JailID: shim.ParseArgs(a[2:]).ID, Dir: dir, Socket: filepath.Join(dir, shim.SocketName), ShimPID: pid, ShimStart: start,
		})
	}
	return out
}

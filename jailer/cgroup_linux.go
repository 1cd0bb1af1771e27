package jailer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
	"golang.org/x/sys/unix"
)

// cgroups is where this host's hierarchies are mounted: split v1 ones, v2 alone, or both side by side (hybrid), where v2 controls nothing.
type cgroups struct {
	v2     bool
	roots  []hierarchy // v2: one
	hybrid string      // mount point of a v2 hierarchy beside v1's; "" for none
}

// hierarchy is one mounted cgroup tree; a v1 one has the controllers of its mount, a named one has none.
type hierarchy struct {
	path        string
	controllers []string
}

var v1Controllers = []string{"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "hugetlb", "net_cls", "net_prio", "perf_event", "rdma", "misc"}

// detectCgroups reads mountinfo (proc_pid_mountinfo(5)).
func detectCgroups(mountinfo string) (*cgroups, error) {
	f, err := os.Open(mountinfo)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var g cgroups
	unified := ""
	for _, m := range cgroupMounts(f) {
		if m.v2 {
			unified = m.path
		} else {
			g.roots = append(g.roots, hierarchy{m.path, m.controllers})
		}
	}
	switch {
	case len(g.roots) > 0:
		g.hybrid = unified
	case unified != "":
		g.v2 = true
		b, err := os.ReadFile(filepath.Join(unified, "cgroup.controllers"))
		if err != nil {
			return nil, err
		}
		g.roots = []hierarchy{{unified, strings.Fields(string(b))}}
	default:
		return nil, errors.New("no cgroup hierarchy is mounted")
	}
	return &g, nil
}

// A cgroupMount is one mount of a hierarchy.
type cgroupMount struct {
	hierarchy
	v2 bool
}

// cgroupMounts lists the hierarchies of a mountinfo, each where it is at home: beneath /sys/fs/cgroup if it is mounted there (cgroups(7)),
// else where it was mounted first. Others are copies of it, in a chroot's or a container's /sys.
func cgroupMounts(mountinfo io.Reader) []cgroupMount {
	const home = "/sys/fs/cgroup"
	var out []cgroupMount
	at := map[string]int{} // device: index in out
	for s := bufio.NewScanner(mountinfo); s.Scan(); {
		left, right, ok := strings.Cut(s.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 5 || len(r) < 3 || (r[0] != "cgroup" && r[0] != "cgroup2") {
			continue
		}
		if i, seen := at[l[2]]; seen {
			if strings.HasPrefix(l[4], home) && !strings.HasPrefix(out[i].path, home) {
				out[i].path = l[4]
			}
			continue
		}
		m := cgroupMount{hierarchy: hierarchy{path: l[4]}, v2: r[0] == "cgroup2"}
		for _, o := range strings.Split(r[2], ",") {
			if !m.v2 && slices.Contains(v1Controllers, o) {
				m.controllers = append(m.controllers, o)
			}
		}
		at[l[2]] = len(out)
		out = append(out, m)
	}
	return out
}

// controllers lists what this host can limit, in v1's names.
func (g *cgroups) controllers() (out []string) {
	for _, h := range g.roots {
		for _, c := range h.controllers {
			if c == "io" {
				c = "blkio"
			}
			out = append(out, c)
		}
	}
	if g.v2 {
		out = append(out, "devices", "freezer")
	}
	slices.Sort(out)
	return out
}

func (g *cgroups) has(controller string) bool { return slices.Contains(g.controllers(), controller) }

// dir returns the directory of cgroup in the hierarchy of a v1 controller; "" if there is none.
func (g *cgroups) dir(controller, cgroup string) string {
	for _, h := range g.roots {
		if g.v2 || slices.Contains(h.controllers, controller) {
			return filepath.Join(h.path, cgroup)
		}
	}
	return ""
}

func (g *cgroups) swap() bool {
	if !g.v2 {
		dir := g.dir("memory", "/")
		_, err := os.Stat(filepath.Join(dir, "memory.memsw.limit_in_bytes"))
		return dir != "" && err == nil
	}
	m, _ := filepath.Glob(filepath.Join(g.roots[0].path, "*", "memory.swap.max"))
	return len(m) > 0 || g.has("memory")
}

// oomFile returns the file with the oom_kill counter of cgroup.
func (g *cgroups) oomFile(cgroup string) string {
	dir := g.dir("memory", cgroup)
	switch {
	case dir == "" || !g.has("memory"):
		return ""
	case g.v2:
		return filepath.Join(dir, "memory.events")
	}
	return filepath.Join(dir, "memory.oom_control")
}

// all returns cgroup's directory in each hierarchy.
func (g *cgroups) all(cgroup string) (dirs []string) {
	for _, h := range g.roots {
		dirs = append(dirs, filepath.Join(h.path, cgroup))
	}
	if g.hybrid != "" {
		dirs = append(dirs, filepath.Join(g.hybrid, cgroup))
	}
	return dirs
}

// pids lists the processes in cgroup and in what it contains.
func (g *cgroups) pids(cgroup string) ([]int, error) {
	dirs := g.all(cgroup)
	for _, c := range []string{"pids", "freezer", "memory"} { // where nothing inside can move away to: no delegation in v1
		if d := g.dir(c, cgroup); d != "" {
			dirs = []string{d}
			break
		}
	}
	var out []int
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return ignoreMissing(err)
			}
			b, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, s := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(s); err == nil && n > 0 && !slices.Contains(out, n) {
					out = append(out, n)
				}
			}
			return ignoreMissing(err)
		})
		if err != nil {
			return nil, errs.Wrap(err, "list processes of cgroup %s", cgroup)
		}
	}
	slices.Sort(out)
	return out, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// kill kills all processes in cgroup and waits for their end.
func (g *cgroups) kill(ctx context.Context, cgroup string) error {
	for {
		pids, err := g.pids(cgroup)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := g.thaw(cgroup); err != nil {
			return err
		}
		for _, pid := range pids {
			if err := killAndWait(ctx, pid, func() bool {
				now, err := g.pids(cgroup)
				return err == nil && slices.Contains(now, pid)
			}); err != nil {
				return errs.Wrap(err, "kill process %d of cgroup %s", pid, cgroup)
			}
		}
	}
}

// remove removes cgroup everywhere, with what it contains. One that is not there is removed already.
func (g *cgroups) remove(cgroup string) error {
	var failed []error
	for _, dir := range g.all(cgroup) {
		failed = append(failed, removeTree(dir))
	}
	return errors.Join(failed...)
}

func removeTree(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	entries, rerr := os.ReadDir(dir)
	if rerr != nil {
		return ignoreMissing(rerr)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err = unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return fmt.Errorf("rmdir %s: %w", dir, err)
	}
	return nil
}

// removeParent removes the parent of jails' cgroups if it is empty.
func (g *cgroups) removeParent(cgroup string) {
	for _, dir := range g.all(cgroup) {
		unix.Rmdir(dir)
	}
}

// children lists the cgroups directly beneath cgroup, by name, over all hierarchies.
func (g *cgroups) children(cgroup string) (names []string) {
	for _, dir := range g.all(cgroup) {
		entries, _ := os.ReadDir(dir) // not there: nothing beneath
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	return names
}

func (g *cgroups) thaw(cgroup string) error { return ignoreMissing(g.freezer(cgroup, false)) }

// freezer asks the kernel to freeze or thaw.
func (g *cgroups) freezer(cgroup string, freeze bool) error {
	dir := g.dir("freezer", cgroup)
	if dir == "" {
		return errs.New(errs.NotImplemented, "this host has no freezer cgroup controller")
	}
	file, value := "freezer.state", map[bool]string{true: "FROZEN", false: "THAWED"}[freeze]
	if g.v2 {
		file, value = "cgroup.freeze", map[bool]string{true: "1", false: "0"}[freeze]
	}
	return os.WriteFile(filepath.Join(dir, file), []byte(value), 0)
}

// frozen reports the state that the kernel has reached.
func (g *cgroups) frozen(cgroup string) (bool, error) {
	dir := g.dir("freezer", cgroup)
	if g.v2 {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
		return strings.Contains(string(b), "frozen 1"), err
	}
	b, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
	return strings.TrimSpace(string(b)) == "FROZEN", err
}

// Freezing by cgroup v1 (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst) can hang: a thread that executes a program waits
// for its siblings to end, and those are frozen already. So a freeze that takes long is taken back for a moment.
const (
	freezeLooks = 10               // at the state, before it is taken back
	freezeTime  = 20 * time.Second // for all tries together
)

// setFrozen freezes or thaws and waits until it is so. v1 has no event for it: it is asked again after growing pauses.
// On an error the cgroup is thawed.
func (g *cgroups) setFrozen(ctx context.Context, cgroup string, want bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, freezeTime, errs.New(errs.Unavailable, "the kernel has not done it in %v", freezeTime))
	defer cancel()
	pause := 100 * time.Microsecond
	for look := 1; ; look++ {
		if err := g.freezer(cgroup, want); err != nil {
			return err
		}
		is, err := g.frozen(cgroup)
		if err != nil || is == want {
			return err
		}
		if want && look%freezeLooks == 0 {
			if err := g.freezer(cgroup, false); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			g.freezer(cgroup, false)
			return context.Cause(ctx)
		case <-time.After(pause):
			pause = min(2*pause, 20*time.Millisecond)
		}
	}
}

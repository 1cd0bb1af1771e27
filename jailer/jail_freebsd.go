package jailer

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/erase"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
	"github.com/brigd/brig/internal/nmount"
	"github.com/brigd/brig/internal/undo"
	"github.com/brigd/brig/jailer/jailctl"
	"github.com/brigd/brig/jailer/jailrun"
	"github.com/brigd/brig/jailer/jailspec"
	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// Create writes the bundle and starts the shim. See runtime.Jails.
func (j *Jailer) Create(ctx context.Context, b *brig.Jail) (h *brig.Handle, warnings []string, err error) {
	if len(b.Args) == 0 {
		return nil, nil, errs.New(errs.Invalid, "no command specified")
	}
	if b.OS == "linux" {
		if err := j.linux(ctx); err != nil {
			return nil, nil, errs.Wrap(err, "the image is for Linux, whose programs can't run here")
		}
	}
	if err := j.ensureRuleset(ctx); err != nil { // it may have been changed since brigd started
		return nil, nil, err
	}
	j.reap()
	var u undo.Stack
	defer u.Run(ctx, &err)
	if err = os.MkdirAll(b.Dir, 0o700); err != nil {
		return nil, nil, err
	}
	u.Push("empty the run directory", func(context.Context) error { return cleanDir(b.Dir) })
	if err = cleanDir(b.Dir); err != nil {
		return nil, nil, err
	}
	in := &jailspec.Input{Jail: b, Instance: j.cfg.Instance, Host: j.host, Linux: b.OS == "linux"}
	if b.Pod != nil {
		in.Shm = b.Pod.Shm
	}
	if in.User, err = findUser(b.Root, b.Spec.User, b.Spec.GroupAdd); err != nil {
		return nil, nil, err
	}
	bundle, warnings, err := jailspec.Build(in)
	if err != nil {
		return nil, nil, err
	}
	if err = writeJSON(filepath.Join(b.Dir, jailrun.BundleName), bundle); err != nil {
		return nil, nil, err
	}
	if err = os.WriteFile(filepath.Join(b.Dir, shim.JailName), []byte(bundle.Name), 0o600); err != nil {
		return nil, nil, err
	}
	fault.Point("jail.bundled")
	pid, start, err := j.spawnShim(b, "")
	if err != nil {
		return nil, nil, errs.Wrap(err, "start brig-shim")
	}
	u.Release()
	return &brig.Handle{
		Version: handleVersion, JailID: string(b.ID), Dir: b.Dir, Socket: filepath.Join(b.Dir, shim.SocketName), ShimPID: pid, ShimStart: start,
	}, warnings, nil
}

// runtimeFor has nothing to add: brig-jail is executed as it is.
func (j *Jailer) runtimeFor(*shim.Config, string) *os.File { return nil }

// nameOf is the full name of a jail, by its run directory, or by the jails that there are if that has vanished.
func (j *Jailer) nameOf(h *brig.Handle) string {
	if b, err := os.ReadFile(filepath.Join(h.Dir, shim.JailName)); err == nil && len(b) > 0 {
		return string(b)
	}
	own := jailspec.Name(j.cfg.Instance, brig.ID(h.JailID))
	jails, _ := jailctl.List()
	for _, name := range jails {
		if strings.HasSuffix(name, "."+own) {
			return name
		}
	}
	return own
}

// runArgv has brig-jail run the bundle; args0 is the program that it is to execute.
func (j *Jailer) runArgv(h *brig.Handle) (argv []string, args0 string, err error) {
	var b jailspec.Bundle
	text, err := os.ReadFile(filepath.Join(h.Dir, jailrun.BundleName))
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil || len(b.Main.Args) == 0 {
		return nil, "", errs.New(errs.NotFound, "read bundle of %s: %w", h.JailID, err)
	}
	o := jailrun.Options{Verb: "run", Name: b.Name, Log: shim.RuntimeLog, PidFile: shim.PidName}
	if b.Main.TTY {
		o.Console = shim.ConsoleName
	}
	return append([]string{j.program}, o.Args()...), b.Main.Args[0], nil
}

// execArgv has brig-jail execute the process that file describes.
func (j *Jailer) execArgv(h *brig.Handle, id brig.ID, file string, tty bool) []string {
	o := jailrun.Options{Verb: "exec", Name: j.nameOf(h), Log: id.Short() + ".log", PidFile: id.Short() + ".pid", Process: file}
	if tty {
		o.Console = id.Short() + ".tty"
	}
	return append([]string{j.program}, o.Args()...)
}

func (j *Jailer) beforeStart() {}

func (j *Jailer) afterStart(*brig.Handle, error) {}

// execProcess is the process of an exec.
func (j *Jailer) execProcess(b *brig.Jail, spec brig.ExecSpec) (any, error) {
	u, err := execUser(b, spec)
	if err != nil {
		return nil, err
	}
	return jailspec.Exec(&jailspec.Input{Jail: b, Host: j.host, User: u, Linux: b.OS == "linux"}, spec)
}

// killSilent kills a shim that doesn't answer, and all that is in the jail.
func (j *Jailer) killSilent(ctx context.Context, h *brig.Handle) error {
	if err := killAndWait(ctx, h.ShimPID, func() bool { return alive(h) }); err != nil {
		return err
	}
	return j.removeJail(ctx, j.nameOf(h))
}

// removeJail removes a jail and returns once none of its processes is left: jail_remove(2) kills them and doesn't wait.
func (j *Jailer) removeJail(ctx context.Context, name string) error {
	jid, err := jailctl.ID(name)
	if err == unix.ENOENT {
		return nil
	} else if err != nil {
		return errs.Wrap(err, "find jail %s", name)
	}
	if err := jailctl.Remove(jid); err != nil {
		return errs.Wrap(err, "remove jail %s", name)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		left, err := jailctl.Inside(jid)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(left, func(p jailctl.Proc) bool { return p.State != jailctl.Zombie }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return errs.Wrap(ctx.Err(), "wait for %d processes of the removed jail %s", len(left), name)
		case <-time.After(wait):
		}
	}
}

// Destroy kills and removes all of a jail. It tries every part; a second call goes on with what a first one left.
func (j *Jailer) Destroy(ctx context.Context, h *brig.Handle) error {
	name := j.nameOf(h)
	failed := []error{j.resume(name), j.endShim(ctx, h)} // what is stopped can be killed, but not talked to
	fault.Point("jail.shimended")
	root := jailctl.Path(name)
	failed = append(failed, j.removeJail(ctx, name), jailctl.RemoveRules("jail:"+name+":"))
	if err := errors.Join(failed...); err != nil {
		return errs.Wrap(err, "destroy jail %s", name) // the run directory stays, for it names what is left
	}
	fault.Point("jail.ungrouped")
	if err := unmountAll(ctx, h.Dir, root); err != nil {
		return err
	}
	return erase.All(h.Dir)
}

// unmountAll unmounts, last first, all that is mounted beneath the run directory dir, the root that its bundle names, and root ("": none), and
// that root where it is mounted again.
func unmountAll(ctx context.Context, dir, root string) error {
	var b jailspec.Bundle
	if text, err := os.ReadFile(filepath.Join(dir, jailrun.BundleName)); err == nil {
		_ = json.Unmarshal(text, &b) // torn by a loss of power: what is beneath dir goes all the same
	}
	points, err := nmount.Points()
	if err != nil {
		return errs.Wrap(err, "list mounts")
	}
	slices.Reverse(points)
	again, stage := jailspec.RootAgain(dir), jailspec.StageOf(dir)
	for _, p := range points {
		if p != again && !strings.HasPrefix(p, stage) && !slices.ContainsFunc([]string{dir, b.Root, root, again}, func(top string) bool { return top != "" && top != "/" && strings.HasPrefix(p, top+"/") }) {
			continue
		}
		if err := unmount(ctx, p); err != nil {
			return err
		}
	}
	stages, _ := filepath.Glob(stage + "*") // a run directory's name has no special letters
	for _, p := range stages {
		if err := os.Remove(p); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(again); err != nil && !errors.Is(err, os.ErrNotExist) { // never what is in it
		return err
	}
	return nil
}

// unmount asks a few times, and then insists.
func unmount(ctx context.Context, path string) error {
	for try := range 10 {
		err := unix.Unmount(path, 0)
		if err == nil || err == unix.EINVAL || err == unix.ENOENT {
			return nil
		}
		if err != unix.EBUSY || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Duration(try) * 10 * time.Millisecond)
	}
	if err := unix.Unmount(path, unix.MNT_FORCE); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return errs.Wrap(err, "unmount %s", path)
	}
	return nil
}

// Sweep removes what of this instance handles don't name. See runtime.Jails.
func (j *Jailer) Sweep(ctx context.Context, handles []*brig.Handle) error {
	dirs, _ := live(handles)
	var failed []error
	names := map[string]bool{}
	for _, h := range handles {
		names[j.nameOf(h)] = true
	}
	for _, h := range j.Found() {
		if !dirs[h.Dir] && !names[j.nameOf(h)] {
			failed = append(failed, j.Destroy(ctx, h))
		}
	}
	return errs.Wrap(errors.Join(failed...), "sweep jails")
}

// Found lists the jails of this instance that have anything on the host: a shim, a run directory or a jail. What a living container has is among them.
func (j *Jailer) Found() (out []*brig.Handle) {
	has := func(is func(*brig.Handle) bool) bool { return slices.ContainsFunc(out, is) }
	out = j.shims()
	entries, _ := os.ReadDir(j.cfg.RunDir)
	again, _ := os.ReadDir(filepath.Join(j.cfg.RunDir, jailspec.Roots))
	entries = append(entries, again...)
	for _, e := range entries {
		dir := filepath.Join(j.cfg.RunDir, e.Name())
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !has(func(h *brig.Handle) bool { return h.Dir == dir }) {
			out = append(out, &brig.Handle{JailID: "none-" + e.Name(), Dir: dir, Socket: filepath.Join(dir, shim.SocketName)})
		}
	}
	jails, _ := jailctl.List()
	for _, name := range jails {
		base := name[strings.LastIndexByte(name, '.')+1:]
		id, ours := strings.CutPrefix(base, jailspec.Prefix(j.cfg.Instance))
		if ours && !has(func(h *brig.Handle) bool { return j.nameOf(h) == name }) {
			dir := filepath.Join(j.cfg.RunDir, "none-"+id) // there is none
			out = append(out, &brig.Handle{JailID: id, Dir: dir, Socket: filepath.Join(dir, shim.SocketName)})
		}
	}
	return out
}

// Pids lists the host PIDs in the jail.
func (j *Jailer) Pids(_ context.Context, h *brig.Handle) (out []int, err error) {
	procs, err := j.inside(j.nameOf(h))
	for _, p := range procs {
		if p.State != jailctl.Zombie {
			out = append(out, p.PID)
		}
	}
	return out, err
}

func (j *Jailer) inside(name string) ([]jailctl.Proc, error) {
	jid, err := jailctl.ID(name)
	if err == unix.ENOENT {
		return nil, errs.New(errs.NotFound, "jail %s has ended", name)
	} else if err != nil {
		return nil, err
	}
	return jailctl.Inside(jid)
}

// Pause stops all processes of the jail, again until none runs: a process may fork meanwhile. FreeBSD has no freezer, so a process in the
// jail can send SIGCONT to another. Idempotent.
func (j *Jailer) Pause(ctx context.Context, h *brig.Handle) error {
	for ctx.Err() == nil {
		procs, err := j.inside(j.nameOf(h))
		if err != nil {
			return errs.Wrap(err, "pause %s", h.JailID)
		}
		running := 0
		for _, p := range procs {
			if p.State != jailctl.Stopped && p.State != jailctl.Zombie {
				running++
				_ = unix.Kill(p.PID, unix.SIGSTOP) // it may have ended
			}
		}
		if running == 0 {
			return nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errs.Wrap(ctx.Err(), "pause %s", h.JailID)
}

// Resume lets them go on. Idempotent.
func (j *Jailer) Resume(_ context.Context, h *brig.Handle) error {
	return errs.Wrap(j.resume(j.nameOf(h)), "resume %s", h.JailID)
}

func (j *Jailer) resume(name string) error {
	procs, err := j.inside(name)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	for _, p := range procs {
		if p.State == jailctl.Stopped {
			_ = unix.Kill(p.PID, unix.SIGCONT) // it may have ended
		}
	}
	return err
}

// Limit changes the limits of a running jail: its rules are made anew. See runtime.Limiter.
func (j *Jailer) Limit(_ context.Context, h *brig.Handle, l *brig.Limits) error {
	name := j.nameOf(h)
	rules, _, err := jailspec.Rules(name, l, j.host)
	if err != nil {
		return err
	}
	jid, err := jailctl.ID(name)
	if err != nil {
		return errs.New(errs.NotFound, "jail %s has ended: %w", name, err)
	}
	if l.CpusetCPUs != "" {
		mask, err := jailctl.CPUMask(l.CpusetCPUs, j.host.CPUs)
		if err != nil {
			return errs.As(errs.Invalid, err)
		}
		if err := jailctl.SetCPUs(jid, mask); err != nil {
			return err
		}
	}
	if err := jailctl.RemoveRules("jail:" + name + ":"); err != nil {
		return err
	}
	for _, r := range rules {
		if err := jailctl.AddRule(r); err != nil {
			return errs.Wrap(err, "limit jail %s", name)
		}
	}
	return nil
}

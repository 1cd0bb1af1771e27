package jailer

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/ocispec"
	"github.com/brigd/brig/jailer/shim"
)

// argv is an invocation of the OCI runtime in a jail's run directory, with a log of its own.
func (j *Jailer) argv(h *brig.Handle, log string, verb ...string) []string {
	a := []string{j.runtime.path, "--root", filepath.Join(h.Dir, stateName), "--log", log, "--log-format", "json"}
	if j.runtime.crun {
		a = append(a, "--cgroup-manager=cgroupfs")
	}
	return append(a, verb...)
}

// runArgv has the OCI runtime run the bundle; args0 is the program that it is to execute.
func (j *Jailer) runArgv(h *brig.Handle) (argv []string, args0 string, err error) {
	tty, args0, err := bundleFacts(h)
	if err != nil {
		return nil, "", err
	}
	argv = j.argv(h, shim.RuntimeLog, "run", "--detach", "--bundle", h.Dir, "--pid-file", shim.PidName)
	if tty {
		argv = append(argv, "--console-socket", shim.ConsoleName)
	}
	if n, err := os.ReadFile(filepath.Join(h.Dir, socketsName)); err == nil {
		argv = append(argv, "--preserve-fds", string(n))
	}
	return append(argv, h.JailID), args0, nil
}

// execArgv has the OCI runtime execute the process that file describes.
func (j *Jailer) execArgv(h *brig.Handle, id brig.ID, file string, tty bool) []string {
	argv := j.argv(h, id.Short()+".log", "exec", "--detach", "--process", file, "--pid-file", id.Short()+".pid")
	if tty {
		argv = append(argv, "--console-socket", id.Short()+".tty")
	}
	return append(argv, h.JailID)
}

func (j *Jailer) beforeStart() { j.starting.RLock() }

func (j *Jailer) afterStart(h *brig.Handle, err error) {
	j.starting.RUnlock()
	if err != nil {
		j.dropFilter(h.JailID)
	} else {
		j.keepFilter(h.JailID, h.Dir)
	}
}

// bundleFacts reads back what Start needs of a bundle.
func bundleFacts(h *brig.Handle) (tty bool, args0 string, err error) {
	var c struct {
		Process struct {
			Terminal bool     `json:"terminal"`
			Args     []string `json:"args"`
		} `json:"process"`
	}
	b, err := os.ReadFile(filepath.Join(h.Dir, configName))
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || len(c.Process.Args) == 0 {
		return false, "", errs.New(errs.NotFound, "read bundle of %s: %w", h.JailID, err)
	}
	return c.Process.Terminal, c.Process.Args[0], nil
}

// execProcess is the OCI process of an exec.
func (j *Jailer) execProcess(b *brig.Jail, spec brig.ExecSpec) (any, error) {
	u, err := execUser(b, spec)
	if err != nil {
		return nil, err
	}
	return ocispec.Exec(&ocispec.Input{Jail: b, Host: j.host, User: u}, spec)
}

// killSilent kills a shim that doesn't answer, and all that is in the jail.
func (j *Jailer) killSilent(ctx context.Context, h *brig.Handle) error {
	if err := killAndWait(ctx, h.ShimPID, func() bool { return alive(h) }); err != nil {
		return err
	}
	return j.groups.kill(ctx, j.cgroup(h))
}

// stopped reports whether pid is in state T: proc_pid_stat(5), the third field.
func stopped(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	return strings.HasPrefix(rest, "T")
}

// Pause freezes all processes. Idempotent.
func (j *Jailer) Pause(ctx context.Context, h *brig.Handle) error {
	return errs.Wrap(j.groups.setFrozen(ctx, j.cgroup(h), true), "pause %s", h.JailID)
}

// Resume thaws them. Idempotent.
func (j *Jailer) Resume(ctx context.Context, h *brig.Handle) error {
	return errs.Wrap(j.groups.setFrozen(ctx, j.cgroup(h), false), "resume %s", h.JailID)
}

// Pids lists the host PIDs in the jail.
func (j *Jailer) Pids(_ context.Context, h *brig.Handle) ([]int, error) {
	return j.groups.pids(j.cgroup(h))
}

// cgroup returns the jail's cgroup, absolute in each hierarchy.
func (j *Jailer) cgroup(h *brig.Handle) string {
	b, err := os.ReadFile(filepath.Join(h.Dir, cgroupName))
	if err != nil || len(b) == 0 {
		return filepath.Join(CgroupParent(j.cfg.Instance), h.JailID)
	}
	return string(b)
}

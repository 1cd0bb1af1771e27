package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// badRuntime is an OCI runtime that does what the file "mode" beside it says when it shall run or execute something; its log is the argument
// after --log.
const badRuntime = `#!/bin/sh
here=$(dirname "$0")
verb= log= prev=
for a; do
	case $a in run|exec) verb=$a;; esac
	test "$prev" = --log && log=$a
	prev=$a
done
mode=$(cat "$here/mode")
test -z "$verb" && mode=good
case $mode in
good) exec REAL "$@";;
refuses) echo '{"level":"error","msg":"the rudder is stuck"}' >"$log"; exit 1;;
silent) exit 3;;
killed) kill -9 $$;;
garbage) head -c 3000000 /dev/urandom >"$log"; exit 1;;
lies) exit 0;;
late) REAL "$@"; exit 5;;
hangs) exec sleep 1000;;
esac
`

// faulty is a brigd whose OCI runtime misbehaves as set says.
type faulty struct {
	*testbed.Server
	cli  testbed.CLI
	path string
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	own(t)
	real, err := exec.LookPath("crun")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &faulty{path: filepath.Join(dir, "runtime")}
	f.install(t, strings.ReplaceAll(badRuntime, "REAL", real))
	f.set(t, "good")
	f.Server, f.cli = daemon(t, "--runtime", f.path)
	return f
}

func (f *faulty) install(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(f.path+".new", []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(f.path+".new", f.path); err != nil {
		t.Fatal(err)
	}
}

func (f *faulty) set(t *testing.T, mode string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(f.path), "mode"), []byte(mode), 0o644); err != nil {
		t.Fatal(err)
	}
}

// there is what brigd has on the host, but for the folders of containers: a container that exists has one.
func (f *faulty) there() ([]string, error) {
	left, err := f.Leftovers(false)
	return slices.DeleteFunc(left, func(l string) bool { return strings.HasPrefix(l, "folder containers/") }), err
}

// clean wants nothing left of what failed: what is there is base and no more.
func (f *faulty) clean(t *testing.T, base []string) {
	t.Helper()
	eventually(t, "nothing is left of what failed", func() (bool, string) {
		left, err := f.there()
		return err == nil && len(left) <= len(base), fmt.Sprintf("%v\n%s", err, strings.Join(left, "\n"))
	})
}

// An OCI runtime that fails in any way: the client is told, nothing is left, what runs goes on, and all is well once it works again.
func TestBadRuntime(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	bystander := done(t, f.cli, "run", "-d", image("busybox"), "sleep", "600")
	id := done(t, f.cli, "create", image("busybox"), "sleep", "600")
	base, err := f.there()
	if err != nil {
		t.Fatal(err)
	}
	missing, plain := f.path+".away", f.path
	for _, c := range []struct {
		mode, start, exec string
		before, after     func() error
	}{
		{mode: "refuses", start: "the rudder is stuck", exec: "the rudder is stuck"},
		{mode: "silent", start: "said nothing: exit code 3", exec: "said nothing: exit code 3"},
		{mode: "killed", start: "said nothing: signal 9", exec: "said nothing: signal 9"},
		{mode: "garbage", start: "OCI runtime", exec: "OCI runtime"},
		{mode: "lies", start: "said that it succeeded, and started nothing", exec: "said that it succeeded, and started nothing"},
		{mode: "late", start: "said nothing: exit code 5", exec: "said nothing: exit code 5"},
		{mode: "missing", start: "start the OCI runtime .*/runtime: no such file or directory", exec: "start the OCI runtime .*/runtime: no such file or directory",
			before: func() error { return os.Rename(plain, missing) }, after: func() error { return os.Rename(missing, plain) }},
		{mode: "not executable", start: "start the OCI runtime .*/runtime: permission denied", exec: "start the OCI runtime .*/runtime: permission denied",
			before: func() error { return os.Chmod(plain, 0o644) }, after: func() error { return os.Chmod(plain, 0o755) }},
	} {
		t.Run(c.mode, func(t *testing.T) {
			f.set(t, c.mode)
			if c.before != nil {
				if err := c.before(); err != nil {
					t.Fatal(err)
				}
			}
			state := func() string {
				return done(t, f.cli, "inspect", "-f", "{{.State.Status}} {{.State.Pid}} {{.State.ExitCode}}", id)
			}
			want := state() // the code of the last run stays, as with dockerd, where the failure has none of its own
			if want == "created 0 0" {
				want = "created 0 128"
			}
			if c.mode == "not executable" {
				want = "exited 0 126"
			}
			r := dockerOn(t, f.cli, nil, "start", id)
			if r.Code != 1 || len(r.Err) > 10_000 {
				t.Errorf("start: exit code %d, %d bytes of error", r.Code, len(r.Err))
			}
			match(t, "start", r.Err, c.start)
			equal(t, "state", state(), want)
			f.clean(t, base)
			r = dockerOn(t, f.cli, nil, "exec", bystander, "sleep", "987")
			if r.Code == 0 || len(r.Out)+len(r.Err) > 10_000 {
				t.Errorf("exec: exit code %d, %d bytes of error", r.Code, len(r.Err))
			}
			match(t, "exec", r.Out+r.Err, c.exec)
			eventually(t, "what the exec may have started is gone", func() (bool, string) {
				out := done(t, f.cli, "top", bystander)
				return !strings.Contains(out, "987"), out
			})
			equal(t, "execs", done(t, f.cli, "inspect", "-f", "{{.ExecIDs}}", bystander), "[]")
			r = dockerOn(t, f.cli, nil, "run", "--name", "new", image("busybox"), "true")
			match(t, "run", fmt.Sprint(r.Code, r.Err), "^(125|126|127).*"+"(?s:.*)"+c.start)
			done(t, f.cli, "rm", "new")

			f.set(t, "good")
			if c.after != nil {
				if err := c.after(); err != nil {
					t.Fatal(err)
				}
			}
			equal(t, "the bystander", done(t, f.cli, "exec", bystander, "echo", "well"), "well")
			done(t, f.cli, "start", id)
			equal(t, "started", done(t, f.cli, "inspect", "-f", "{{.State.Running}} {{json .State.Error}}", id), `true ""`)
			done(t, f.cli, "kill", id)
			f.clean(t, base)
		})
	}
	// Stops and removals don't need the runtime.
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	done(t, f.cli, "stop", "-t", "0", bystander)
	equal(t, "stopped without a runtime", done(t, f.cli, "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", bystander), "exited 137")
}

// A start that hangs in the runtime ends with its client or with brigd, an exec with its container; meanwhile others are served.
func TestHangingRuntime(t *testing.T) {
	t.Parallel()
	f := newFaulty(t)
	bystander := done(t, f.cli, "run", "-d", image("busybox"), "sleep", "600")
	id := done(t, f.cli, "create", image("busybox"), "sleep", "600")
	base, err := f.there()
	if err != nil {
		t.Fatal(err)
	}
	f.set(t, "hangs")
	sleeps := func() int { return len(hanging(f.Root)) }
	for _, args := range [][]string{{"start", id}, {"exec", bystander, "true"}} {
		ctx, cancel := context.WithCancel(bed.ctx)
		cmd := f.cli.Command(ctx, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the runtime hangs in "+args[0], func() (bool, string) { n := sleeps(); return n == 1, fmt.Sprint(n) })
		done(t, f.cli, "ps", "-a")
		done(t, f.cli, "inspect", id)
		cancel()
		cmd.Wait()
		if args[0] == "exec" { // it ends with its container, as with dockerd
			f.set(t, "good")
			equal(t, "exec beside it", done(t, f.cli, "exec", bystander, "echo", "well"), "well")
			f.set(t, "hangs")
			done(t, f.cli, "rm", "-f", bystander)
			bystander = ""
		}
		eventually(t, "the runtime ends after "+args[0], func() (bool, string) { n := sleeps(); return n == 0, fmt.Sprint(n) })
		if bystander != "" {
			f.clean(t, base)
		}
	}
	cmd := f.cli.Command(bed.ctx, "start", id)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the runtime hangs", func() (bool, string) { n := sleeps(); return n == 1, fmt.Sprint(n) })
	f.Kill()
	cmd.Wait()
	f.set(t, "good")
	start(t, f.Server)
	eventually(t, "the runtime ends with brigd", func() (bool, string) { n := sleeps(); return n == 0, fmt.Sprint(n) })
	done(t, f.cli, "start", id)
	equal(t, "exec", done(t, f.cli, "exec", id, "echo", "well"), "well")
}

// hanging finds the sleeps of a runtime that hangs, by the working directory that its shim gave it.
func hanging(root string) (pids []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		args, _ := os.ReadFile(dir + "/cmdline")
		cwd, _ := os.Readlink(dir + "/cwd")
		if string(args) == "sleep\x001000\x00" && strings.HasPrefix(cwd, root+"/run/") {
			pids = append(pids, dir)
		}
	}
	return pids
}

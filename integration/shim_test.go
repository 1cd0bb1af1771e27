package integration

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// shimOf is the pid of the shim of the only container that runs on s.
func shimOf(t *testing.T, s *testbed.Server) int {
	t.Helper()
	shims, err := testbed.Shims(s.Root)
	if err != nil || len(shims) == 0 {
		t.Fatal("no shim of ", s.Root, err)
	}
	return shims[0].Pid
}

// A shim that is killed takes its container with it: its end is noticed, with what is known of it, and nothing of it is left.
func TestKilledShim(t *testing.T) {
	s, cli := daemon(t)
	for _, down := range []bool{false, true} {
		id := done(t, cli, "run", "-d", "-p", "127.0.0.1::80", image("busybox"), "sleep", "600")
		pid := done(t, cli, "inspect", "-f", "{{.State.Pid}}", id)
		shim := shimOf(t, s)
		if down {
			s.Kill()
		}
		if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if down {
			start(t, s)
		}
		equal(t, "exit code", done(t, cli, "wait", id), map[bool]string{false: "137", true: "255"}[down]) // 255 is dockerd's for an end that nobody saw
		match(t, "what is said of it", done(t, cli, "inspect", "-f", "{{.State.Status}} {{.State.Error}}", id), "^exited .*(lost|not seen)")
		eventually(t, "the container's process has ended", func() (bool, string) { // a busy kernel takes its time for that; the host's init reaps it, or doesn't
			n, err := strconv.Atoi(pid)
			return err == nil && !testbed.Lives(n), pid
		})
		done(t, cli, "start", id)
		done(t, cli, "rm", "-f", id)
	}
	id := done(t, cli, "run", "-d", "--restart", "on-failure", image("busybox"), "sleep", "600")
	if err := syscall.Kill(shimOf(t, s), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy starts it again", func() (bool, string) {
		st := done(t, cli, "inspect", "-f", "{{.State.Status}} {{.RestartCount}}", id)
		return st == "running 1", st
	})
}

// A shim that somebody has stopped holds up neither a stop nor a removal nor the next brigd.
func TestStoppedShim(t *testing.T) {
	s, cli := daemon(t)
	run := func() string {
		id := done(t, cli, "run", "-d", image("busybox"), "sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done")
		eventually(t, "it is up", func() (bool, string) { out := done(t, cli, "logs", id); return out == "up", out })
		if err := syscall.Kill(shimOf(t, s), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := run()
	done(t, cli, "stop", id)
	equal(t, "exit code", done(t, cli, "inspect", "-f", "{{.State.ExitCode}}", id), "5")
	equal(t, "log", done(t, cli, "logs", id), "up\nbye")
	done(t, cli, "rm", id)
	done(t, cli, "rm", "-f", run())
	id = run()
	s.Kill()
	start(t, s)
	equal(t, "state", done(t, cli, "inspect", "-f", "{{.State.Status}}", id), "running")
	done(t, cli, "rm", "-f", id)
}

// What brigd keeps for a container is taken away beneath its feet: it still ends and can be removed, and the next one starts.
func TestTakenAway(t *testing.T) {
	s, cli := daemon(t)
	for what, take := range map[string]func(id string) error{
		"run directory":         func(string) error { return os.RemoveAll(onlyIn(t, s.Root, "run")) },
		"network stack":         func(string) error { return s.Unnet() },
		"limits":                s.Unlimit,
		"network rules":         func(string) error { return s.Unrule() },
		"container's directory": func(id string) error { return os.RemoveAll(filepath.Join(s.Root, "containers", id)) },
	} {
		for _, down := range []bool{false, true} {
			t.Run(strings.ReplaceAll(what, " ", "-")+map[bool]string{true: "-while-down"}[down], func(t *testing.T) {
				id := done(t, cli, "run", "-d", "-m", "64m", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", "httpd -f -p 80 -h /etc")
				if down {
					s.Kill()
				}
				if err := take(id); err != nil {
					t.Fatal(err)
				}
				if down {
					start(t, s)
				}
				if what == "network rules" && down {
					addr := done(t, cli, "port", id, "80")
					eventually(t, "the next brigd makes the rules again", func() (bool, string) { code := get(t, addr); return code == 404, strconv.Itoa(code) })
				}
				done(t, cli, "rm", "-f", id)
				next := done(t, cli, "run", "-d", "-p", "127.0.0.1::80", image("busybox"), "sh", "-c", "httpd -f -p 80 -h /etc")
				addr := done(t, cli, "port", next, "80")
				eventually(t, "the next container's port answers", func() (bool, string) { code := get(t, addr); return code == 404, strconv.Itoa(code) })
				done(t, cli, "rm", "-f", next)
				if left, err := s.Leftovers(false); err != nil || len(left) > 0 {
					eventually(t, "nothing is left", func() (bool, string) {
						left, err := s.Leftovers(false)
						left = withoutOwn(left)
						return err == nil && len(left) == 0, strings.Join(left, "\n")
					})
				}
			})
		}
	}
}

// withoutOwn leaves out what brigd has as long as it runs.
func withoutOwn(left []string) (out []string) {
	for _, l := range left {
		if strings.HasSuffix(l, "/netns") || strings.HasPrefix(l, "mount ") && !strings.Contains(l, "/store/mnt/") {
			continue
		}
		out = append(out, l)
	}
	return out
}

// onlyIn is the one entry of a directory, beside those that begin with a dot.
func onlyIn(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	list, err := os.ReadDir(dir)
	list = slices.DeleteFunc(list, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".") })
	if err != nil || len(list) != 1 {
		t.Fatal(dir, list, err)
	}
	return filepath.Join(dir, list[0].Name())
}

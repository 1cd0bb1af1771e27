package jailer

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestExpecter finds the file in each layout of cgroups; what is written there is this process's own number.
func TestExpecter(t *testing.T) {
	root := t.TempDir()
	v1, v2 := filepath.Join(root, "memory"), filepath.Join(root, "unified")
	for _, d := range []string{v1 + "/a", v2 + "/b"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d+"/cgroup.procs", nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	split := &cgroups{roots: []hierarchy{{path: filepath.Join(root, "named")}, {v1, []string{"memory"}}}, hybrid: v2}
	unified := &cgroups{v2: true, roots: []hierarchy{{v2, []string{"memory"}}}}
	for _, c := range []struct {
		name, text, want string
		g                *cgroups
	}{
		{"v1", "3:name=systemd:/x\n2:memory:/a\n", v1 + "/a/cgroup.procs", split},
		{"hybrid", "0::/b\n2:memory:/a\n", v1 + "/a/cgroup.procs", split},
		{"v2", "0::/b\n", v2 + "/b/cgroup.procs", unified},
		{"another place", "2:memory:/elsewhere\n", "", split},
		{"nothing", "", "", split},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cgroup")
			if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if got := newExpecter(c.g, file).procs; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestExpectMovesNothing does it for real: the process stays where it is, and the next one can be asked for.
func TestExpectMovesNothing(t *testing.T) {
	g, err := detectCgroups("/proc/self/mountinfo")
	if err != nil {
		t.Skip("no cgroups here: ", err)
	}
	before, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	e := newExpecter(g, "/proc/self/cgroup")
	if e.procs == "" {
		t.Fatalf("this process is in no known hierarchy:\n%s", before)
	}
	e.expect()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		e.mu.Lock()
		done := !e.busy && !e.until.IsZero()
		e.mu.Unlock()
		if done {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it goes on and on")
		}
	}
	e.expect()
	e.close() // at once, not a second later; the race detector sees whether it waits
	e.expect()
	if e.busy {
		t.Error("a closed one goes on")
	}
	after, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || string(after) != string(before) {
		t.Errorf("moved: before\n%s after\n%s %v", before, after, err)
	}
}

package jailer

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// execLoop makes the test binary a process of several threads that executes itself without end.
const execLoop = "BRIG_TEST_EXEC_LOOP"

func executeAgain() int {
	var threads sync.WaitGroup
	for range 8 {
		threads.Add(1)
		go func() {
			threads.Done()
			unix.Nanosleep(&unix.Timespec{Sec: 1000}, nil) // a blocked system call has a thread of its own
		}()
	}
	threads.Wait()
	syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	return 1
}

// TestFreezeDuringExec: a process that executes a program while it is frozen waits for its frozen threads; the freeze must still end.
func TestFreezeDuringExec(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: cgroups")
	}
	g, err := detectCgroups("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	cgroup := "brig-" + testInstance + "-freeze"
	dir := g.dir("freezer", cgroup)
	if dir == "" {
		t.Skip("this host has no freezer")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), execLoop+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		g.thaw(cgroup)
		cmd.Process.Kill()
		cmd.Wait()
		for os.Remove(dir) == unix.EBUSY {
			time.Sleep(time.Millisecond)
		}
	}()
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		if err := g.setFrozen(t.Context(), cgroup, true); err != nil {
			t.Fatalf("freeze %d: %v", n, err)
		}
		if is, err := g.frozen(cgroup); !is || err != nil {
			t.Fatalf("freeze %d: frozen %v, %v", n, is, err)
		}
		if err := g.setFrozen(t.Context(), cgroup, false); err != nil {
			t.Fatalf("thaw %d: %v", n, err)
		}
	}
}

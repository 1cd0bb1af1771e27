package jailer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// eachRuntime runs f with crun and with runc, each where it starts.
func eachRuntime(t *testing.T, f func(b *bench)) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: jails, mounts and cgroups")
	}
	ran := 0
	for _, name := range []string{"crun", "runc"} {
		path, err := lookPath(name)
		if err != nil {
			continue
		}
		ran++
		t.Run(name, func(t *testing.T) { f(newBench(t, path)) })
	}
	if ran == 0 {
		t.Fatal("neither crun nor runc is installed")
	}
}

// leftovers looks for what no test may leave: cgroups, shims and mounts.
func leftovers() error {
	g, err := detectCgroups("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var found []error
	for _, dir := range g.all(CgroupParent(testInstance)) {
		if _, err := os.Stat(dir); err == nil {
			found = append(found, fmt.Errorf("cgroup %s", dir))
		}
	}
	for _, h := range (&Jailer{cfg: Config{Instance: testInstance}}).shims() {
		found = append(found, fmt.Errorf("shim %d in %s", h.ShimPID, h.Dir))
	}
	b, err := os.ReadFile("/proc/self/mountinfo")
	if strings.Contains(string(b), "TestJail") {
		found = append(found, fmt.Errorf("mounts:\n%s", b))
	}
	return errors.Join(append(found, err)...)
}

// alone waits until no other run of these tests is under way on this machine: their jails have the same names. The kernel ends the lock
// with the process.
func alone() error {
	fd, err := unix.Open(filepath.Join(os.TempDir(), "brig-"+testInstance+".lock"), unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	return unix.Flock(fd, unix.LOCK_EX)
}

// sweepOld removes what a test run that was killed has left.
func sweepOld() error {
	g, err := detectCgroups("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	return (&Jailer{cfg: Config{Instance: testInstance}, groups: g}).Sweep(context.Background(), nil)
}

package jailer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// shimPath is the brig-shim that TestMain has built; "" where jails don't run.
var shimPath string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(execLoop) != "" {
		return executeAgain()
	}
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "brig-shim-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "brig-shim")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", bin, "../cmd/brig-shim")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build brig-shim: %v\n%s", err, out)
		return 1
	}
	shimPath = bin
	if err := alone(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := sweepOld(); err != nil { // of a run that was killed
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := leftovers(); err != nil {
		fmt.Fprintln(os.Stderr, "left behind:", err)
		return 1
	}
	return code
}

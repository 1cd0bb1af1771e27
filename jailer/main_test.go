package jailer

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// shimPath is the brig-shim that TestMain has built, or has found in BRIG_TEST_BIN where there is no Go; "" where jails don't run.
var shimPath string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(execLoop) != "" {
		return executeAgain()
	}
	if runtime.GOOS != "linux" && runtime.GOOS != "freebsd" || os.Getuid() != 0 {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "brig-shim-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if shimPath = filepath.Join(os.Getenv("BRIG_TEST_BIN"), "brig-shim"); os.Getenv("BRIG_TEST_BIN") == "" {
		build := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir, "../cmd/brig-shim", "../cmd/brig-jail")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build brig-shim: %v\n%s", err, out)
			return 1
		}
		shimPath = filepath.Join(dir, "brig-shim")
	}
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

package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

const insideVar = "BRIG_TEST_INSIDE"

// Separate tells that tests can have network and mount namespaces of their own: see Reenter.
const Separate = true

// Inside reports whether this process was started by Reenter.
func Inside() bool { return os.Getenv(insideVar) != "" }

// Dir is the private folder that Reenter made for this process; "" in one that it did not start.
func Dir() string { return os.Getenv(insideVar) }

// Reenter runs this program again, with the same arguments, in network and mount namespaces of its own, and returns
// its exit code. The copy must call LoopbackUp first. It gets a folder with a short path, which goes when the copy has
// ended: only then are the mounts gone that it made there.
func Reenter() (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "brig-cmp-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVar+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	// The copy gets the terminal's Ctrl-C too, and cleans up; this process waits for it.
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(c)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("enter new namespaces (this needs root): %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case s := <-c:
			cmd.Process.Signal(s)
		case err := <-done:
			if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
				return 1, err
			}
			return cmd.ProcessState.ExitCode(), nil
		}
	}
}

// LoopbackUp brings up the loopback interface of a new network namespace.
func LoopbackUp() error {
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	return nil
}

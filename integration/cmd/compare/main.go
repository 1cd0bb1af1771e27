// Compare runs a command against Debian's dockerd: compare COMMAND…, with BRIG_TEST_HOST=unix://… in its environment.
// dockerd, its containerd and the command live in network and mount namespaces of their own; all ends with the command.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/brigd/brig/integration/internal/testbed"
)

func main() {
	if !testbed.Inside() {
		code, err := testbed.Reenter()
		if err != nil {
			fmt.Fprintln(os.Stderr, "compare:", err)
		}
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	if len(args) == 0 {
		return errors.New("which command?")
	}
	if err := testbed.LoopbackUp(); err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	d, err := testbed.StartDockerd(starting, testbed.Dir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Env = append(os.Environ(), "BRIG_TEST_HOST="+d.Host)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

// Package testbed starts what the tests need (a registry, brigd, or another server of the Docker API) and drives the
// real docker command. It imports nothing of brig: the tests see what a user sees.
package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Result is what a command left: Code is its exit code, or -1 when a signal ended it.
type Result struct {
	Args     []string
	Out, Err string
	Code     int
}

func (r Result) String() string {
	return fmt.Sprintf("docker %s\nexit code %d\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code, r.Out, r.Err)
}

// CLI is the docker command with its server and a configuration folder of its own.
type CLI struct {
	Host   string   // -H
	Config string   // DOCKER_CONFIG
	Env    []string // more variables
}

// Command prepares the docker command; the caller starts and waits for it.
func (c CLI) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+c.Host, "DOCKER_CONFIG="+c.Config, "DOCKER_CLI_HINTS=false", "DOCKER_BUILDKIT=0")
	cmd.Env = append(cmd.Env, c.Env...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Run executes docker to its end. An error in starting it is in Err, with code -1.
func (c CLI) Run(ctx context.Context, stdin io.Reader, args ...string) Result {
	var out, errOut bytes.Buffer
	cmd := c.Command(ctx, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errOut
	err := cmd.Run()
	r := Result{Args: args, Out: out.String(), Err: errOut.String(), Code: cmd.ProcessState.ExitCode()}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		r.Err, r.Code = r.Err+err.Error(), -1
	}
	return r
}

// Package host is the one door to os/exec: argv only, always a context, bounded standard error, and an error that says what was run.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// maxStderr bounds what is kept of a command's standard error, in bytes.
const maxStderr = 8 << 10

// Error is a command that could not be started or did not exit with 0.
type Error struct {
	Argv   []string
	Code   int    // exit status; -1 if it was not started or was killed
	Stderr string // trimmed, at most maxStderr bytes of it
	Err    error
}

// Error names the command, its exit and the last of what it said.
func (e *Error) Error() string {
	s := strings.Join(e.Argv, " ") + ": " + e.Err.Error()
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Command is one run of a program. Its zero fields are empty.
type Command struct {
	Argv  []string // program first; looked up in PATH unless it has a slash
	Stdin io.Reader
	Dir   string
	Env   []string // nil: the daemon's own
}

// Output runs c and returns its standard output. The process is killed when ctx ends.
func (c Command) Output(ctx context.Context) ([]byte, error) {
	var out bytes.Buffer
	err := c.run(ctx, &out)
	return out.Bytes(), err
}

// Stream runs c with its standard output going to w.
func (c Command) Stream(ctx context.Context, w io.Writer) error { return c.run(ctx, w) }

// Run runs argv and returns its standard output.
func Run(ctx context.Context, argv ...string) ([]byte, error) {
	return Command{Argv: argv}.Output(ctx)
}

func (c Command) run(ctx context.Context, w io.Writer) error {
	if len(c.Argv) == 0 {
		return errors.New("run: empty command")
	}
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Stdin, cmd.Dir, cmd.Env, cmd.Stdout = c.Stdin, c.Dir, c.Env, w
	var stderr tail
	cmd.Stderr = &stderr
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", ctx.Err(), err)
	}
	code := -1
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return &Error{c.Argv, code, strings.TrimSpace(string(stderr)), err}
}

// tail keeps the last maxStderr bytes written to it.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if n := len(*t) - maxStderr; n > 0 {
		*t = append((*t)[:0], (*t)[n:]...)
	}
	return len(p), nil
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/spf13/cobra"

	"github.com/brigd/brig/internal/podspec"
)

// An execution is one process more in an app that runs.
type execution struct {
	app                string
	user, dir          string
	env                []string
	stdin, tty, detach bool
}

func podExec(host *string) *cobra.Command {
	var x execution
	cmd := &cobra.Command{
		Use: "exec POD COMMAND [ARG…]", Args: cobra.MinimumNArgs(2), Short: "Execute a command in an app that runs",
		Long: "Execute a command in an app that runs. Of several apps --app says which, or the app's container in the place of POD.\nThe exit code is the command's.",
		RunE: func(cmd *cobra.Command, args []string) error { return x.run(cmd, *host, args[0], args[1:]) },
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.StringVar(&x.app, "app", "", "`NAME` of the app")
	f.StringVarP(&x.user, "user", "u", "", "run as `USER[:GROUP]` (default: the app's)")
	f.StringVarP(&x.dir, "workdir", "w", "", "working `DIRECTORY` (default: the app's)")
	f.StringArrayVarP(&x.env, "env", "e", nil, "variable `NAME=VALUE` beside the app's own; may be repeated")
	f.BoolVarP(&x.stdin, "interactive", "i", false, "give it standard input")
	f.BoolVarP(&x.tty, "tty", "t", false, "give it a terminal")
	f.BoolVarP(&x.detach, "detach", "d", false, "don't wait for it")
	return cmd
}

func podConsole(host *string) *cobra.Command {
	x, shell := execution{stdin: true, tty: true}, "/bin/sh"
	cmd := &cobra.Command{
		Use: "console POD", Args: cobra.ExactArgs(1), Short: "Open a shell on the terminal in an app that runs",
		RunE: func(cmd *cobra.Command, args []string) error { return x.run(cmd, *host, args[0], []string{shell}) },
	}
	cmd.Flags().StringVar(&x.app, "app", "", "`NAME` of the app, if the pod has several")
	cmd.Flags().StringVarP(&x.user, "user", "u", "", "run as `USER[:GROUP]` (default: the app's)")
	cmd.Flags().StringVar(&shell, "shell", shell, "`PROGRAM` of the app's to execute")
	return cmd
}

func (x *execution) run(cmd *cobra.Command, host, pod string, args []string) error {
	c, err := dial(host)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	a, err := c.app(ctx, pod, x.app)
	if err != nil {
		return err
	}
	var terminal *console
	if x.tty && x.stdin && !x.detach {
		if terminal, err = lendConsole(); err != nil {
			return err
		}
		defer terminal.back()
	}
	var made struct{ ID string }
	err = c.order(ctx, "/containers/"+a.Container+"/exec", map[string]any{
		"Cmd": args, "User": x.user, "WorkingDir": x.dir, "Env": x.env, "Tty": x.tty,
		"AttachStdin": x.stdin && !x.detach, "AttachStdout": !x.detach, "AttachStderr": !x.detach,
	}, &made)
	if err != nil {
		return err
	}
	path := "/exec/" + made.ID
	if x.detach {
		return c.order(ctx, path+"/start", map[string]any{"Detach": true, "Tty": x.tty}, nil)
	}
	s, err := c.hijack(ctx, path+"/start", map[string]any{"Tty": x.tty})
	if err != nil {
		return err
	}
	defer s.Close()
	context.AfterFunc(ctx, func() { s.Close() })
	if terminal != nil {
		terminal.follow(ctx, c, path+"/resize")
	}
	if x.stdin {
		go s.pump(cmd.InOrStdin())
	}
	if err := s.copyOut(x.tty, cmd.OutOrStdout(), cmd.ErrOrStderr()); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return &exitCode{130, errors.New("interrupted; the command may go on")}
	}
	return c.execEnd(ctx, path)
}

// execEnd gives an exec's exit code, which brigd knows a moment after the end of its streams.
func (c *client) execEnd(ctx context.Context, path string) error {
	for {
		var end struct {
			Running  bool
			ExitCode *int
		}
		if err := c.decode(ctx, path+"/json", &end); err != nil {
			return err
		}
		if !end.Running {
			if end.ExitCode != nil && *end.ExitCode != 0 {
				return &exitCode{*end.ExitCode, nil}
			}
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func podLogs(host *string) *cobra.Command {
	follow, plain, tail, since := false, false, "all", ""
	cmd := &cobra.Command{
		Use: "logs POD [APP…]", Args: cobra.MinimumNArgs(1), Short: "Print what the apps of a pod have said, each line with its time and the app's name",
		Long: "Print what the apps of a pod have said, each line with its time and the app's name: one app after the other, with -f as it comes.",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dial(*host)
			if err != nil {
				return err
			}
			apps, err := c.chosen(cmd.Context(), args[0], args[1:])
			if err != nil {
				return err
			}
			w := watching{plain: plain, out: cmd.OutOrStdout(), errOut: cmd.ErrOrStderr()}
			q := url.Values{"stdout": {"1"}, "stderr": {"1"}, "timestamps": {"1"}, "tail": {tail}, "since": {since}, "follow": {strconv.FormatBool(follow)}}.Encode()
			return w.logs(cmd.Context(), c, apps, q, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the apps have ended")
	cmd.Flags().StringVar(&tail, "tail", tail, "print the last `LINES` of each app, or all")
	cmd.Flags().StringVar(&since, "since", "", "print lines since `TIME`, in seconds since 1970 or as docker logs has it")
	cmd.Flags().BoolVar(&plain, "no-prefix", false, "print the lines as they are, without times and names")
	return cmd
}

// chosen lists the apps of a pod that names name; none: all.
func (c *client) chosen(ctx context.Context, pod string, names []string) (out []podspec.AppInfo, err error) {
	if len(names) == 0 {
		p, err := c.pod(ctx, pod)
		if err != nil {
			return nil, err
		}
		return p.Apps, nil
	}
	for _, n := range names {
		a, err := c.app(ctx, pod, n)
		if err != nil {
			return nil, err
		}
		out = append(out, *a)
	}
	return out, nil
}

// logs prints the apps' logs, with follow all at once.
func (w *watching) logs(ctx context.Context, c *client, apps []podspec.AppInfo, query string, follow bool) error {
	for _, a := range apps {
		w.width = max(w.width, len(a.Name))
	}
	failed := make([]error, len(apps))
	var reading sync.WaitGroup
	for i, a := range apps {
		read := func() { failed[i] = w.log(ctx, c, a, query) }
		if follow {
			reading.Go(read)
		} else {
			read()
		}
	}
	reading.Wait()
	return errors.Join(failed...)
}

func (w *watching) log(ctx context.Context, c *client, a podspec.AppInfo, query string) error {
	body, err := c.get(ctx, "/containers/"+a.Container+"/logs?"+query)
	if err != nil {
		return fmt.Errorf("log of app %s: %w", a.Name, err)
	}
	defer body.Close()
	out, errOut := &logged{prefixer: w.lines(a.Name, w.out)}, &logged{prefixer: w.lines(a.Name, w.errOut)}
	defer out.end()
	defer errOut.end()
	if a.TTY {
		_, err = io.Copy(out, body)
	} else {
		_, err = stdcopy.StdCopy(out, errOut, body)
	}
	if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// logged prints lines of a log, which begin with their times.
type logged struct{ *prefixer }

// Write keeps what is no whole line for later.
func (l *logged) Write(b []byte) (int, error) {
	l.rest = append(l.rest, b...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		if err := l.line(l.rest[:i+1]); err != nil {
			return 0, err
		}
		l.rest = l.rest[i+1:]
	}
}

func (l *logged) end() {
	if len(l.rest) > 0 {
		_ = l.line(l.rest)
		l.rest = nil
	}
}

func (l *logged) line(b []byte) error {
	stamp, text, _ := bytes.Cut(b, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		text, at = b, time.Now()
	}
	if l.w.plain {
		l.w.mu.Lock()
		defer l.w.mu.Unlock()
		_, err := l.to.Write(text)
		return err
	}
	return l.print(at, text)
}

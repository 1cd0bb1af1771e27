package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/podspec"
)

// watching is a pod that runs in the foreground.
type watching struct {
	order *ordering
	plain bool

	out, errOut io.Writer
	mu          sync.Mutex // of both: lines come whole
	width       int        // of the longest name of an app
}

// run attaches to all apps, starts the pod, and returns when all have ended.
func (w *watching) run(cmd *cobra.Command, c *client, made *podspec.Made) error {
	w.out, w.errOut = cmd.OutOrStdout(), cmd.ErrOrStderr()
	for _, a := range made.Apps {
		w.width = max(w.width, len(a.Name))
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(cmd.Context())) // ^C is for the pod
	defer cancel()
	give := func(err error) error {
		if e := c.remove(ctx, podPath(made.UUID)+"?force=1"); e != nil && status(e) != http.StatusNotFound {
			err = errors.Join(err, e)
		}
		return &exitCode{notRun, err}
	}
	var terminal *console
	if w.order.TTY && w.order.Stdin {
		var err error
		if terminal, err = lendConsole(); err != nil {
			return give(err)
		}
		defer terminal.back()
	}
	runs := make([]*appRun, len(made.Apps))
	for i, a := range made.Apps {
		r, err := w.join(ctx, c, a)
		if err != nil {
			return give(err)
		}
		defer r.stream.Close()
		runs[i] = r
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(stop)
	if cmd.Context().Err() != nil { // it came before
		stop <- unix.SIGINT
	}
	started := make(chan error, 1)
	starting, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() { started <- c.startOrRemove(starting, made.UUID) }()
	for begun := false; !begun; {
		select {
		case err := <-started:
			if err != nil {
				return notStarted(err)
			}
			begun = true
		case <-stop:
			giveUp()
		}
	}
	if terminal != nil {
		terminal.follow(ctx, c, "/containers/"+made.Apps[0].Container+"/resize")
	}
	if w.order.Stdin {
		go runs[0].stream.pump(os.Stdin)
	}
	go stopPod(ctx, c, made.UUID, stop, w.errOut)
	return w.finish(ctx, c, runs)
}

// stopPod stops the pod with the first signal, and kills it with the second.
func stopPod(ctx context.Context, c *client, uuid string, signals <-chan os.Signal, errOut io.Writer) {
	for _, verb := range []string{"/stop", "/kill"} {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		go func() {
			err := c.order(ctx, podPath(uuid)+verb, nil, nil)
			if s := status(err); err != nil && ctx.Err() == nil && s != http.StatusNotModified && s != http.StatusConflict && s != http.StatusNotFound {
				fmt.Fprintln(errOut, "brig:", err)
			}
		}()
	}
}

// appRun is one app that is attached to, and waited for.
type appRun struct {
	app    podspec.MadeApp
	stream *stream
	said   chan error // gives the end of what it says
	ended  chan ending
}

type ending struct {
	code int
	err  error
}

// join attaches to an app and registers for its end; it has not been started.
func (w *watching) join(ctx context.Context, c *client, a podspec.MadeApp) (*appRun, error) {
	q := url.Values{"stream": {"1"}, "stdout": {"1"}, "stderr": {"1"}}
	if w.order.Stdin {
		q.Set("stdin", "1")
	}
	s, err := c.hijack(ctx, "/containers/"+a.Container+"/attach?"+q.Encode(), nil)
	if err != nil {
		return nil, fmt.Errorf("attach to app %s: %w", a.Name, err)
	}
	r := &appRun{app: a, stream: s, said: make(chan error, 1), ended: make(chan ending, 1)}
	condition := "next-exit"
	if w.order.Remove {
		condition = "removed"
	}
	// The answer's head says that the waiter is registered.
	body, err := c.post(ctx, "/containers/"+a.Container+"/wait?condition="+condition, "application/json", http.NoBody)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("wait for app %s: %w", a.Name, err)
	}
	go func() {
		defer body.Close()
		var end struct {
			StatusCode int
			Error      *struct{ Message string }
		}
		err := json.NewDecoder(body).Decode(&end)
		if err == nil && end.Error != nil && end.Error.Message != "" {
			err = errors.New(end.Error.Message)
		}
		r.ended <- ending{end.StatusCode, err}
	}()
	go func() {
		out, errOut := io.Writer(w.out), io.Writer(w.errOut)
		if !w.plain && !w.order.TTY {
			lines, errLines := w.lines(a.Name, w.out), w.lines(a.Name, w.errOut)
			defer lines.end()
			defer errLines.end()
			out, errOut = lines, errLines
		}
		r.said <- s.copyOut(w.order.TTY, out, errOut)
	}()
	return r, nil
}

// finish waits for all apps' ends and gives the exit code.
func (w *watching) finish(ctx context.Context, c *client, runs []*appRun) error {
	code := 0
	var failed error
	for _, r := range runs {
		if err := <-r.said; err != nil {
			failed = errors.Join(failed, fmt.Errorf("read what app %s says: %w", r.app.Name, err))
		}
		if w.detached(ctx, c, r) {
			return nil
		}
		end := <-r.ended
		if end.err != nil {
			failed = errors.Join(failed, fmt.Errorf("the end of app %s: %w", r.app.Name, end.err))
		}
		if code == 0 {
			code = end.code
		}
	}
	if failed != nil {
		return &exitCode{max(code, 1), failed}
	}
	if code != 0 {
		return &exitCode{code, nil}
	}
	return nil
}

// detached reports whether the streams of an app with a terminal have ended because the user typed the detach keys: it goes on running.
func (w *watching) detached(ctx context.Context, c *client, r *appRun) bool {
	if !w.order.Stdin || !w.order.TTY {
		return false
	}
	select {
	case end := <-r.ended:
		r.ended <- end
		return false
	case <-time.After(time.Second): // brigd says so at once
	}
	a, err := c.app(ctx, r.app.Container, r.app.Name)
	return err == nil && a.State == "running"
}

// maxLine is how much of a line is held back until its end comes, in bytes.
const maxLine = 64 << 10

// A prefixer writes lines with the time and a name in front.
type prefixer struct {
	w    *watching
	name string
	to   io.Writer
	rest []byte
}

func (w *watching) lines(name string, to io.Writer) *prefixer {
	return &prefixer{w: w, name: name, to: to}
}

// Write keeps what is no whole line for later.
func (p *prefixer) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		i := bytes.IndexByte(p.rest, '\n')
		if i < 0 && len(p.rest) < maxLine {
			return len(b), nil
		}
		if i < 0 {
			i = len(p.rest) - 1
		}
		if err := p.print(time.Now(), p.rest[:i+1]); err != nil {
			return 0, err
		}
		p.rest = p.rest[i+1:]
	}
}

// end writes a last line without its end.
func (p *prefixer) end() {
	if len(p.rest) > 0 {
		_ = p.print(time.Now(), p.rest)
		p.rest = nil
	}
}

func (p *prefixer) print(at time.Time, line []byte) error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	_, err := fmt.Fprintf(p.to, "%s %-*s | %s\n", at.Format("2006-01-02T15:04:05.000Z07:00"), p.w.width, p.name, bytes.TrimSuffix(line, []byte("\n")))
	return err
}

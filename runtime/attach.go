package runtime

import (
	"context"
	"errors"
	"io/fs"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/host"
	"github.com/brigd/brig/internal/logfile"
)

// pendingAttach is an attach that waits for a run to begin.
type pendingAttach struct {
	handle chan *brig.Handle // gives the run's handle between Create and Start of the jail; closed if there will be no run
	joined chan struct{}     // closed once the attach misses nothing any more, or has given up
	once   sync.Once         // closes joined
}

func (p *pendingAttach) join() { p.once.Do(func() { close(p.joined) }) }

// Attach connects io to the container's main process; if none runs, to that of the next run.
func (c *Containers) Attach(ctx context.Context, ref string, o brig.AttachOptions, io brig.IO) error {
	ct, err := c.find(ref)
	if err != nil {
		return err
	}
	d := c.record(ct)
	switch d.State {
	case brig.Paused:
		return errs.New(errs.Conflict, "container %s is paused, unpause the container before attach", ref)
	case brig.Restarting:
		return errs.New(errs.Conflict, "container %s is restarting, wait until the container is running", ref)
	}
	if o.Logs {
		if err := replay(ctx, d, io); err != nil {
			return err
		}
	}
	if !o.Stream {
		if io.Attached != nil {
			io.Attached()
		}
		return nil
	}
	c.event(d, "attach")
	err = c.stream(ctx, ct, io)
	if errors.Is(err, brig.ErrDetached) {
		c.event(d, "detach")
	}
	return err
}

// stream attaches to the run, or waits for the next one and joins it before its process starts.
func (c *Containers) stream(ctx context.Context, ct *container, io brig.IO) error {
	p := &pendingAttach{handle: make(chan *brig.Handle, 1), joined: make(chan struct{})}
	c.mu.Lock()
	d := ct.rec
	switch {
	case ct.gone:
		c.mu.Unlock()
		return errs.New(errs.NotFound, "No such container: %s", ct.id)
	case d.State.HasProcess():
		c.mu.Unlock()
		return c.cfg.Processes.Attach(ctx, d.Handle, io)
	}
	ct.pending = append(ct.pending, p)
	c.mu.Unlock()
	defer p.join()
	attached := io.Attached
	if attached != nil {
		attached()
	}
	io.Attached = p.join
	select {
	case h, ok := <-p.handle:
		if !ok {
			return nil
		}
		return c.cfg.Processes.Attach(ctx, h, io)
	case <-ctx.Done():
		c.mu.Lock()
		ct.pending = slices.DeleteFunc(ct.pending, func(q *pendingAttach) bool { return q == p })
		c.mu.Unlock()
		return ctx.Err()
	case <-c.base.Done():
		return errs.New(errs.Unavailable, "brigd is stopping")
	}
}

// takePending empties the list.
func (c *Containers) takePending(ct *container) []*pendingAttach {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := ct.pending
	ct.pending = nil
	return list
}

// connectPending gives h to all that wait, and returns when each has joined or given up.
func (c *Containers) connectPending(ctx context.Context, ct *container, h *brig.Handle) {
	list := c.takePending(ct)
	for _, p := range list {
		p.handle <- h
	}
	for _, p := range list {
		select {
		case <-p.joined:
		case <-ctx.Done():
			return
		}
	}
}

// endPending ends those that wait for a run that will not be.
func (c *Containers) endPending(ct *container) {
	for _, p := range c.takePending(ct) {
		close(p.handle)
	}
}

// replay writes the log so far to io.
func replay(ctx context.Context, d *brig.Container, io brig.IO) error {
	if d.LogPath == "" {
		return nil
	}
	o := brig.LogOptions{Stdout: io.Stdout != nil, Stderr: io.Stderr != nil || d.Spec.TTY, Tail: -1}
	return noLogYet(logfile.Read(ctx, d.LogPath, o, nil, func(e brig.LogEntry) error {
		w := io.Stdout
		if e.Stream == "stderr" && io.Stderr != nil {
			w = io.Stderr
		}
		if w == nil {
			return nil
		}
		_, err := w.Write(e.Line)
		return err
	}))
}

// noLogYet forgives the absence of a log: its container has never run.
func noLogYet(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Logs reads the container's log; with Follow until the container is no longer active.
func (c *Containers) Logs(ctx context.Context, ref string, o brig.LogOptions, each func(brig.LogEntry) error) error {
	ct, err := c.find(ref)
	if err != nil {
		return err
	}
	d, idle, _ := c.view(ct)
	if d.LogPath == "" {
		return errs.New(errs.NotImplemented, "configured logging driver does not support reading")
	}
	if !d.State.Active() {
		idle = make(chan struct{})
		close(idle)
	}
	return noLogYet(logfile.Read(ctx, d.LogPath, o, idle, each))
}

// Resize sets the window size of the container's terminal, in characters.
func (c *Containers) Resize(ctx context.Context, ref string, rows, cols uint) error {
	ct, err := c.find(ref)
	if err != nil {
		return err
	}
	d := c.record(ct)
	if !d.State.HasProcess() {
		return errs.New(errs.Conflict, "cannot resize a stopped container: container %s is not running", d.ID)
	}
	if err := c.cfg.Terminals.Resize(ctx, d.Handle, "", rows, cols); err != nil {
		return errs.Wrap(err, "resize container %s", d.ID.Short())
	}
	c.event(d, "resize", "height", strconv.FormatUint(uint64(rows), 10), "width", strconv.FormatUint(uint64(cols), 10))
	return nil
}

// Top lists the container's processes as the host's ps(1) shows them. psArgs are ps's; none means -ef.
func (c *Containers) Top(ctx context.Context, ref string, psArgs []string) (brig.Processes, error) {
	ct, err := c.find(ref)
	if err != nil {
		return brig.Processes{}, err
	}
	d := c.record(ct)
	switch {
	case d.State == brig.Restarting:
		return brig.Processes{}, errs.New(errs.Conflict, "container %s is restarting, wait until the container is running", d.ID)
	case !d.State.HasProcess():
		return brig.Processes{}, errs.New(errs.Conflict, "container %s is not running", d.ID)
	}
	psArgs = psWords(goruntime.GOOS, psArgs)
	if err := checkPsArgs(psArgs); err != nil {
		return brig.Processes{}, err
	}
	pids, err := c.cfg.Jails.Pids(ctx, d.Handle)
	if err != nil {
		return brig.Processes{}, errs.Wrap(err, "list the processes of container %s", d.ID.Short())
	}
	out, err := host.Run(ctx, append([]string{"ps"}, psArgs...)...)
	if err != nil {
		return brig.Processes{}, errs.New(errs.Invalid, "error running ps: %w", err)
	}
	p, err := parsePs(string(out), pids)
	if err == nil {
		c.event(d, "top")
	}
	return p, err
}

// psWords are ps's arguments. -ef, docker's own if nobody asks for others, is another thing on FreeBSD, so that its columns are named there.
func psWords(goos string, asked []string) []string {
	own := len(asked) == 0 || len(asked) == 1 && asked[0] == "-ef"
	switch {
	case own && goos == "freebsd":
		return []string{"-axww", "-o", "user=UID", "-o", "pid=PID", "-o", "ppid=PPID", "-o", "pcpu=C", "-o", "start=STIME", "-o", "tt=TTY", "-o", "time=TIME", "-o", "args=CMD"}
	case own:
		return []string{"-ef"}
	case goos == "freebsd":
		return allProcesses(asked)
	}
	return asked
}

// allProcesses makes FreeBSD's ps(1) list the processes of all users and terminals, as clients expect of what they ask Linux's for: without -ax it
// lists the caller's own. Among options -e means that on Linux; FreeBSD's shows the processes' environments, and is left out.
func allProcesses(asked []string) []string {
	const all, withValue = "-axww", "GJMNOUopt" // options whose value is what follows in the word, or the next word
	if !strings.HasPrefix(asked[0], "-") {
		return append([]string{asked[0], all}, asked[1:]...) // "aux": ps reads options without a dash in its first argument alone
	}
	out := []string{all}
	for i := 0; i < len(asked); i++ {
		word := asked[i]
		if len(word) < 2 || word[0] != '-' || word[1] == '-' {
			return append(out, asked[i:]...)
		}
		end := strings.IndexAny(word, withValue)
		flags, value := word, ""
		if end > 0 {
			flags, value = word[:end], word[end:]
		}
		if word = strings.ReplaceAll(flags, "e", "") + value; word != "-" {
			out = append(out, word)
		}
		if len(value) == 1 && i+1 < len(asked) {
			i++
			out = append(out, asked[i])
		}
	}
	return out
}

// checkPsArgs refuses what would make ps print something other than a table with the column PID.
func checkPsArgs(args []string) error {
	for _, a := range args {
		if strings.ContainsAny(a, "\x00\n") {
			return errs.New(errs.Invalid, "invalid ps argument %q", a)
		}
		if i := strings.Index(a, "="); i >= 0 && strings.EqualFold(strings.TrimSpace(strings.TrimPrefix(a[:i], "-o")), "pid") && !strings.EqualFold(a[i+1:], "pid") {
			return errs.New(errs.Invalid, "specifying \"%s\" is not allowed", a)
		}
	}
	return nil
}

// parsePs keeps those lines of ps's output whose PID is listed. The last column may hold spaces.
func parsePs(out string, pids []int) (brig.Processes, error) {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	p := brig.Processes{Titles: strings.Fields(lines[0]), Rows: [][]string{}}
	col := slices.Index(p.Titles, "PID")
	if col < 0 {
		return brig.Processes{}, errs.New(errs.Invalid, "Couldn't find PID field in ps output")
	}
	for _, line := range lines[1:] {
		f := fields(line, len(p.Titles))
		if len(f) <= col {
			continue
		}
		pid, err := strconv.Atoi(f[col])
		if err == nil && slices.Contains(pids, pid) {
			p.Rows = append(p.Rows, f)
		}
	}
	return p, nil
}

// fields splits a line at runs of spaces into at most n parts.
func fields(line string, n int) []string {
	var out []string
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " \t") {
		i := strings.IndexAny(line, " \t")
		if i < 0 || len(out) == n-1 {
			return append(out, line)
		}
		out = append(out, line[:i])
		line = line[i:]
	}
	return out
}

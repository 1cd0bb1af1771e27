package survivor

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/errs"
)

// Connect connects to the process that runs, or starts one unless onlyOld (ErrNone). One that speaks another protocol, or nothing, is
// replaced; what it served is away until the new one has been told, some ten milliseconds later. The caller holds the lock.
func (c *Client) Connect(ctx context.Context, onlyOld bool) error {
	if c.link != nil {
		select {
		case <-c.link.gone:
			c.link = nil
		default:
			return nil
		}
	}
	if c.ctx.Err() != nil {
		return errs.New(errs.Unavailable, "the client of %s is closed", c.cfg.Name)
	}
	conn, err := c.dial(ctx)
	if err == nil {
		if err = c.greet(ctx, conn); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errs.Wrap(ctx.Err(), "wait for %s", c.cfg.Name)
		}
		c.cfg.Log.Warn("replacing the "+c.cfg.Name+" that runs", "err", err)
		c.evict()
	} else if !absent(err) {
		return errs.Wrap(err, "connect to %s", c.cfg.Name)
	}
	if onlyOld {
		return ErrNone
	}
	return c.start(ctx)
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.cfg.Dir, SocketName))
}

// greet makes conn the link if the process speaks our protocol; else it is told to end. It takes conn over.
func (c *Client) greet(ctx context.Context, conn net.Conn) (err error) {
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	conn.SetDeadline(time.Now().Add(helloWait))
	var a Head
	if err := errors.Join(WriteMessage(conn, &Request{OpHello}), ReadMessage(conn, &a)); err != nil {
		return errs.Wrap(err, "greet %s", c.cfg.Name)
	}
	if a.Protocol != c.cfg.Protocol {
		_ = WriteMessage(conn, &Request{OpQuit}) // evict looks whether it does
		_ = ReadMessage(conn, &a)
		return errs.New(errs.Internal, "%s speaks version %d, not %d", c.cfg.Name, a.Protocol, c.cfg.Protocol)
	}
	conn.SetDeadline(time.Time{})
	l := &link{conn: conn, answers: make(chan json.RawMessage, 1), gone: make(chan struct{})}
	c.link = l
	c.wg.Go(func() { c.follow(l) })
	return nil
}

// evict waits for the end of the process that holds the lock, and kills it if that doesn't come.
func (c *Client) evict() {
	if c.lockFree(time.Second) {
		return
	}
	if pid := c.Holder(); pid > 1 {
		c.cfg.Log.Warn("killing a "+c.cfg.Name+" that doesn't answer", "pid", pid)
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		c.lockFree(lockWait)             // until then its socket takes connections
	}
}

// lockFree waits until none runs, and reports whether that is so.
func (c *Client) lockFree(wait time.Duration) bool {
	for until := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		if c.reap(); c.Holder() == 0 {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

// Holder is the pid of the process that runs, or 0.
func (c *Client) Holder() int {
	f, err := os.Open(filepath.Join(c.cfg.Dir, LockName))
	if err != nil {
		return 0
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0 // closing f unlocks it
	}
	b := make([]byte, 32)
	n, _ := f.Read(b)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	return pid
}

// start starts the program and connects to it. The caller holds the lock.
func (c *Client) start(ctx context.Context) error {
	c.reap()
	pid, err := c.spawn()
	if err != nil {
		return errs.As(errs.Unavailable, errs.Wrap(err, "start %s", c.cfg.Program))
	}
	if c.child != 0 { // it is ending, else there would have been somebody to connect to
		c.past = append(c.past, c.child)
		c.Heal()
	}
	c.child = pid
	for until := time.Now().Add(lockWait + helloWait); ; {
		conn, err := c.dial(ctx)
		if err == nil {
			if err = c.greet(ctx, conn); err == nil {
				return nil
			}
		}
		if c.reap(); c.child == 0 {
			return errs.New(errs.Unavailable, "%s ended at once; see %s", c.cfg.Program, filepath.Join(c.cfg.Dir, LogName))
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return errs.Wrap(err, "connect to the %s that was started", c.cfg.Name)
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// spawn starts the program in a session of its own, with nothing of ours but its log. It stays in our cgroup, as shims do: the
// service manager must end brigd alone (KillMode=process).
func (c *Client) spawn() (pid int, err error) {
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	stderr, err := os.OpenFile(filepath.Join(c.cfg.Dir, LogName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer stderr.Close()
	p, err := os.StartProcess(c.cfg.Program, append([]string{c.cfg.Program, DirFlag, c.cfg.Dir}, c.cfg.Args...), &os.ProcAttr{
		Dir: "/", Env: c.cfg.Env, Files: []*os.File{null, null, stderr}, Sys: &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	pid = p.Pid
	return pid, p.Release()
}

// reap buries the processes that were our children and have ended. The caller holds the lock.
func (c *Client) reap() {
	ended := func(child int) bool {
		pid, err := unix.Wait4(child, nil, unix.WNOHANG, nil)
		return pid == child || errors.Is(err, unix.ECHILD)
	}
	c.past = slices.DeleteFunc(c.past, ended)
	if c.child != 0 && ended(c.child) {
		c.child = 0
	}
}

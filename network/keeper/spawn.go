package keeper

import (
	"context"
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

// DirFlag is the program's one argument: its directory follows.
const DirFlag = "--dir"

// errNone: no keeper runs, and none was wanted.
var errNone = errors.New("no keeper runs")

// connect connects to the keeper that runs, or starts one unless onlyOld. One that speaks another protocol, or nothing, is replaced;
// its ports are free until the new one has been told them, some ten milliseconds later. The caller holds mu.
func (c *Client) connect(ctx context.Context, onlyOld bool) error {
	if c.link != nil {
		select {
		case <-c.link.gone:
			c.link = nil
		default:
			return nil
		}
	}
	if c.ctx.Err() != nil {
		return errs.New(errs.Unavailable, "the client of brig-net is closed")
	}
	conn, err := c.dial(ctx)
	if err == nil {
		if err = c.greet(ctx, conn); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return errs.Wrap(ctx.Err(), "wait for brig-net")
		}
		c.cfg.Log.Warn("replacing the brig-net that runs", "err", err)
		c.evict()
	} else if !absent(err) {
		return errs.Wrap(err, "connect to brig-net")
	}
	if onlyOld {
		return errNone
	}
	return c.start(ctx)
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED)
}

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(c.cfg.Dir, socketName))
}

// greet makes conn the link if the keeper speaks our protocol; else that keeper is told to end. It takes conn over.
func (c *Client) greet(ctx context.Context, conn net.Conn) (err error) {
	defer func() {
		if err != nil {
			conn.Close()
		}
	}()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	conn.SetDeadline(time.Now().Add(helloWait))
	var a answer
	if err := errors.Join(writeMessage(conn, &request{Op: opHello}), readMessage(conn, &a)); err != nil {
		return errs.Wrap(err, "greet brig-net")
	}
	if a.Protocol != protocol {
		_ = writeMessage(conn, &request{Op: opQuit}) // evict looks whether it does
		_ = readMessage(conn, &a)
		return errs.New(errs.Internal, "brig-net speaks version %d, not %d", a.Protocol, protocol)
	}
	conn.SetDeadline(time.Time{})
	l := &link{conn: conn, answers: make(chan *answer, 1), gone: make(chan struct{})}
	c.link = l
	c.wg.Go(func() { c.follow(l) })
	return nil
}

// evict waits for the end of the keeper that holds the lock, and kills it if that doesn't come.
func (c *Client) evict() {
	if c.lockFree(time.Second) {
		return
	}
	if pid := c.lockHolder(); pid > 1 {
		c.cfg.Log.Warn("killing a brig-net that doesn't answer", "pid", pid)
		_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		c.lockFree(lockWait)             // until then its socket takes connections
	}
}

// lockFree waits until no keeper runs, and reports whether that is so.
func (c *Client) lockFree(wait time.Duration) bool {
	for until := time.Now().Add(wait); ; time.Sleep(5 * time.Millisecond) {
		if c.reap(); c.lockHolder() == 0 {
			return true
		}
		if time.Now().After(until) {
			return false
		}
	}
}

// lockHolder is the pid of the keeper that runs, or 0.
func (c *Client) lockHolder() int {
	f, err := os.Open(filepath.Join(c.cfg.Dir, lockName))
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

// start starts the program and connects to it. The caller holds mu.
func (c *Client) start(ctx context.Context) error {
	c.reap()
	pid, err := c.spawn()
	if err != nil {
		return errs.As(errs.Unavailable, errs.Wrap(err, "start %s", c.cfg.Program))
	}
	if c.child != 0 { // it is ending, else there would have been somebody to connect to
		c.past = append(c.past, c.child)
		c.startHealing()
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
			return errs.New(errs.Unavailable, "%s ended at once; see %s", c.cfg.Program, filepath.Join(c.cfg.Dir, logName))
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return errs.Wrap(err, "connect to the brig-net that was started")
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
	if err := c.prepareDir(); err != nil {
		return 0, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	stderr, err := os.OpenFile(filepath.Join(c.cfg.Dir, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer stderr.Close()
	p, err := os.StartProcess(c.cfg.Program, []string{c.cfg.Program, DirFlag, c.cfg.Dir}, &os.ProcAttr{
		Dir: "/", Env: []string{"GOGC=50", "GODEBUG=madvdontneed=1"}, Files: []*os.File{null, null, stderr}, Sys: &unix.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	pid = p.Pid
	return pid, p.Release()
}

// reap buries the keepers that were our children and have ended. The caller holds mu.
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

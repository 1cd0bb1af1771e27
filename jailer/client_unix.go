//go:build linux || freebsd

package jailer

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/shim"
	"golang.org/x/sys/unix"
)

// dial connects to a jail's shim. NotFound: nobody listens there.
func dial(ctx context.Context, h *brig.Handle) (net.Conn, error) {
	path, done, err := socketPath(h)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, errs.New(errs.NotFound, "the container's shim is gone: %w", err)
	}
	return c, err
}

// ask sends one request and returns the reply's fields. It gives up when ctx ends.
func ask(ctx context.Context, h *brig.Handle, request byte, fields ...string) ([]string, error) {
	c, err := dial(ctx, h)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, err = c.Write(shim.AppendFields(nil, request, fields...)); err == nil {
		var kind byte
		var payload []byte
		if kind, payload, _, err = shim.ReadFrame(c, nil); err == nil {
			return reply(kind, payload)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, errs.New(errs.NotFound, "the container's shim went away: %w", err)
}

func reply(kind byte, payload []byte) ([]string, error) {
	f := shim.Fields(payload)
	if kind != shim.Fail {
		return f, nil
	}
	f = append(f, "", "")
	err := &shimFailure{f[0], f[1]}
	if f[0] == shim.FailNotFound {
		return nil, errs.As(errs.NotFound, err)
	}
	return nil, err
}

func exitOf(payload []byte) brig.Exit {
	f := append(shim.Fields(payload), "", "", "", "")
	code, _ := strconv.Atoi(f[0])
	at, _ := strconv.ParseInt(f[1], 10, 64)
	return brig.Exit{Code: code, Time: time.Unix(0, at).UTC(), OOMKilled: f[2] == "1", Error: f[3]}
}

// A session is one attach or exec: a connection and the streams it joins.
type session struct {
	conn net.Conn
	io   brig.IO

	lost atomic.Bool // output could not be written to the client

	mu       sync.Mutex // one frame at a time
	detached error      // why the user's side ended the session
	closed   bool       // CloseStdin has been sent
}

func flags(bio brig.IO, tty bool) string {
	s := ""
	if bio.Stdin != nil {
		s += shim.FlagStdin
	}
	if bio.Stdout != nil {
		s += shim.FlagStdout
	}
	if bio.Stderr != nil {
		s += shim.FlagStderr
	}
	if tty {
		s += shim.FlagTTY
	}
	return s
}

func (s *session) send(kind byte, p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.conn.Write(shim.AppendFrame(nil, kind, p))
	return err
}

// feed sends the user's input until its end, or until the process's side is gone. It runs until Stdin's Read returns: the owner
// of the reader ends it by closing it.
func (s *session) feed() {
	buf := make([]byte, shim.MaxData)
	for {
		n, err := s.io.Stdin.Read(buf)
		if n > 0 && s.send(shim.Stdin, buf[:n]) != nil {
			return
		}
		if errors.Is(err, brig.ErrDetached) {
			s.mu.Lock()
			s.detached = brig.ErrDetached
			s.mu.Unlock()
			s.conn.Close()
			return
		}
		if err != nil {
			if err == io.EOF && s.io.CloseStdin && s.send(shim.CloseStdin, nil) == nil {
				s.mu.Lock()
				s.closed = true
				s.mu.Unlock()
			}
			return
		}
	}
}

// forsake ends the input of a process whose client has vanished before its input could all be taken: nobody else will. It is
// called after the connection has been closed. A daemon that stops ends nobody's input.
func (s *session) forsake(ctx context.Context, h *brig.Handle, exec string) {
	s.mu.Lock()
	closed := s.closed || s.detached != nil
	gone := (s.lost.Load() && ctx.Err() == nil) || errors.Is(context.Cause(ctx), brig.ErrClientGone)
	s.mu.Unlock()
	if closed || !gone || s.io.Stdin == nil || !s.io.CloseStdin {
		return
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	ask(limited, h, shim.ReqClose, exec) // fails if the process has ended
}

// run copies output until the process's end, or until the session's.
func (s *session) run() (exit brig.Exit, err error) {
	var buf, payload []byte
	for {
		var kind byte
		if kind, payload, buf, err = shim.ReadFrame(s.conn, buf); err != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.detached != nil {
				err = s.detached
			}
			return brig.Exit{}, err
		}
		switch {
		case kind == shim.Stdout && s.io.Stdout != nil:
			_, err = s.io.Stdout.Write(payload)
		case kind == shim.Stderr && s.io.Stderr != nil:
			_, err = s.io.Stderr.Write(payload)
		case kind == shim.Exited:
			return exitOf(payload), nil
		}
		if err != nil {
			s.lost.Store(true)
			return brig.Exit{}, errs.Wrap(err, "write output to the client")
		}
	}
}

// open connects, sends the request and waits until output can no longer be missed.
func open(ctx context.Context, h *brig.Handle, bio brig.IO, request byte, fields ...string) (*session, error) {
	c, err := dial(ctx, h)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if _, err = c.Write(shim.AppendFields(nil, request, fields...)); err == nil {
		var kind byte
		var payload []byte
		if kind, payload, _, err = shim.ReadFrame(c, nil); err == nil {
			if _, err = reply(kind, payload); err == nil {
				return &session{conn: c, io: bio}, nil
			}
		}
	}
	c.Close()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, err
}

// alive reports whether the shim of h is the process that h names.
func alive(h *brig.Handle) bool {
	start, err := startTime(h.ShimPID)
	return err == nil && start == h.ShimStart
}

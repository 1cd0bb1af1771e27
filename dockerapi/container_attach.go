package dockerapi

import (
	"context"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// containerAttach joins the connection to the container's streams. The 101 goes out once the engine has registered them, so a client
// that starts the container after it misses nothing.
func (s *Server) containerAttach(ctx context.Context, r *request) (response, error) {
	if err := r.drain(); err != nil {
		return nil, err
	}
	keys, err := parseDetachKeys(r.query.Get("detachKeys"))
	if err != nil {
		return nil, err
	}
	c, err := s.Containers.Get(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	switch c.State {
	case brig.Paused:
		return nil, errs.New(errs.Conflict, "container %s is paused, unpause the container before attach", r.ref())
	case brig.Restarting:
		return nil, errs.New(errs.Conflict, "container %s is restarting, wait until the container is running", r.ref())
	}
	if !c.Spec.TTY {
		keys = nil // as dockerd: a program's bytes are no keys
	}
	return func(a *answer) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		framed := !c.Spec.TTY
		ses := newSession(a, r, framed, cancel)
		streams := ses.streams(r.flag("stdin") && c.Spec.OpenStdin, r.flag("stdout"), r.flag("stderr"), framed, keys)
		streams.CloseStdin = c.Spec.StdinOnce
		o := brig.AttachOptions{Logs: r.flag("logs"), Stream: r.flag("stream")}
		return ses.run(ctx, func(io brig.IO) error { return s.Terminals.Attach(ctx, string(c.ID), o, io) }, streams,
			func(err error) { ses.fail(framed, "Error attaching: %v\n", err) })
	}, nil
}

// streams makes the engine's side of the session.
func (s *session) streams(in, out, err, framed bool, keys []byte) brig.IO {
	var io brig.IO
	if in {
		io.Stdin = s.input(keys)
	} else {
		s.stdin.Close() // what the client sends is thrown away
		close(s.fed)
	}
	outStream, errStream := streamStdout, streamStderr
	if !framed {
		outStream, errStream = 0, 0
	}
	if out {
		io.Stdout = s.output(outStream)
	}
	if err {
		io.Stderr = s.output(errStream)
	}
	return io
}

package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// ref is the container that the path names.
func (r *request) ref() string { return strings.TrimPrefix(r.vars["name"], "/") }

// done answers an action that says nothing on success.
func done(err error) (response, error) {
	if err != nil {
		return nil, err
	}
	return noBody(http.StatusNoContent), nil
}

// containerStart tolerates the empty and the null body that some clients send.
func (s *Server) containerStart(ctx context.Context, r *request) (response, error) {
	if r.ContentLength > 7 {
		return nil, invalid("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if err := r.drain(); err != nil {
		return nil, err
	}
	if r.query.Get("checkpoint") != "" {
		return nil, notYet("checkpoints are not supported by brig")
	}
	return done(s.Lifecycle.Start(ctx, r.ref()))
}

func (s *Server) containerStop(ctx context.Context, r *request) (response, error) {
	o, err := stopOptions(r)
	if err != nil {
		return nil, err
	}
	return done(s.Lifecycle.Stop(ctx, r.ref(), o))
}

func (s *Server) containerRestart(ctx context.Context, r *request) (response, error) {
	o, err := stopOptions(r)
	if err != nil {
		return nil, err
	}
	return done(s.Lifecycle.Restart(ctx, r.ref(), o))
}

func stopOptions(r *request) (o brig.StopOptions, err error) {
	if err := r.drain(); err != nil {
		return o, err
	}
	if r.version >= 42 {
		o.Signal = r.query.Get("signal")
	}
	if r.query.Get("t") == "" {
		return o, nil
	}
	t, err := r.number("t", 0)
	o.Timeout = &t
	return o, err
}

func (s *Server) containerKill(ctx context.Context, r *request) (response, error) {
	if err := r.drain(); err != nil {
		return nil, err
	}
	return done(s.Lifecycle.Kill(ctx, r.ref(), r.query.Get("signal")))
}

func (s *Server) containerPause(ctx context.Context, r *request) (response, error) {
	return done(s.Freezer.Pause(ctx, r.ref()))
}

func (s *Server) containerUnpause(ctx context.Context, r *request) (response, error) {
	return done(s.Freezer.Unpause(ctx, r.ref()))
}

func (s *Server) containerRename(ctx context.Context, r *request) (response, error) {
	name := strings.TrimPrefix(r.query.Get("name"), "/")
	if name == "" || r.ref() == "" {
		return nil, invalid("Neither old nor new names may be empty")
	}
	return done(s.Containers.Rename(ctx, r.ref(), name))
}

func (s *Server) containerRemove(ctx context.Context, r *request) (response, error) {
	return done(s.Containers.Remove(ctx, r.ref(), brig.RemoveOptions{Force: r.flag("force"), Volumes: r.flag("v"), Link: r.flag("link")}))
}

// containerWait answers in two parts: its headers say that the waiter is registered, its body how the container ended. Clients start the
// container in between.
func (s *Server) containerWait(ctx context.Context, r *request) (response, error) {
	if err := r.drain(); err != nil {
		return nil, err
	}
	cond := brig.WaitNotRunning
	if c := r.query.Get("condition"); c != "" && r.version >= 30 {
		cond = brig.WaitCondition(c)
	}
	switch cond {
	case brig.WaitNotRunning, brig.WaitNextExit, brig.WaitRemoved:
	default:
		return nil, invalid("invalid condition: %q", string(cond))
	}
	exits, err := s.Lifecycle.Wait(ctx, r.ref(), cond)
	if err != nil {
		return nil, err
	}
	return func(a *answer) error {
		a.Header().Set("Content-Type", "application/json")
		if r.version >= 30 {
			a.Flush()
		}
		exit, ok := <-exits
		if !ok {
			return errs.As(errs.Canceled, context.Cause(ctx))
		}
		out := container.WaitResponse{StatusCode: int64(exit.Code)}
		if exit.Error != "" {
			out.Error = &container.WaitExitError{Message: exit.Error}
		}
		return json.NewEncoder(a).Encode(out)
	}, nil
}

// size reads the h and w of a resize.
func (r *request) size() (rows, cols uint, err error) {
	for _, d := range []struct {
		name, what string
		to         *uint
	}{{"h", "height", &rows}, {"w", "width", &cols}} {
		n, err := strconv.ParseUint(r.query.Get(d.name), 10, 32)
		if err != nil {
			return 0, 0, invalid("invalid resize %s %q: %w", d.what, r.query.Get(d.name), err)
		}
		*d.to = uint(n)
	}
	return rows, cols, nil
}

func (s *Server) containerResize(ctx context.Context, r *request) (response, error) {
	rows, cols, err := r.size()
	if err != nil {
		return nil, err
	}
	return nil, s.Terminals.Resize(ctx, r.ref(), rows, cols)
}

// containerTop gives ps's arguments on as words: no shell ever sees them.
func (s *Server) containerTop(ctx context.Context, r *request) (response, error) {
	p, err := s.Terminals.Top(ctx, r.ref(), strings.Fields(r.query.Get("ps_args")))
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, container.TopResponse{Titles: p.Titles, Processes: p.Rows}), nil
}

func (s *Server) containerChanges(ctx context.Context, r *request) (response, error) {
	changes, err := s.Terminals.Changes(ctx, r.ref())
	if err != nil {
		return nil, err
	}
	var out []container.FilesystemChange // null if there is none, as dockerd
	for _, c := range changes {
		out = append(out, container.FilesystemChange{Kind: container.ChangeType(c.Kind), Path: c.Path})
	}
	return asJSON(http.StatusOK, out), nil
}

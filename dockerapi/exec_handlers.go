package dockerapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (s *Server) execCreate(ctx context.Context, r *request) (response, error) {
	var body container.ExecCreateRequest
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	spec, err := execSpec(&body, r.version)
	if err != nil {
		return nil, err
	}
	id, err := s.Execs.ExecCreate(ctx, r.ref(), spec)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusCreated, container.ExecCreateResponse{ID: string(id)}), nil
}

func execSpec(b *container.ExecCreateRequest, v Version) (brig.ExecSpec, error) {
	if len(b.Cmd) == 0 {
		return brig.ExecSpec{}, invalid("No exec command specified")
	}
	if _, err := parseDetachKeys(b.DetachKeys); err != nil {
		return brig.ExecSpec{}, err
	}
	spec := brig.ExecSpec{
		Args: b.Cmd, Env: b.Env, WorkingDir: b.WorkingDir, User: b.User, TTY: b.Tty, Privileged: b.Privileged,
		AttachIn: b.AttachStdin, AttachOut: b.AttachStdout, AttachErr: b.AttachStderr, DetachKeys: b.DetachKeys,
	}
	if b.ConsoleSize != nil && v >= 42 {
		spec.ConsoleRows, spec.ConsoleCols = b.ConsoleSize[0], b.ConsoleSize[1]
	}
	return spec, nil
}

// execStart runs an exec, joined to the connection unless it is detached. What fails after the 101 is told as output, and by the
// exec's exit code.
func (s *Server) execStart(ctx context.Context, r *request) (response, error) {
	var body container.ExecStartRequest
	if _, err := r.decodeOptional(&body); err != nil {
		return nil, err
	}
	e, err := s.Execs.ExecGet(ctx, r.vars["id"])
	if err != nil {
		return nil, err
	}
	if body.Detach {
		return nil, s.Execs.ExecStart(ctx, r.vars["id"], true, brig.IO{})
	}
	var keys []byte
	if e.Spec.TTY {
		if keys, err = parseDetachKeys(e.Spec.DetachKeys); err != nil {
			return nil, err
		}
	}
	return func(a *answer) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		framed := !body.Tty // dockerd goes by this, not by the exec's
		ses := newSession(a, r, framed, cancel)
		streams := ses.streams(e.Spec.AttachIn, e.Spec.AttachOut, e.Spec.AttachErr, framed, keys)
		streams.CloseStdin = true
		return ses.run(ctx, func(io brig.IO) error {
			err := s.Execs.ExecStart(ctx, r.vars["id"], false, io)
			if err != nil && !errs.Is(err, errs.Conflict) {
				err = errors.Join(err, ses.begin()) // dockerd answers 101 and tells why a process could not be made as output
			}
			return err
		}, streams, func(err error) { ses.fail(framed, "%v\r\n", err) })
	}, nil
}

func (s *Server) execResize(ctx context.Context, r *request) (response, error) {
	rows, cols, err := r.size()
	if err != nil {
		return nil, err
	}
	return nil, s.Execs.ExecResize(ctx, r.vars["id"], rows, cols)
}

func (s *Server) execInspect(ctx context.Context, r *request) (response, error) {
	e, err := s.Execs.ExecGet(ctx, r.vars["id"])
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, execDocument(e)), nil
}

func execDocument(e *brig.Exec) container.ExecInspectResponse {
	privileged := e.Spec.Privileged
	out := container.ExecInspectResponse{
		ID: string(e.ID), Running: e.Running, ExitCode: e.ExitCode, ContainerID: string(e.Container), Pid: e.PID,
		OpenStdin: e.Spec.AttachIn, OpenStdout: e.Spec.AttachOut, OpenStderr: e.Spec.AttachErr, DetachKeys: []byte{},
		ProcessConfig: &container.ExecProcessConfig{Tty: e.Spec.TTY, Arguments: []string{}, Privileged: &privileged, User: e.Spec.User},
	}
	if len(e.Spec.Args) > 0 {
		out.ProcessConfig.Entrypoint, out.ProcessConfig.Arguments = e.Spec.Args[0], e.Spec.Args[1:]
	}
	if keys, err := parseDetachKeys(e.Spec.DetachKeys); err == nil && e.Spec.DetachKeys != "" {
		out.DetachKeys = keys
	}
	return out
}

package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/errs"
)

func (s *Server) containerCreate(ctx context.Context, r *request) (response, error) {
	var raw json.RawMessage
	if err := r.decode(&raw); err != nil {
		return nil, err
	}
	body, err := decodeCreate(raw)
	if err != nil {
		return nil, err
	}
	if body.Image == "" && len(body.Cmd) == 0 && len(body.Entrypoint) == 0 {
		return nil, invalid("no command specified")
	}
	req, warnings, err := translateCreate(body, int(r.version), s.host)
	if err != nil {
		return nil, err
	}
	if err := s.knownRuntime(ctx, req.Spec.Runtime); err != nil {
		return nil, err
	}
	for _, mode := range []string{req.Spec.IpcMode, req.Spec.PidMode} {
		if ref, shared := strings.CutPrefix(mode, "container:"); shared {
			if _, err := s.Containers.Get(ctx, ref); err != nil {
				return nil, errs.As(errs.Invalid, err) // as dockerd, though it is something that is not there
			}
		}
	}
	req.Name = strings.TrimPrefix(r.query.Get("name"), "/")
	if r.version >= 41 {
		if req.Platform, err = s.platform(r); err != nil {
			return nil, err
		}
	}
	id, more, err := s.Containers.Create(ctx, req)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusCreated, container.CreateResponse{ID: string(id), Warnings: append(append([]string{}, warnings...), more...)}), nil
}

// knownRuntime asks the host only if the request names a runtime.
func (s *Server) knownRuntime(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	info, err := s.System.Info(ctx)
	if err != nil {
		return errs.Wrap(err, "look for the runtime %s", name)
	}
	return checkRuntime(name, info.Runtimes)
}

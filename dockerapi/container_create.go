package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	goruntime "runtime"
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
	req, warnings, err := translateCreate(body, int(r.version), createHost{NCPU: goruntime.NumCPU(), OS: s.ostype, Log: s.logDefault})
	if err != nil {
		return nil, err
	}
	if err := s.knownRuntime(ctx, req.Spec.Runtime); err != nil {
		return nil, err
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

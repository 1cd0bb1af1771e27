package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/changes"
	"github.com/brigd/brig/internal/errs"
)

// containerCommit is docker commit. The body, a container's config, may be missing or null.
func (s *Server) containerCommit(ctx context.Context, r *request) (response, error) {
	q := r.query
	p := brig.CommitRequest{
		Container: q.Get("container"), Author: q.Get("author"), Comment: q.Get("comment"), Changes: q["changes"], Pause: r.flagOr("pause", true),
	}
	if q.Get("pause") == "" {
		p.Pause = true
	}
	var err error
	if p.Config, err = commitBody(r); err != nil {
		return nil, err
	}
	if _, err := changes.Apply(brig.ImageConfig{}, p.Changes); err != nil {
		return nil, err
	}
	if q.Get("repo") != "" {
		ref, err := parseImageRef(q.Get("repo"), q.Get("tag"))
		if err != nil {
			return nil, err
		}
		if ref.digest {
			return nil, errs.New(errs.Invalid, "cannot import digest reference")
		}
		p.Repository, p.Tag = ref.name, ref.tag
	}
	id, err := s.Commits.Commit(ctx, p)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusCreated, container.CommitResponse{ID: string(id)}), nil
}

// commitBody reads what a config says of an image; nil if there is none.
func commitBody(r *request) (*brig.ImageConfig, error) {
	var raw json.RawMessage
	if had, err := r.decodeOptional(&raw); err != nil || !had {
		return nil, err
	}
	if string(raw) == "null" {
		return nil, nil
	}
	raw, err := listsOfStrings(raw, "Cmd", "Entrypoint", "Shell")
	if err != nil {
		return nil, err
	}
	var c container.Config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, errs.New(errs.Invalid, "invalid JSON: %w", err)
	}
	out := &brig.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
		Shell: c.Shell, OnBuild: c.OnBuild, ArgsEscaped: c.ArgsEscaped,
	}
	for v := range c.Volumes {
		out.Volumes = append(out.Volumes, v)
	}
	slices.Sort(out.Volumes)
	for p := range c.ExposedPorts {
		port, err := brig.ParsePort(p.String())
		if err != nil {
			return nil, err
		}
		out.Exposed = append(out.Exposed, port)
	}
	slices.SortFunc(out.Exposed, comparePorts)
	if h := c.Healthcheck; h != nil {
		out.Health = &brig.HealthCheck{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries}
	}
	return out, nil
}

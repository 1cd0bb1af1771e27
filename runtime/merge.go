package runtime

import (
	"maps"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// merge fills in from the image what the request leaves unset, by Docker's rules:
// an entrypoint in the request (even [""], which means none) drops the image's command; maps and lists are joined, the
// request's entries winning and, in the environment, coming first.
func merge(s brig.Spec, img *brig.ImageConfig) (brig.Spec, error) {
	if s.User == "" {
		s.User = img.User
	}
	if s.WorkingDir == "" {
		s.WorkingDir = img.WorkingDir
	}
	if s.StopSignal == "" {
		s.StopSignal = img.StopSignal
	}
	if len(s.Shell) == 0 {
		s.Shell = slices.Clone(img.Shell)
	}
	if len(s.Entrypoint) == 0 {
		if len(s.Cmd) == 0 {
			s.Cmd = slices.Clone(img.Cmd)
		}
		if s.Entrypoint == nil {
			s.Entrypoint = slices.Clone(img.Entrypoint)
		}
	}
	if len(s.Entrypoint) == 1 && s.Entrypoint[0] == "" {
		s.Entrypoint = nil
	}
	if len(s.Entrypoint) == 0 && len(s.Cmd) == 0 {
		return s, errs.New(errs.Invalid, "no command specified")
	}
	s.Env = mergeEnv(s.Env, img.Env)
	s.Labels = mergeLabels(s.Labels, img.Labels)
	s.Exposed = union(s.Exposed, img.Exposed)
	s.Volumes = union(s.Volumes, img.Volumes)
	s.Health = mergeHealth(s.Health, img.Health)
	return s, nil
}

// envKey returns the name of a KEY=VALUE.
func envKey(kv string) string {
	k, _, _ := strings.Cut(kv, "=")
	return k
}

// mergeEnv appends the image's variables that the request neither sets nor, by a KEY alone, removes.
func mergeEnv(req, img []string) []string {
	out := slices.Clone(req)
	for _, kv := range img {
		if !slices.ContainsFunc(req, func(r string) bool { return envKey(r) == envKey(kv) }) {
			out = append(out, kv)
		}
	}
	return out
}

func mergeLabels(req, img map[string]string) map[string]string {
	out := maps.Clone(img)
	if out == nil {
		out = map[string]string{}
	}
	maps.Copy(out, req)
	return out
}

func union[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func mergeHealth(req, img *brig.HealthCheck) *brig.HealthCheck {
	if req == nil || img == nil {
		if req == nil {
			return img
		}
		return req
	}
	h := *req
	if len(h.Test) == 0 {
		h.Test = img.Test
	}
	inherit(&h.Interval, img.Interval)
	inherit(&h.Timeout, img.Timeout)
	inherit(&h.StartPeriod, img.StartPeriod)
	inherit(&h.StartInterval, img.StartInterval)
	inherit(&h.Retries, img.Retries)
	return &h
}

func inherit[T comparable](v *T, from T) {
	var zero T
	if *v == zero {
		*v = from
	}
}

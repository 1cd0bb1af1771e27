package dockerapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/podspec"
)

// podRoutes are those of pods. What concerns one app alone goes by its container's endpoints.
func (s *Server) podRoutes() []route {
	return []route{
		{"GET", "/brig/v1/pods", s.podList, unversioned},
		{"POST", "/brig/v1/pods", s.podCreate, unversioned},
		{"GET", "/brig/v1/pods/{name}/json", s.podInspect, unversioned},
		{"POST", "/brig/v1/pods/{name}/start", s.podStart, unversioned},
		{"POST", "/brig/v1/pods/{name}/stop", s.podStop, unversioned},
		{"POST", "/brig/v1/pods/{name}/kill", s.podKill, unversioned},
		{"DELETE", "/brig/v1/pods/{name}", s.podRemove, unversioned},
	}
}

// podCreate takes a podspec.Order and answers with podspec.Made. ?dryRun=1 makes nothing.
func (s *Server) podCreate(ctx context.Context, r *request) (response, error) {
	var o podspec.Order
	if err := r.decode(&o); err != nil {
		return nil, err
	}
	set, warnings, err := s.podSettings(&o)
	if err != nil {
		return nil, err
	}
	out := podspec.Made{Apps: []podspec.MadeApp{}}
	status := http.StatusCreated
	var plan *podspec.Pod
	if r.flag("dryRun") {
		status = http.StatusOK
		if plan, err = s.Pods.PodReify(ctx, o.Request, set); err != nil {
			return nil, err
		}
		for _, a := range plan.Apps {
			out.Apps = append(out.Apps, podspec.MadeApp{Name: a.Name})
		}
		if out.Manifest, err = plan.Document(); err != nil {
			return nil, err
		}
	} else {
		var p *brig.Pod
		if p, plan, err = s.Pods.PodCreate(ctx, o.Request, set); err != nil {
			return nil, err
		}
		out.UUID, out.Name, out.Manifest = p.UUID(), p.Name, p.Manifest
		for _, a := range p.Apps {
			out.Apps = append(out.Apps, podspec.MadeApp{Name: a.Name, Container: string(a.Container)})
		}
	}
	out.Isolators, out.Warnings = nonNil(plan.Isolators), nonNil(append(warnings, plan.Warnings...))
	return asJSON(status, out), nil
}

// podSettings translates what an order says beside the manifest as a docker create's body of the same meaning would be.
func (s *Server) podSettings(o *podspec.Order) (brig.PodSettings, []string, error) {
	policy, retries, _ := strings.Cut(o.Restart, ":")
	maximum := 0
	if retries != "" {
		var err error
		if maximum, err = strconv.Atoi(retries); err != nil || policy != "on-failure" {
			return brig.PodSettings{}, nil, invalid("invalid restart policy: %q", o.Restart)
		}
	}
	if mode, _, _ := strings.Cut(o.Network, ":"); mode == "container" {
		return brig.PodSettings{}, nil, invalid("a pod can't be in the network of a container: %s", o.Network)
	}
	body, err := json.Marshal(map[string]any{
		"Hostname": o.Hostname, "Labels": o.Labels, "Tty": o.TTY, "OpenStdin": o.Stdin, "StdinOnce": o.Stdin,
		"HostConfig": map[string]any{
			"NetworkMode": o.Network, "Dns": o.DNS, "ExtraHosts": o.ExtraHosts, "ShmSize": o.ShmSize,
			"RestartPolicy": container.RestartPolicy{Name: container.RestartPolicyMode(policy), MaximumRetryCount: maximum},
			"LogConfig":     container.LogConfig{Type: o.LogDriver, Config: o.LogOptions},
		},
	})
	if err != nil {
		return brig.PodSettings{}, nil, err
	}
	b, err := decodeCreate(body)
	if err != nil {
		return brig.PodSettings{}, nil, err
	}
	req, warnings, err := translateCreate(b, int(MaxVersion), s.host)
	return brig.PodSettings{Name: o.Name, AutoRemove: o.Remove, Spec: req.Spec}, warnings, err
}

func (s *Server) podList(ctx context.Context, _ *request) (response, error) {
	all, err := s.Pods.PodList(ctx)
	if err != nil {
		return nil, err
	}
	containers, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[brig.ID]*brig.Container{}
	for _, c := range containers {
		byID[c.ID] = c
	}
	out := []podspec.Info{}
	for _, p := range all {
		var mine []*brig.Container
		for _, a := range p.Apps {
			if c := byID[a.Container]; c != nil {
				mine = append(mine, c)
			}
		}
		out = append(out, podInfo(p, mine))
	}
	return asJSON(http.StatusOK, out), nil
}

func (s *Server) podInspect(ctx context.Context, r *request) (response, error) {
	p, containers, err := s.Pods.PodGet(ctx, r.vars["name"])
	if err != nil {
		return nil, err
	}
	out := podInfo(p, containers)
	out.Manifest = p.Manifest
	return asJSON(http.StatusOK, out), nil
}

// podInfo is pure.
func podInfo(p *brig.Pod, containers []*brig.Container) podspec.Info {
	out := podspec.Info{
		UUID: p.UUID(), Name: p.Name, Created: p.Created, AutoRemove: p.AutoRemove, Hostname: p.Spec.Hostname, Volumes: p.Volumes,
		State: podState(p, containers), Apps: []podspec.AppInfo{}, Networks: map[string]podspec.Place{},
	}
	for name, e := range p.Endpoints {
		if e.Addr4.IsValid() || e.Addr6.IsValid() {
			out.Networks[name] = podspec.Place{IPv4: e.Addr4.Addr(), IPv6: e.Addr6.Addr(), Gateway: e.Gateway4}
		}
	}
	for _, c := range containers {
		a := podspec.AppInfo{
			Name: c.AppName(), Container: string(c.ID), Image: c.ImageRef, ImageID: string(c.Image), State: c.State.String(), PID: c.PID, ExitCode: c.ExitCode,
			Error: c.Error, Started: c.StartedAt, Finished: c.FinishedAt, Command: slices.Concat(c.Spec.Entrypoint, c.Spec.Cmd), TTY: c.Spec.TTY, Restart: c.Spec.Restart.Name,
		}
		for _, b := range portSummaries(c) {
			if b.PublicPort != 0 {
				a.Ports = append(a.Ports, netip.AddrPortFrom(b.IP, b.PublicPort).String()+"->"+strconv.Itoa(int(b.PrivatePort))+"/"+b.Type)
			}
		}
		out.Apps = append(out.Apps, a)
	}
	return out
}

func podState(p *brig.Pod, containers []*brig.Container) string {
	started := false
	for _, c := range containers {
		if c.State.Active() {
			return podspec.StateRunning
		}
		started = started || c.State != brig.Created
	}
	switch {
	case p.Removing:
		return podspec.StateRemoving
	case started:
		return podspec.StateExited
	}
	return podspec.StatePrepared
}

func (s *Server) podStart(ctx context.Context, r *request) (response, error) {
	if err := r.drain(); err != nil {
		return nil, err
	}
	return done(s.PodLifecycle.PodStart(ctx, r.vars["name"]))
}

func (s *Server) podStop(ctx context.Context, r *request) (response, error) {
	o := brig.StopOptions{Signal: r.query.Get("signal")}
	if err := r.drain(); err != nil {
		return nil, err
	}
	if r.query.Get("t") != "" {
		t, err := r.number("t", 0)
		if err != nil {
			return nil, err
		}
		o.Timeout = &t
	}
	return done(s.PodLifecycle.PodStop(ctx, r.vars["name"], o))
}

func (s *Server) podKill(ctx context.Context, r *request) (response, error) {
	if err := r.drain(); err != nil {
		return nil, err
	}
	return done(s.PodLifecycle.PodKill(ctx, r.vars["name"], r.query.Get("signal")))
}

func (s *Server) podRemove(ctx context.Context, r *request) (response, error) {
	return done(s.Pods.PodRemove(ctx, r.vars["name"], r.flag("force")))
}

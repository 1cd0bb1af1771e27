package dockerapi

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/brigd/brig/internal/brig"
)

// listRow is moby's row, with ports whose address is left out where there is none.
type listRow struct {
	container.Summary
	Ports []listPort
}

type listPort struct {
	IP          string `json:",omitempty"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}

func (s *Server) containerList(ctx context.Context, r *request) (response, error) {
	f, err := r.filters("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return nil, err
	}
	limit, err := r.number("limit", 0)
	if err != nil {
		return nil, err
	}
	l, err := s.newListing(ctx, f, limit, r.flag("all"))
	if err != nil {
		return nil, err
	}
	all, err := s.Containers.List(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := s.listRows(ctx, l.pick(all), r.flag("size"), r.version)
	if err != nil {
		return nil, err
	}
	linked := linkNames(all)
	for i := range rows {
		rows[i].Names = append(rows[i].Names, linked[brig.ID(rows[i].ID)]...)
	}
	return asJSON(http.StatusOK, rows), nil
}

// listRows describes the containers; size costs a look at each file that they have changed.
func (s *Server) listRows(ctx context.Context, containers []*brig.Container, size bool, v Version) ([]listRow, error) {
	now := time.Now()
	named := map[string]string{} // image reference to the ID that it names now
	rows := []listRow{}
	for _, c := range containers {
		id, known := named[c.ImageRef]
		if !known {
			if img, err := s.Images.ImageGet(ctx, c.ImageRef); err == nil {
				id = string(img.ID)
			}
			named[c.ImageRef] = id
		}
		row := listRowOf(c, now, v)
		if id != string(c.Image) {
			row.Image = string(c.Image) // its name means another image by now, or none
		}
		if size {
			var err error
			if row.SizeRw, row.SizeRootFs, err = s.containerSize(ctx, c); err != nil {
				return nil, err
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// linkNames are the names that containers have by the links of others, by ID.
func linkNames(all []*brig.Container) map[brig.ID][]string {
	out := map[brig.ID][]string{}
	for _, c := range all {
		for _, l := range c.Spec.Links {
			id, alias, _ := strings.Cut(l, ":")
			out[brig.ID(id)] = append(out[brig.ID(id)], "/"+c.Name+"/"+alias)
		}
	}
	return out
}

// listRowOf is pure.
func listRowOf(c *brig.Container, now time.Time, v Version) listRow {
	row := listRow{Summary: container.Summary{
		ID: string(c.ID), Names: []string{"/" + c.Name}, Image: c.ImageRef, ImageID: string(c.Image), Command: commandLine(c),
		Created: c.Created.Unix(), Labels: c.Spec.Labels, State: container.ContainerState(c.State.String()), Status: statusText(c, now),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: endpointsOf(c, v)}, Mounts: mountPoints(c),
	}, Ports: []listPort{}}
	for _, e := range row.NetworkSettings.Networks { // dockerd leaves out of lists what a request said of names
		e.Aliases, e.Links, e.DNSNames, e.DriverOpts = nil, nil, nil, nil
	}
	if row.Labels == nil {
		row.Labels = map[string]string{}
	}
	row.HostConfig.NetworkMode = c.Spec.NetworkMode
	if name, ok := networkModeOf(c.Spec.NetworkMode); ok {
		row.HostConfig.NetworkMode = name
	}
	if v >= 46 {
		row.HostConfig.Annotations = c.Spec.Annotations
	}
	for _, p := range portSummaries(c) {
		out := listPort{PrivatePort: p.PrivatePort, PublicPort: p.PublicPort, Type: p.Type}
		if p.IP != (netip.Addr{}) {
			out.IP = p.IP.String()
		}
		row.Ports = append(row.Ports, out)
	}
	return row
}

// commandLine joins the words; those with a space are quoted, as dockerd does it.
func commandLine(c *brig.Container) string {
	words := slices.Concat(c.Spec.Entrypoint, c.Spec.Cmd)
	for i, w := range words {
		if i > 0 && strings.Contains(w, " ") {
			words[i] = "'" + w + "'"
		}
	}
	return strings.Join(words, " ")
}

// statusText is the STATUS column.
func statusText(c *brig.Container, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch c.State {
	case brig.Running:
		switch h := healthOf(c); h {
		case string(container.NoHealthcheck):
			return "Up " + since(c.StartedAt)
		case brig.HealthStarting:
			return "Up " + since(c.StartedAt) + " (health: starting)"
		default:
			return "Up " + since(c.StartedAt) + " (" + h + ")"
		}
	case brig.Paused:
		return "Up " + since(c.StartedAt) + " (Paused)"
	case brig.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.ExitCode, since(c.FinishedAt))
	case brig.Removing:
		return "Removal In Progress"
	case brig.Dead:
		return "Dead"
	}
	if c.StartedAt.IsZero() || c.State == brig.Created {
		return "Created"
	}
	return fmt.Sprintf("Exited (%d) %s ago", c.ExitCode, since(c.FinishedAt))
}

package runtime

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Legacy links: a container on the default bridge knows others there by name, from its hosts file and its environment. A Spec names the
// other by its ID once the container is made. Links in users' networks are names of a resolver, and the keeper's.

// link is one legacy link of a container, to a container that runs.
type link struct {
	to    *brig.Container
	alias string
}

// resolveLinks gives s's links the IDs of the containers that they name.
func (c *Containers) resolveLinks(s *brig.Spec) error {
	if len(s.Links) == 0 || networkMode(s) != "bridge" {
		return nil
	}
	out := make([]string, 0, len(s.Links))
	for _, l := range s.Links {
		name, alias, ok := strings.Cut(l, ":")
		if !ok {
			alias = strings.TrimPrefix(name, "/")
		}
		ct, err := c.find(name)
		if err != nil {
			return errs.As(errs.Invalid, errs.Wrap(err, "could not get container for %s", name))
		}
		if networkMode(&c.record(ct).Spec) == "host" {
			return errs.New(errs.Invalid, "conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
		out = append(out, string(ct.id)+":"+alias)
	}
	s.Links = out
	return nil
}

// links finds the containers that d is linked to; each must run. One that has been removed is forgotten.
func (c *Containers) links(d *brig.Container) (out []link, err error) {
	if _, in := d.Endpoints["bridge"]; !in {
		return nil, nil
	}
	for _, l := range d.Spec.Links {
		id, alias, _ := strings.Cut(l, ":")
		c.mu.Lock()
		ct := c.byID[brig.ID(id)]
		c.mu.Unlock()
		if ct == nil {
			continue
		}
		to := c.record(ct)
		if !to.State.HasProcess() {
			return nil, errs.New(errs.Internal, "Cannot link to a non running container: /%s AS /%s/%s", to.Name, d.Name, alias)
		}
		if !to.Endpoints["bridge"].Addr4.IsValid() {
			return nil, errs.New(errs.Internal, "Cannot link to /%s, as it does not belong to the default network", to.Name)
		}
		out = append(out, link{to, alias})
	}
	return out, nil
}

// linkedLocked finds what PARENT/ALIAS names, a container by a link of another one, and that other one. Both are nil if there is no such
// link. The caller holds c.mu.
func (c *Containers) linkedLocked(ref string) (to, parent *container) {
	name, alias, ok := strings.Cut(strings.TrimPrefix(ref, "/"), "/")
	if parent = c.byID[c.byName[name]]; !ok || parent == nil {
		return nil, nil
	}
	for _, l := range parent.rec.Spec.Links {
		if id, a, _ := strings.Cut(l, ":"); a == alias && c.byID[brig.ID(id)] != nil {
			return c.byID[brig.ID(id)], parent
		}
	}
	return nil, nil
}

// removeLink removes the link PARENT/ALIAS, from the hosts file of a parent that runs too; its environment stays until its next start.
func (c *Containers) removeLink(ctx context.Context, ref string) error {
	if _, err := c.find(ref); err != nil {
		return err
	}
	c.mu.Lock()
	_, parent := c.linkedLocked(ref)
	c.mu.Unlock()
	if parent == nil {
		return errs.New(errs.Internal, "Conflict, cannot remove the default link name of the container")
	}
	if err := parent.lock.acquire(ctx); err != nil {
		return err
	}
	defer parent.lock.release()
	ctx = context.WithoutCancel(ctx)
	c.mu.Lock()
	to, now := c.linkedLocked(ref)
	var gone link
	if now == parent {
		gone.to = to.rec
	}
	c.mu.Unlock()
	if gone.to == nil {
		return errs.New(errs.NotFound, "No such container: %s", ref)
	}
	d := c.record(parent)
	_, gone.alias, _ = strings.Cut(strings.TrimPrefix(ref, "/"), "/")
	next := d.Clone()
	next.Spec.Links = slices.DeleteFunc(slices.Clone(d.Spec.Links), func(l string) bool { return l == string(gone.to.ID)+":"+gone.alias })
	if err := c.commit(ctx, parent, next); err != nil {
		return err
	}
	if d.State.HasProcess() {
		if err := c.relink(d, &gone, ""); err != nil {
			c.log.Warn("take a link out of a container's hosts", "container", d.ID.Short(), "err", err)
		}
	}
	return nil
}

func (l *link) addr() netip.Addr { return l.to.Endpoints["bridge"].Addr4.Addr() }

// names are the alias, and the host's and the container's names of what is linked to.
func (l *link) names() string {
	out := l.alias + " " + l.to.Spec.Hostname
	if l.alias != l.to.Name {
		out += " " + l.to.Name
	}
	return out
}

func (l *link) hostsLine() string { return fmt.Sprintf("%s\t%s\n", l.addr(), l.names()) }

// linkEnv are Docker's variables for links: ALIAS_PORT…, ALIAS_NAME, and the other's environment as ALIAS_ENV_….
func linkEnv(d *brig.Container, links []link) (out []string) {
	for _, l := range links {
		alias := strings.ReplaceAll(strings.ToUpper(l.alias), "-", "_")
		ports := slices.Clone(l.to.Spec.Exposed)
		for _, b := range l.to.Spec.Ports {
			if !slices.Contains(ports, b.Port) {
				ports = append(ports, b.Port)
			}
		}
		slices.SortFunc(ports, func(a, b brig.Port) int {
			return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Proto, b.Proto))
		})
		for i, p := range ports {
			url := fmt.Sprintf("%s://%s:%d", p.Proto, l.addr(), p.Number)
			if i == 0 {
				out = append(out, alias+"_PORT="+url)
			}
			name := fmt.Sprintf("%s_PORT_%d_%s", alias, p.Number, strings.ToUpper(p.Proto))
			out = append(out, name+"="+url, name+"_ADDR="+l.addr().String(), fmt.Sprintf("%s_PORT=%d", name, p.Number), name+"_PROTO="+p.Proto)
		}
		out = append(out, fmt.Sprintf("%s_NAME=/%s/%s", alias, d.Name, l.alias))
		for _, kv := range l.to.Spec.Env {
			if k, _, set := strings.Cut(kv, "="); set && k != "HOME" && k != "PATH" {
				out = append(out, alias+"_ENV_"+kv)
			}
		}
	}
	return out
}

// updateLinks tells running containers that are linked to d of the address that it has now.
func (c *Containers) updateLinks(d *brig.Container) {
	if !d.Endpoints["bridge"].Addr4.IsValid() {
		return
	}
	c.mu.Lock()
	var from []*brig.Container
	for _, ct := range c.byID {
		if len(ct.rec.Spec.Links) > 0 && ct.rec.State.HasProcess() {
			from = append(from, ct.rec)
		}
	}
	c.mu.Unlock()
	for _, p := range from {
		for _, s := range p.Spec.Links {
			id, alias, _ := strings.Cut(s, ":")
			if id != string(d.ID) {
				continue
			}
			l := link{d, alias}
			if err := c.relink(p, &l, l.hostsLine()); err != nil {
				c.log.Warn("tell a linked container of a new address", "container", p.ID.Short(), "err", err)
			}
		}
	}
}

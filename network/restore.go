package network

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Restore takes over at start-up: live containers keep their addresses, interfaces, ports and names; what belongs to none of them is
// removed. It must come before other calls.
func (n *Networks) Restore(ctx context.Context, live []*brig.Container) error {
	err := n.restore(ctx, live)
	return errors.Join(err, n.serve(ctx, nil)) // also with nothing to serve: a keeper that is left over ends
}

// Sweep removes what of this instance no container is attached to, where that may have had to stay for somebody who ran in it.
func (n *Networks) Sweep(context.Context) error {
	if !n.host.holdsStacks() {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.host.sweep(n.keep(), n.bridges()); err != nil { // as in restore: what can't go now is no reason not to start
		n.log.Warn("sweep networks", "err", err)
	}
	return nil
}

func (n *Networks) restore(ctx context.Context, live []*brig.Container) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.changed++
	used := map[brig.ID]*brig.Network{}
	for _, c := range live {
		if p := n.remember(c); p != nil {
			for name := range p.eps {
				w := n.find(name)
				used[w.ID] = w
			}
		}
	}
	removed, err := n.host.sweep(n.keep(), n.bridges())
	if err != nil {
		n.log.Warn("sweep networks", "err", err)
	}
	if len(used) == 0 {
		return errs.Wrap(n.host.clearRules(), "remove rules of a former brigd")
	}
	var all error
	for _, w := range used {
		if w.Name == "bridge" && !n.host.bridged(w.Bridge) { // who runs in one that is there has addresses of its subnet
			all = errors.Join(all, n.place(ctx, w))
		}
		if err := n.host.ensure(w, optionsOf(w)); err != nil {
			all = errors.Join(all, err)
			continue
		}
		n.up[w.ID] = true
	}
	n.watching.Do(func() { n.tending.Go(n.watch) })
	return errors.Join(all, n.mend(removed), n.program())
}

// remember makes the place of a container that may run; nil if it is in no bridge network. The caller holds mu.
func (n *Networks) remember(c *brig.Container) *place {
	if !c.State.HasProcess() {
		return nil
	}
	p := &place{id: c.ID, name: c.Name, dns: c.Spec.DNS, want: wanted(&c.Spec), eps: map[string]brig.Endpoint{}}
	p.ns = brig.Netns{Kind: brig.NetnsPath, Path: n.host.netnsPath(c.ID)}
	for name, ep := range c.Endpoints {
		w := n.find(name)
		if w == nil || w.Driver != "bridge" || (!ep.Addr4.IsValid() && !ep.Addr6.IsValid()) {
			continue
		}
		ep.Iface = cmp.Or(ep.Iface, "eth0")
		p.eps[name] = ep
		for _, s := range w.Subnets {
			for _, a := range []netip.Prefix{ep.Addr4, ep.Addr6} {
				if a.IsValid() && s.Prefix.Contains(a.Addr()) {
					n.pool(w).mark(a.Addr())
				}
			}
		}
		p.bindings = append(p.bindings, ep.Ports...)
	}
	if len(p.eps) == 0 {
		return nil
	}
	n.at[c.ID] = p
	return p
}

// keep names the links of each attached container. The caller holds mu.
func (n *Networks) keep() map[brig.ID][]string {
	out := map[brig.ID][]string{}
	for id, p := range n.at {
		out[id] = nil
		for _, ep := range p.eps {
			out[id] = append(out[id], n.host.linkNames(ep)...)
		}
	}
	return out
}

// bridges names those of all recorded networks. The caller holds mu.
func (n *Networks) bridges() map[string]bool {
	out := map[string]bool{n.host.bridgeName(): true}
	for _, w := range n.nets {
		if w.Bridge != "" {
			out[w.Bridge] = true
		}
	}
	return out
}

// mend sees to it that each container has its links, and that they are in their bridges. With all it sets default routes too. The
// caller holds mu.
func (n *Networks) mend(all bool) error {
	links, err := n.host.members()
	if err != nil {
		return err
	}
	var failed error
	for _, p := range n.at {
		if !n.host.hasNetns(p.id) {
			continue // it has ended, and is about to be detached
		}
		var lost []leg
		for name, ep := range p.eps {
			w := n.find(name)
			o := optionsOf(w)
			l := leg{ep, w.Bridge, o.mtu, !o.icc, len(p.want) > 0}
			for _, link := range n.host.linkNames(ep) {
				switch in, there := links[link]; {
				case !there:
					lost = append(lost, l)
				case in != w.Bridge:
					failed = errors.Join(failed, n.host.enslave(l))
				}
			}
		}
		switch {
		case len(lost) > 0:
			failed = errors.Join(failed, errs.Wrap(n.host.add(p.id, lost, n.routes(p)), "give container %s its links back", p.id.Short()))
		case all:
			failed = errors.Join(failed, errs.Wrap(n.host.reroute(p.id, n.routes(p)), "routes of container %s", p.id.Short()))
		}
	}
	return failed
}

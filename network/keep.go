package network

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/resolv"
	"github.com/brigd/brig/network/keeper"
)

// Keeper holds ports, relays them and answers names while brigd is down; a keeper.Client is one.
type Keeper interface {
	// Set replaces all that is served. On an error the rest is served all the same.
	Set(ctx context.Context, s keeper.State) error
	// Reserve binds all or none and returns them with every HostPort set; they are held until a Set that doesn't name them.
	Reserve(ctx context.Context, ports []keeper.Port) ([]keeper.Port, error)
	Close() error
}

// needsKeeper reports whether the keeper has to be told of p.
func (n *Networks) needsKeeper(p *place) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.needsKeeperLocked(p)
}

func (n *Networks) needsKeeperLocked(p *place) bool {
	return len(p.bindings) > 0 || len(p.want) > 0 || resolves(p)
}

// resolves reports whether a container has names: it is in a network of a user's.
func resolves(p *place) bool {
	for name, ep := range p.eps {
		if ep.NetworkID != "" && !brig.Predefined(name) {
			return true
		}
	}
	return false
}

// serve tells the keeper what is so by now, unless somebody has told it meanwhile. What can't be served of others than p is logged alone.
func (n *Networks) serve(ctx context.Context, p *place) error {
	n.mu.Lock()
	change := n.changed
	n.mu.Unlock()
	n.serving.Lock()
	defer n.serving.Unlock()
	if n.served >= change {
		return nil
	}
	n.mu.Lock()
	change = n.changed
	s := n.state()
	n.mu.Unlock()
	err := n.keeper.Set(ctx, s)
	if err == nil {
		n.served = change
		return nil
	}
	if p != nil && strings.Contains(err.Error(), string(p.id)) {
		return errs.Wrap(err, "serve names and ports")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == change { // else what it couldn't serve may be gone by now
		n.log.Warn("the keeper can't serve all names and ports", "err", err)
	}
	return nil
}

// state is all that the keeper shall serve. The caller holds mu.
func (n *Networks) state() keeper.State {
	var s keeper.State
	local := n.host.relaysLocal()
	zones := map[brig.ID]*keeper.Zone{}
	ids := make([]brig.ID, 0, len(n.at))
	for id := range n.at {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p := n.at[id]
		for _, name := range order(p) {
			if ep := p.eps[name]; !brig.Predefined(name) {
				if zones[ep.NetworkID] == nil {
					zones[ep.NetworkID] = &keeper.Zone{Network: string(ep.NetworkID), Name: name}
				}
			}
		}
		for _, b := range p.bindings {
			host, err := netip.ParseAddr(b.HostIP)
			if err != nil {
				continue
			}
			port := keeper.Port{Proto: b.Proto, HostIP: host, HostPort: b.HostPort}
			if to := n.target(p, host); to.IsValid() && (host.Is6() || to.Is6() || local) && b.Proto != "sctp" { // the kernel leads IPv4 to IPv4
				port.To = netip.AddrPortFrom(to, b.Number)
			}
			s.Ports = append(s.Ports, port)
		}
	}
	for _, first := range []bool{true, false} { // an address's first name answers reverse lookups: containers' own come before aliases
		for _, id := range ids {
			n.addNames(zones, n.at[id], first)
		}
	}
	for _, id := range ids {
		if p := n.at[id]; resolves(p) {
			s.Resolvers = append(s.Resolvers, n.resolver(p, zones))
		}
	}
	for _, z := range zones {
		s.Networks = append(s.Networks, *z)
	}
	slices.SortFunc(s.Networks, func(a, b keeper.Zone) int { return strings.Compare(a.Network, b.Network) })
	return s
}

// addNames adds p's addresses to its names, either to the first of each endpoint or to all others.
func (n *Networks) addNames(zones map[brig.ID]*keeper.Zone, p *place, first bool) {
	for _, name := range order(p) {
		ep := p.eps[name]
		z := zones[ep.NetworkID]
		if z == nil || len(ep.DNSNames) == 0 {
			continue
		}
		names := ep.DNSNames[1:]
		if first {
			names = ep.DNSNames[:1]
		}
		for _, dns := range names {
			i := slices.IndexFunc(z.Names, func(x keeper.Name) bool { return strings.EqualFold(x.Name, dns) })
			if i < 0 {
				z.Names = append(z.Names, keeper.Name{Name: dns})
				i = len(z.Names) - 1
			}
			for _, a := range []netip.Prefix{ep.Addr4, ep.Addr6} {
				if a.IsValid() && !slices.Contains(z.Names[i].Addrs, a.Addr()) {
					z.Names[i].Addrs = append(z.Names[i].Addrs, a.Addr())
				}
			}
		}
	}
}

// resolver is p's DNS server.
func (n *Networks) resolver(p *place, zones map[brig.ID]*keeper.Zone) keeper.Resolver {
	r := keeper.Resolver{Container: string(p.id), Netns: p.ns.Path, Internal: true, Ndots: ndots(p.dns)}
	for _, name := range order(p) {
		ep := p.eps[name]
		if w := n.find(name); w != nil && !w.Internal {
			r.Internal = false
		}
		z := zones[ep.NetworkID]
		if z == nil {
			continue
		}
		r.Networks = append(r.Networks, string(ep.NetworkID))
		if ep.Resolver.IsValid() {
			r.Netns, r.Listen = "", append(r.Listen, netip.AddrPortFrom(ep.Resolver, 53))
			for _, a := range []netip.Prefix{ep.Addr4, ep.Addr6} {
				if a.IsValid() {
					r.Clients = append(r.Clients, a.Addr())
				}
			}
		}
		for _, link := range ep.Spec.Links {
			target, alias, ok := strings.Cut(link, ":")
			if !ok {
				alias = target
			}
			for _, x := range z.Names {
				if strings.EqualFold(x.Name, strings.TrimPrefix(target, "/")) {
					r.Names = append(r.Names, keeper.Name{Name: alias, Addrs: x.Addrs})
				}
			}
		}
	}
	servers, fromHost := resolv.Upstream(p.dns.Servers)
	r.Servers, r.FromHost = servers, fromHost
	return r
}

// ndots reports whether the container's options set ndots above 0.
func ndots(d brig.DNS) bool {
	for _, o := range resolv.Options(d) {
		if v, ok := strings.CutPrefix(o, "ndots:"); ok && v != "0" {
			return true
		}
	}
	return false
}

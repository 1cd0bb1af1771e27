package network

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/internal/fault"
)

// place is what one container holds. Networks.mu guards it.
type place struct {
	id       brig.ID
	name     string
	ns       brig.Netns
	dns      brig.DNS
	eps      map[string]brig.Endpoint // by network name
	want     []brig.PortBinding       // asked for
	bindings []brig.PortBinding       // reserved; they lead to the gateway's endpoint
}

// mode returns the effective network mode of a container: never empty.
func mode(s *brig.Spec) string {
	switch {
	case s.NetworkDisabled:
		return "none"
	case s.NetworkMode == "" || s.NetworkMode == "default":
		return "bridge"
	}
	return s.NetworkMode
}

// member is a network that a container shall be in.
type member struct {
	*brig.Network
	spec brig.EndpointSpec
}

// members lists the networks that c is in by its record, its main one first. The caller holds mu.
func (n *Networks) members(c *brig.Container) ([]member, error) {
	m := mode(&c.Spec)
	eps := c.Endpoints
	if eps == nil {
		eps = map[string]brig.Endpoint{m: {Spec: c.Spec.Networks[m]}}
	}
	var out []member
	for _, name := range slices.Sorted(maps.Keys(eps)) {
		ref := name
		if id := eps[name].NetworkID; id != "" {
			ref = string(id) // another network of the name is not the one that was joined
		}
		w, err := n.lookup(ref)
		if err != nil {
			return nil, err
		}
		if w.ConfigOnly {
			return nil, errs.New(errs.Forbidden, "cannot attach container %s to the configuration network %s", c.ID.Short(), w.Name)
		}
		out = append(out, member{w, eps[name].Spec})
	}
	main := m
	if w, err := n.lookup(m); err == nil {
		main = w.Name
	}
	slices.SortStableFunc(out, func(a, b member) int {
		return cmp.Compare(btoi(b.Name == main), btoi(a.Name == main))
	})
	if len(out) > 1 {
		for _, w := range out {
			if err := alone(w.Network); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// alone refuses a network that can't be one of several.
func alone(w *brig.Network) error {
	switch w.Driver {
	case "host":
		return errs.New(errs.Invalid, "container sharing network namespace with another container or host cannot be connected to any other network")
	case "null":
		return errs.New(errs.Invalid, "container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

// Attach makes the namespace and joins the networks that c's record names. It is undone by Detach; a failed Attach has undone itself.
func (n *Networks) Attach(ctx context.Context, c *brig.Container, owner *brig.Handle) (brig.Attachment, error) {
	if ref, shared := strings.CutPrefix(mode(&c.Spec), "container:"); shared {
		if owner == nil || owner.InitPID == 0 {
			return brig.Attachment{}, errs.New(errs.Conflict, "cannot join network of a non running container: %s", ref)
		}
		return brig.Attachment{Netns: n.host.netnsOf(owner.InitPID)}, nil
	}
	p := &place{id: c.ID, name: c.Name, dns: c.Spec.DNS, want: wanted(&c.Spec), eps: map[string]brig.Endpoint{}}
	warnings, err := n.enter(ctx, c, p)
	if err != nil {
		n.letPortsGo(ctx, p)
		return brig.Attachment{}, err
	}
	if n.needsKeeper(p) {
		if err := n.serve(ctx, p); err != nil {
			_ = n.Detach(context.WithoutCancel(ctx), c.ID) // err says what is wrong; Detach logs its own
			return brig.Attachment{}, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return brig.Attachment{Netns: p.ns, Endpoints: maps.Clone(p.eps), Warnings: warnings}, nil
}

// letPortsGo has the keeper let go of ports that were reserved for p before something failed.
func (n *Networks) letPortsGo(ctx context.Context, p *place) {
	if len(p.want) == 0 {
		return
	}
	if err := n.serve(context.WithoutCancel(ctx), nil); err != nil {
		n.log.Warn("let go of reserved ports", "container", p.id.Short(), "err", err)
	}
}

// enter makes c's place.
func (n *Networks) enter(ctx context.Context, c *brig.Container, p *place) (warnings []string, err error) {
	if len(p.want) > 0 {
		n.serving.Lock() // before mu: ports are reserved beneath it
		defer n.serving.Unlock()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.at[c.ID] != nil {
		return nil, errs.New(errs.Conflict, "container %s is attached already", c.ID.Short())
	}
	ms, err := n.members(c)
	if err != nil {
		return nil, err
	}
	p.ns.Kind = brig.NetnsPrivate
	if len(ms) == 0 {
		return nil, nil
	}
	if ms[0].Driver != "bridge" {
		if ms[0].Driver == "host" {
			p.ns.Kind = brig.NetnsHost
			if len(c.Spec.Ports) > 0 {
				warnings = append(warnings, "Published ports are discarded when using host network mode")
			}
		}
		p.eps[ms[0].Name] = brig.Endpoint{Spec: ms[0].spec, NetworkID: ms[0].ID, EndpointID: brig.NewID()}
		return warnings, nil
	}
	n.at[c.ID] = p
	p.ns = brig.Netns{Kind: brig.NetnsPath, Path: n.host.netnsPath(c.ID)}
	if err := n.join(ctx, c, p, ms); err != nil {
		n.leave(p)
		return nil, err
	}
	named := slices.ContainsFunc(ms, func(m member) bool { return m.spec.DriverOpts[optIfname] != "" })
	if named && c.Platform.OS == "linux" && n.host.numbersIfaces() {
		warnings = append(warnings, "Programs for Linux see interfaces as eth0, eth1 and so on, whatever "+optIfname+" says, unless the host's compat.linux.use_real_ifnames is 1")
	}
	return warnings, nil
}

// again frees what rests in m and is wanted at once: addresses that m asks for, and those that the container itself had a moment ago. It
// returns the latter. The caller holds mu.
func (n *Networks) again(id brig.ID, m member) (last4, last6 string, err error) {
	for _, old := range n.resting {
		asked := old.Addr4.IsValid() && old.Addr4.Addr().String() == m.spec.IPv4 || old.Addr6.IsValid() && old.Addr6.Addr().String() == m.spec.IPv6
		if old.NetworkID != m.ID || !asked && old.of != id {
			continue
		}
		if err := n.host.unplug(old.Endpoint); err != nil {
			if asked {
				return "", "", err
			}
			continue // it gets another address
		}
		n.rested(old.Endpoint)
		if old.of != id {
			continue
		}
		if old.Addr4.IsValid() {
			last4 = old.Addr4.Addr().String()
		}
		if old.Addr6.IsValid() {
			last6 = old.Addr6.Addr().String()
		}
	}
	return last4, last6, nil
}

// join puts c into bridge networks. The caller holds mu, and undoes what a failure leaves.
func (n *Networks) join(ctx context.Context, c *brig.Container, p *place, ms []member) error {
	var legs []leg
	for _, m := range ms {
		l, err := n.leg(ctx, c, p, m)
		if err != nil {
			return err
		}
		legs = append(legs, l)
	}
	if err := n.publishPorts(ctx, p); err != nil {
		gw, _ := gateways(p, n)
		return errs.Wrap(err, "driver failed programming external connectivity on endpoint %s (%s)", c.Name, p.eps[gw].EndpointID)
	}
	if err := n.host.plug(c.ID, legs, n.routes(p)); err != nil {
		return err
	}
	fault.Point("net.plugged")
	if len(p.bindings) > 0 {
		if err := n.program(); err != nil {
			return err
		}
		fault.Point("net.published")
	}
	n.changed++
	return nil
}

// leg gives c an endpoint in m, with addresses and a name for the interface. The caller holds mu.
func (n *Networks) leg(ctx context.Context, c *brig.Container, p *place, m member) (leg, error) {
	if err := n.ready(ctx, m.Network); err != nil {
		return leg{}, err
	}
	ep := brig.Endpoint{Spec: m.spec, NetworkID: m.ID, EndpointID: brig.NewID()}
	o := optionsOf(m.Network)
	if err := m.CheckFixed(&m.spec); err != nil {
		return leg{}, err
	}
	if _, err := endpointSysctls(m.spec.DriverOpts); err != nil {
		return leg{}, err
	}
	pool := n.pool(m.Network)
	last4, last6, err := n.again(c.ID, m)
	if err != nil {
		return leg{}, err
	}
	fail := func(err error) (leg, error) {
		pool.give(ep.Addr4.Addr())
		pool.give(ep.Addr6.Addr())
		return leg{}, err
	}
	for _, s := range m.Subnets {
		var err error
		if s.Prefix.Addr().Is4() {
			ep.Addr4, err = pool.take(s, cmp.Or(m.spec.IPv4, stillIn(s, last4)))
			ep.Gateway4 = s.Gateway
		} else {
			ep.Addr6, err = pool.take(s, cmp.Or(m.spec.IPv6, stillIn(s, last6)))
			ep.Gateway6 = s.Gateway
		}
		if err != nil {
			return fail(err)
		}
	}
	if m.Internal {
		ep.Gateway4, ep.Gateway6 = netip.Addr{}, netip.Addr{}
	}
	own := ep.Addr4.Addr()
	if !own.IsValid() {
		own = ep.Addr6.Addr()
	}
	ep.MAC = cmp.Or(m.spec.MacAddress, macFor(own))
	if m.Name == mode(&c.Spec) {
		ep.MAC = cmp.Or(m.spec.MacAddress, c.Spec.MacAddress, macFor(own))
	}
	if ep.Iface, err = iface(p, o.prefix, m.spec.DriverOpts[optIfname]); err != nil {
		return fail(err)
	}
	if !brig.Predefined(m.Name) {
		ep.DNSNames, ep.Resolver = c.DNSNames(m.spec.Aliases), n.host.resolverOf(m.Network)
	}
	if n.host.sharesStack() {
		if ep.MAC, ep.Iface, err = "", m.Bridge, noLink(c, m); err != nil {
			return fail(err)
		}
	}
	p.eps[m.Name] = ep
	return leg{ep, m.Bridge, o.mtu, !o.icc, len(p.want) > 0}, nil
}

// noLink refuses what only an interface of a container's own can have, where there is none.
func noLink(c *brig.Container, m member) error {
	for _, x := range []struct {
		asked bool
		what  string
	}{
		{m.spec.MacAddress != "" || m.Name == mode(&c.Spec) && c.Spec.MacAddress != "", "a MAC address"},
		{m.spec.DriverOpts[optIfname] != "", "a name"},
		{m.spec.DriverOpts[optSysctls] != "", "settings"},
		{len(m.spec.LinkLocal) > 0, "link-local addresses"},
		{!optionsOf(m.Network).icc, "isolation (" + optICC + ")"},
	} {
		if x.asked {
			return errs.New(errs.NotImplemented, "network %s: containers share the host's network stack (freebsd-network), and have no interface of their own that could have %s", m.Name, x.what)
		}
	}
	return nil
}

// stillIn returns an address if it is one of the subnet's, else "": a bridge that is made again may have another subnet than before, if somebody
// else took that meanwhile.
func stillIn(s brig.Subnet, addr string) string {
	if a, err := netip.ParseAddr(addr); err == nil && s.Prefix.Masked().Contains(a) {
		return addr
	}
	return ""
}

// iface chooses the name of a further interface of p.
func iface(p *place, prefix, asked string) (string, error) {
	used := func(name string) bool {
		for _, ep := range p.eps {
			if ep.Iface == name {
				return true
			}
		}
		return name == "lo"
	}
	if asked != "" {
		if err := checkIface(asked); err != nil || used(asked) {
			return "", errs.New(errs.Invalid, "the interface name %q can't be used", asked)
		}
		return asked, nil
	}
	for i := 0; ; i++ {
		if name := prefix + strconv.Itoa(i); !used(name) {
			return name, nil
		}
	}
}

// order lists p's networks as Docker orders them: by priority, then by name.
func order(p *place) []string {
	return slices.SortedFunc(maps.Keys(p.eps), func(a, b string) int {
		return cmp.Or(cmp.Compare(p.eps[b].Spec.GwPriority, p.eps[a].Spec.GwPriority), cmp.Compare(a, b))
	})
}

// gateways names the networks that give p its default routes and lead to its published ports; "" for none.
func gateways(p *place, n *Networks) (gw4, gw6 string) {
	for _, name := range order(p) {
		if w := n.find(name); w == nil || w.Internal {
			continue
		}
		if gw4 == "" && p.eps[name].Gateway4.IsValid() {
			gw4 = name
		}
		if gw6 == "" && p.eps[name].Gateway6.IsValid() {
			gw6 = name
		}
	}
	return gw4, gw6
}

// routes are the default routes that p shall have. The caller holds mu.
func (n *Networks) routes(p *place) (out defaults) {
	for _, ep := range p.eps {
		out.ifaces = append(out.ifaces, ep.Iface)
	}
	gw4, gw6 := gateways(p, n)
	if gw4 != "" {
		out.routes = append(out.routes, route{p.eps[gw4].Iface, p.eps[gw4].Gateway4})
	}
	if gw6 != "" {
		out.routes = append(out.routes, route{p.eps[gw6].Iface, p.eps[gw6].Gateway6})
	}
	return out
}

// leg is one interface of a container, as the host has to make it.
type leg struct {
	brig.Endpoint
	bridge    string
	mtu       int
	isolated  bool // from other containers on the bridge
	published bool // ports of its container are
}

// route is a default route inside a container.
type route struct {
	iface string
	via   netip.Addr
}

// defaults are the default routes that a container shall have by its interfaces. Others, by devices of its own, are its business.
type defaults struct {
	routes []route
	ifaces []string
}

// Detach takes the container out of its networks. It is idempotent.
func (n *Networks) Detach(ctx context.Context, id brig.ID) error {
	n.mu.Lock()
	p := n.at[id]
	if p == nil {
		n.mu.Unlock()
		return nil
	}
	needs := n.needsKeeperLocked(p)
	err := n.leave(p)
	n.mu.Unlock()
	if needs {
		if e := n.serve(ctx, nil); e != nil {
			n.log.Warn("tell the keeper of a container that is gone", "container", id.Short(), "err", e)
		}
	}
	return err
}

// leave does Detach's work on the host; every part is tried. The caller holds mu.
func (n *Networks) leave(p *place) error {
	if n.at[p.id] != p {
		return nil
	}
	delete(n.at, p.id)
	n.changed++
	var err error
	if len(p.bindings) > 0 {
		err = n.program()
		fault.Point("net.unpublished")
	}
	if e := n.host.release(p.id); e != nil {
		err = e
	}
	fault.Point("netns.removed")
	for _, ep := range p.eps {
		n.letGo(p.id, ep)
	}
	if err != nil {
		n.log.Warn("detach from networks", "container", p.id.Short(), "err", err)
	}
	return errs.Wrap(err, "detach %s from its networks", p.id.Short())
}

// rest is an endpoint that a container has been let go of.
type rest struct {
	brig.Endpoint
	of brig.ID
}

// letGo has an endpoint of a container reaped. The caller holds mu.
func (n *Networks) letGo(id brig.ID, ep brig.Endpoint) {
	if ep.Addr4.IsValid() || ep.Addr6.IsValid() {
		n.resting[ep.EndpointID] = rest{ep, id}
		n.tending.Go(func() { n.reap(ep) })
	}
}

// reap deletes the link of a detached container, if the kernel hasn't within linkGrace, and frees its addresses.
func (n *Networks) reap(ep brig.Endpoint) {
	select {
	case <-time.After(linkGrace):
	case <-n.closing:
	}
	if err := n.host.unplug(ep); err != nil {
		n.log.Warn("delete the link of a detached container; the next start will try again", "endpoint", ep.EndpointID.Short(), "err", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rested(ep)
}

// rested frees the addresses of an endpoint that has been let go, unless that is done. The caller holds mu.
func (n *Networks) rested(ep brig.Endpoint) {
	if _, is := n.resting[ep.EndpointID]; is {
		delete(n.resting, ep.EndpointID)
		n.free(ep)
	}
}

// free gives an endpoint's addresses back. The caller holds mu.
func (n *Networks) free(ep brig.Endpoint) {
	if p := n.pools[ep.NetworkID]; p != nil {
		p.give(ep.Addr4.Addr())
		p.give(ep.Addr6.Addr())
	}
}

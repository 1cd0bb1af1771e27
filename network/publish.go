package network

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/network/keeper"
)

// wanted lists the ports to publish: those asked for and, with -P, the exposed ones that weren't.
func wanted(s *brig.Spec) []brig.PortBinding {
	out := slices.Clone(s.Ports)
	if s.PublishAll {
		for _, p := range s.Exposed {
			if !slices.ContainsFunc(s.Ports, func(b brig.PortBinding) bool { return b.Port == p }) {
				out = append(out, brig.PortBinding{Port: p})
			}
		}
	}
	return out
}

// publishPorts reserves the ports that p wants, once it has a gateway that they can lead to. The caller holds mu and serving.
func (n *Networks) publishPorts(ctx context.Context, p *place) error {
	if len(p.want) == 0 {
		return nil
	}
	gw4, gw6 := gateways(p, n)
	if gw4 == "" && gw6 == "" {
		return nil
	}
	if p.bindings == nil {
		var hostIP netip.Addr
		if w := n.find(gw4); w != nil {
			hostIP = optionsOf(w).hostIP
		}
		for _, b := range p.want {
			got, err := n.reserve(ctx, p, b, hostIP)
			if err != nil {
				p.bindings = nil // what was reserved goes with the next state
				n.changed++
				return err
			}
			p.bindings = append(p.bindings, got...)
		}
	}
	n.showPorts(p)
	return nil
}

// showPorts notes p's bindings at the endpoint that they lead to. Without one they are given up.
func (n *Networks) showPorts(p *place) {
	gw4, gw6 := gateways(p, n)
	main := cmp.Or(gw4, gw6)
	if main == "" {
		p.bindings = nil
	}
	for name, ep := range p.eps {
		ep.Ports = nil
		if name == main {
			ep.Ports = p.bindings
		}
		p.eps[name] = ep
	}
}

// hostIPs are the addresses that b is published at: without one it is all of both families, as far as the host has them.
func (n *Networks) hostIPs(b brig.PortBinding, network netip.Addr) ([]netip.Addr, error) {
	if b.HostIP == "" && network.IsValid() {
		return []netip.Addr{network}, nil
	}
	if b.HostIP == "" {
		all := []netip.Addr{netip.IPv4Unspecified()}
		if n.host.hasIPv6() {
			all = append(all, netip.IPv6Unspecified())
		}
		return all, nil
	}
	ip, err := netip.ParseAddr(b.HostIP)
	if err != nil {
		return nil, errs.New(errs.Invalid, "invalid host address %q of port %s", b.HostIP, b.Port)
	}
	return []netip.Addr{ip.Unmap()}, nil
}

// attempts is how often another port is tried where the kernel chooses, and what it chose for one family is taken in the other.
const attempts = 20

// reserve takes b on all its addresses, on one host port, and returns a binding for each address.
func (n *Networks) reserve(ctx context.Context, p *place, b brig.PortBinding, network netip.Addr) ([]brig.PortBinding, error) {
	ips, err := n.hostIPs(b, network)
	if err != nil {
		return nil, err
	}
	tries := max(1, int(b.HostEnd)-int(b.HostPort)+1)
	if b.HostPort == 0 {
		tries = attempts
	}
	for i := range tries {
		try := b
		if b.HostPort != 0 {
			try.HostPort += uint16(i)
		}
		try.HostEnd = 0
		var out []brig.PortBinding
		if out, err = n.reserveOne(ctx, p, try, ips); err == nil {
			return out, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, err
}

// reserveOne takes a single host port, 0 for any, on all of ips.
func (n *Networks) reserveOne(ctx context.Context, p *place, b brig.PortBinding, ips []netip.Addr) (out []brig.PortBinding, err error) {
	if b.Proto == "sctp" {
		return n.reserveSCTP(p, b, ips)
	}
	for _, ip := range ips {
		b.HostIP = ip.String()
		if n.ours(p, b, ip) {
			return nil, allocated(b)
		}
		got, err := n.keeper.Reserve(ctx, []keeper.Port{{Proto: b.Proto, HostIP: ip, HostPort: b.HostPort}})
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, errs.New(errs.Internal, "failed to bind port %s/%s: address already in use%w", hostPort(b), b.Proto, quiet{syscall.EADDRINUSE})
		}
		if err != nil {
			return nil, err
		}
		b.HostPort = got[0].HostPort
		out = append(out, b)
	}
	return out, nil
}

// firstDynamic is the first of the ports that IANA leaves to such use.
const firstDynamic = 49153

// reserveSCTP chooses ports that no container has: nobody but the kernel can do SCTP here, and it leads it on by rules alone. IPv6 needs
// a container with an IPv6 address.
func (n *Networks) reserveSCTP(p *place, b brig.PortBinding, ips []netip.Addr) (out []brig.PortBinding, err error) {
	if err := n.host.knowsSCTP(); err != nil {
		return nil, errs.New(errs.NotImplemented, "can't publish port %s: this kernel has no SCTP: %w", b.Port, err)
	}
	chosen := b.HostPort == 0
	if chosen {
		b.HostPort = firstDynamic
	}
	for _, ip := range ips {
		if ip.Is6() && !n.target(p, ip).Is6() {
			continue
		}
		b.HostIP = ip.String()
		for n.ours(p, b, ip) {
			if !chosen || b.HostPort == 65535 {
				return nil, allocated(b)
			}
			b.HostPort++
		}
		out = append(out, b)
	}
	if len(out) == 0 {
		return nil, errs.New(errs.Invalid, "can't publish port %s at %s: the container has no IPv6 address", b.Port, b.HostIP)
	}
	return out, nil
}

func allocated(b brig.PortBinding) error {
	return errs.New(errs.Internal, "Bind for %s failed: port is already allocated%w", hostPort(b), quiet{syscall.EADDRINUSE})
}

// quiet is an error that says nothing: it lets errors.Is find a cause that the text names already.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

func hostPort(b brig.PortBinding) string {
	return net.JoinHostPort(b.HostIP, strconv.Itoa(int(b.HostPort)))
}

// ours reports whether a container, p with what it has so far too, has the same port on the same, or on all, addresses of the family.
func (n *Networks) ours(p *place, b brig.PortBinding, ip netip.Addr) bool {
	same := func(bs []brig.PortBinding) bool {
		return slices.ContainsFunc(bs, func(x brig.PortBinding) bool {
			at, err := netip.ParseAddr(x.HostIP)
			return err == nil && x.Proto == b.Proto && x.HostPort == b.HostPort && b.HostPort != 0 && at.Is4() == ip.Is4() &&
				(at == ip || at.IsUnspecified() || ip.IsUnspecified())
		})
	}
	for _, q := range n.at {
		if q != p && same(q.bindings) {
			return true
		}
	}
	return same(p.bindings)
}

// forward is one published port and where it leads.
type forward struct {
	brig.PortBinding
	host netip.Addr // HostIP
	to   netip.Addr
}

// metadataPort is where brig-mds listens on the gateways of networks, by TCP: package metadata's Port.
const metadataPort = 1104

// coversMetadata reports whether a port is published that would take what containers send to brig-mds.
func coversMetadata(fs []forward) bool {
	return slices.ContainsFunc(fs, func(f forward) bool { return f.Proto == "tcp" && f.HostPort == metadataPort })
}

// target is where a binding of p leads: to the container's address of the same family if there is one.
func (n *Networks) target(p *place, host netip.Addr) netip.Addr {
	gw4, gw6 := gateways(p, n)
	a4, a6 := p.eps[gw4].Addr4.Addr(), p.eps[gw6].Addr6.Addr()
	if (host.Is4() && a4.IsValid()) || !a6.IsValid() {
		return a4
	}
	return a6
}

// forwards lists what is published, in an order that depends on nothing else. The caller holds mu.
func (n *Networks) forwards() (out []forward) {
	for _, p := range n.at {
		for _, b := range p.bindings {
			if host, err := netip.ParseAddr(b.HostIP); err == nil {
				out = append(out, forward{b, host, n.target(p, host)})
			}
		}
	}
	slices.SortFunc(out, func(a, b forward) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.HostPort, b.HostPort), b.host.Compare(a.host)) // one address before all of them
	})
	return out
}

// bridge is what the rules have to know of a network.
type bridge struct {
	name                 string
	nets                 []netip.Prefix
	gateways             []netip.Addr // of nets, the host's addresses there
	internal, masquerade bool
	names                bool // it is a user's: its containers ask for names
}

// program makes the host's rules say what networks and places hold. The caller holds mu.
func (n *Networks) program() error {
	var bs []bridge
	for _, w := range n.nets {
		if !n.up[w.ID] {
			continue
		}
		b := bridge{name: w.Bridge, internal: w.Internal, masquerade: optionsOf(w).masquerade, names: !brig.Predefined(w.Name)}
		for _, s := range w.Subnets {
			b.nets, b.gateways = append(b.nets, s.Prefix.Masked()), append(b.gateways, s.Gateway)
		}
		bs = append(bs, b)
	}
	slices.SortFunc(bs, func(a, b bridge) int { return cmp.Compare(a.name, b.name) })
	return errs.Wrap(n.host.program(bs, n.forwards()), "write the firewall's rules")
}

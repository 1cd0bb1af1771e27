package dockerapi

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/brigd/brig/internal/brig"
)

// networksOf is NetworkSettings.
func networksOf(c *brig.Container, v Version) *inspectNetworks {
	n := &inspectNetworks{Ports: network.PortMap{}, Networks: endpointsOf(c, v)}
	if c.State.HasProcess() {
		n.Ports = publishedPorts(c)
	}
	if e, ok := c.Endpoints[network.NetworkBridge]; ok {
		n.EndpointID, n.MacAddress = string(e.EndpointID), e.MAC
		n.Gateway, n.IPv6Gateway = addrString(e.Gateway4), addrString(e.Gateway6)
		n.IPAddress, n.IPPrefixLen = prefixParts(e.Addr4)
		n.GlobalIPv6Address, n.GlobalIPv6PrefixLen = prefixParts(e.Addr6)
	}
	return n
}

func prefixParts(p netip.Prefix) (string, int) {
	if !p.IsValid() {
		return "", 0
	}
	return p.Addr().String(), p.Bits()
}

// endpointsOf lists the networks that the container is in, or before its first start those that it asks for.
func endpointsOf(c *brig.Container, v Version) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	for name, spec := range c.Spec.Networks {
		if len(c.Endpoints) == 0 {
			out[name] = endpointSettings(c, name, brig.Endpoint{Spec: spec}, v)
		}
	}
	for name, e := range c.Endpoints {
		out[name] = endpointSettings(c, name, e, v)
	}
	if name, ok := networkModeOf(c.Spec.NetworkMode); ok && len(out) == 0 && !c.Spec.NetworkDisabled {
		out[name] = endpointSettings(c, name, brig.Endpoint{}, v)
	}
	return out
}

func endpointSettings(c *brig.Container, name string, e brig.Endpoint, v Version) *network.EndpointSettings {
	out := &network.EndpointSettings{
		NetworkID: string(e.NetworkID), EndpointID: string(e.EndpointID), Links: e.Spec.Links, Aliases: e.Spec.Aliases, DriverOpts: e.Spec.DriverOpts,
		Gateway: e.Gateway4, IPv6Gateway: e.Gateway6, DNSNames: e.DNSNames, GwPriority: e.Spec.GwPriority,
	}
	if e.Addr4.IsValid() {
		out.IPAddress, out.IPPrefixLen = e.Addr4.Addr(), e.Addr4.Bits()
	}
	if e.Addr6.IsValid() {
		out.GlobalIPv6Address, out.GlobalIPv6PrefixLen = e.Addr6.Addr(), e.Addr6.Bits()
	}
	if mac, err := net.ParseMAC(cmp.Or(e.MAC, e.Spec.MacAddress)); err == nil {
		out.MacAddress = network.HardwareAddr(mac)
	}
	if e.Spec.IPv4 != "" || e.Spec.IPv6 != "" || len(e.Spec.LinkLocal) > 0 {
		out.IPAMConfig = &network.EndpointIPAMConfig{}
		out.IPAMConfig.IPv4Address, _ = netip.ParseAddr(e.Spec.IPv4) // "" stays no address
		out.IPAMConfig.IPv6Address, _ = netip.ParseAddr(e.Spec.IPv6)
		for _, s := range e.Spec.LinkLocal {
			if a, err := netip.ParseAddr(s); err == nil {
				out.IPAMConfig.LinkLocalIPs = append(out.IPAMConfig.LinkLocalIPs, a)
			}
		}
	}
	if v < 45 && len(e.DNSNames) > 0 {
		out.Aliases = slices.Clone(out.Aliases)
		for _, name := range []string{c.ID.Short(), c.Spec.Hostname} {
			if name != "" && !slices.Contains(out.Aliases, name) {
				out.Aliases = append(out.Aliases, name)
			}
		}
	}
	return out
}

// publishedPorts has every exposed port, with its bindings or null.
func publishedPorts(c *brig.Container) network.PortMap {
	out := network.PortMap{}
	for _, p := range c.Spec.Exposed {
		if port, ok := mobyPort(p); ok {
			out[port] = nil
		}
	}
	for _, b := range bindingsOf(c) {
		if port, ok := mobyPort(b.Port); ok {
			out[port] = append(out[port], network.PortBinding{HostIP: hostIP(b.HostIP), HostPort: strconv.Itoa(int(b.HostPort))})
		}
	}
	return out
}

// bindingsOf collects what is published in all networks, sorted, each binding once.
func bindingsOf(c *brig.Container) []brig.PortBinding {
	var out []brig.PortBinding
	for _, e := range c.Endpoints {
		out = append(out, e.Ports...)
	}
	slices.SortFunc(out, func(a, b brig.PortBinding) int {
		return cmp.Or(comparePorts(a.Port, b.Port), hostIP(a.HostIP).Compare(hostIP(b.HostIP)), cmp.Compare(a.HostPort, b.HostPort))
	})
	return slices.Compact(out)
}

// hostIP is the address of a binding; all addresses are shown as IPv4's unspecified one.
func hostIP(s string) netip.Addr {
	if a, err := netip.ParseAddr(s); err == nil {
		return a
	}
	return netip.IPv4Unspecified()
}

// portSummaries are the ports of a list's row: published ones, then exposed ones that are not, in order of the container's port.
func portSummaries(c *brig.Container) []container.PortSummary {
	out := []container.PortSummary{}
	if !c.State.HasProcess() {
		return out
	}
	published := map[brig.Port]bool{}
	for _, b := range bindingsOf(c) {
		published[b.Port] = true
		out = append(out, container.PortSummary{IP: hostIP(b.HostIP), PrivatePort: b.Number, PublicPort: b.HostPort, Type: b.Proto})
	}
	for _, p := range c.Spec.Exposed {
		if !published[p] {
			published[p] = true
			out = append(out, container.PortSummary{PrivatePort: p.Number, Type: p.Proto})
		}
	}
	slices.SortStableFunc(out, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.Type, b.Type))
	})
	return out
}

package dockerapi

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// netMode settles the network mode and refuses what can't go together with it.
func (t *translation) netMode() error {
	h := t.h
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = network.NetworkBridge
		if ep, ok := t.nets[network.NetworkDefault]; ok {
			t.nets = maps.Clone(t.nets)
			t.nets[network.NetworkBridge] = ep
			delete(t.nets, network.NetworkDefault)
		}
	}
	if h.NetworkMode.IsContainer() || h.NetworkMode == "container" {
		if err := t.sharedNet(); err != nil {
			return err
		}
	}
	if h.UTSMode.IsHost() && t.c.Hostname != "" {
		return invalid("conflicting options: hostname and the UTS mode")
	}
	if h.NetworkMode.IsHost() && len(h.Links) > 0 {
		return invalid("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
	}
	if h.NetworkMode.IsHost() && len(h.PortBindings) > 0 {
		t.warn("Published ports are discarded when using host network mode")
	}
	t.spec.NetworkMode, t.spec.NetworkDisabled = string(h.NetworkMode), t.c.NetworkDisabled
	return nil
}

// sharedNet refuses what only the owner of a network namespace can have.
func (t *translation) sharedNet() error {
	switch h := t.h; {
	case h.NetworkMode.ConnectedContainer() == "":
		return invalid("invalid network mode: invalid container format container:<name|id>")
	case t.c.Hostname != "":
		return invalid("conflicting options: hostname and the network mode")
	case len(h.Links) > 0:
		return invalid("conflicting options: container type network can't be used with links. This would result in undefined behavior")
	case len(h.DNS) > 0:
		return invalid("conflicting options: dns and the network mode")
	case len(h.ExtraHosts) > 0:
		return invalid("conflicting options: custom host-to-IP mapping and the network mode")
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		return invalid("conflicting options: port publishing and the container type network mode")
	case len(t.c.ExposedPorts) > 0:
		return invalid("conflicting options: port exposing and the container type network mode")
	}
	return nil
}

// endpoints translates what is asked of each network, and the container-wide MAC address of clients before 1.52.
func (t *translation) endpoints() error {
	if t.minor < 44 && len(t.nets) > 1 {
		return invalid("Container cannot be created with multiple network endpoints: %s", strings.Join(slices.Sorted(maps.Keys(t.nets)), ", "))
	}
	t.spec.Networks = map[string]brig.EndpointSpec{}
	for _, name := range slices.Sorted(maps.Keys(t.nets)) {
		ep := t.nets[name]
		if ep == nil {
			ep = &network.EndpointSettings{}
		}
		e, err := t.endpoint(name, ep)
		if err != nil {
			return err
		}
		t.spec.Networks[name] = e
	}
	return t.macAddress()
}

func (t *translation) endpoint(name string, ep *network.EndpointSettings) (brig.EndpointSpec, error) {
	e := brig.EndpointSpec{Aliases: ep.Aliases, Links: ep.Links, DriverOpts: ep.DriverOpts}
	if t.minor >= 44 && len(ep.MacAddress) > 0 {
		e.MacAddress = ep.MacAddress.String()
	}
	if t.minor >= 48 {
		e.GwPriority = ep.GwPriority
	}
	builtin := name == network.NetworkBridge || name == network.NetworkHost || name == network.NetworkNone
	if c := ep.IPAMConfig; c != nil {
		for _, a := range c.LinkLocalIPs {
			e.LinkLocal = append(e.LinkLocal, a.String())
		}
		e.IPv4, e.IPv6 = addrString(c.IPv4Address), addrString(c.IPv6Address)
		if builtin && (e.IPv4 != "" || e.IPv6 != "") {
			return e, invalid("user specified IP address is supported on user defined networks only")
		}
		if c.IPv4Address.IsValid() && !c.IPv4Address.Is4() {
			return e, invalid("invalid IPv4 address: %s", e.IPv4)
		}
		if c.IPv6Address.IsValid() && !c.IPv6Address.Is6() {
			return e, invalid("invalid IPv6 address: %s", e.IPv6)
		}
	}
	if builtin && len(ep.Aliases) > 0 {
		return e, invalid("network-scoped aliases are only supported for user-defined networks")
	}
	return e, nil
}

// macAddress puts the container-wide address where it belongs. From 1.44 on it is deprecated but still has its effect.
func (t *translation) macAddress() error {
	if t.h.NetworkMode.IsContainer() {
		for _, e := range t.spec.Networks {
			if e.MacAddress != "" {
				return invalid("conflicting options: mac-address and the network mode")
			}
		}
	}
	mac := t.legacy.MacAddress.String()
	if mac == "" {
		return nil
	}
	if t.minor >= 52 {
		return invalid("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
	}
	mode := string(t.h.NetworkMode)
	if !t.h.NetworkMode.IsUserDefined() && mode != network.NetworkBridge {
		return invalid("conflicting options: mac-address and the network mode")
	}
	e, ok := t.spec.Networks[mode]
	if !ok && len(t.spec.Networks) > 0 {
		return invalid("HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks")
	}
	if e.MacAddress != "" && e.MacAddress != mac {
		return invalid("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	e.MacAddress = mac
	t.spec.Networks[mode], t.spec.MacAddress = e, mac
	if t.minor >= 44 {
		t.warn("The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.")
	}
	return nil
}

// ports translates exposed and published ports, sorted, so that equal requests give equal Specs.
func (t *translation) ports() error {
	for p := range t.c.ExposedPorts {
		port, err := brig.ParsePort(p.String())
		if err != nil {
			return err
		}
		t.spec.Exposed = append(t.spec.Exposed, port)
	}
	slices.SortFunc(t.spec.Exposed, comparePorts)
	if t.h.PortBindings == nil {
		t.h.PortBindings = network.PortMap{}
	}
	for p, bindings := range t.h.PortBindings {
		port, err := brig.ParsePort(p.String())
		if err != nil {
			return err
		}
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}}
			t.h.PortBindings[p] = bindings
		}
		for _, b := range bindings {
			published, err := portBinding(port, b)
			if err != nil {
				return err
			}
			t.spec.Ports = append(t.spec.Ports, published)
		}
	}
	slices.SortStableFunc(t.spec.Ports, func(a, b brig.PortBinding) int { return comparePorts(a.Port, b.Port) })
	t.spec.PublishAll = t.h.PublishAllPorts
	return nil
}

func comparePorts(a, b brig.Port) int {
	return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Proto, b.Proto))
}

func portBinding(port brig.Port, b network.PortBinding) (brig.PortBinding, error) {
	out := brig.PortBinding{Port: port, HostIP: addrString(b.HostIP)}
	if b.HostPort == "" {
		return out, nil
	}
	r, err := network.ParsePortRange(b.HostPort)
	if err != nil {
		return out, invalid("invalid port specification: %q", b.HostPort)
	}
	out.HostPort = r.Start()
	if r.End() != r.Start() {
		out.HostEnd = r.End()
	}
	return out, nil
}

// addrString returns "" for no address and for the unspecified one of IPv4, which Docker's clients use for "all addresses".
func addrString(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// resolver is DNS, extra hosts and links.
func (t *translation) resolver() error {
	for _, a := range t.h.DNS {
		if a.IsValid() {
			t.spec.DNS.Servers = append(t.spec.DNS.Servers, a.String())
		}
	}
	t.spec.DNS.Search, t.spec.DNS.Options = t.h.DNSSearch, t.h.DNSOptions
	for _, host := range t.h.ExtraHosts {
		pair, err := extraHost(host)
		if err != nil {
			return err
		}
		t.spec.ExtraHosts = append(t.spec.ExtraHosts, pair)
	}
	for _, link := range t.h.Links {
		if name, _, _ := strings.Cut(link, ":"); name == "" || strings.Count(link, ":") > 1 {
			return invalid("bad format for links: %s", link)
		}
	}
	t.spec.Links = t.h.Links
	return nil
}

// extraHost reads NAME:IP or NAME=IP; the IP may be in brackets, or be host-gateway.
func extraHost(s string) (string, error) {
	name, ip, ok := strings.Cut(s, "=")
	if !ok {
		name, ip, ok = strings.Cut(s, ":")
	}
	if !ok || name == "" {
		return "", invalid("bad format for add-host: %q", s)
	}
	if ip == "host-gateway" {
		return name + ":" + ip, nil
	}
	if inner, found := strings.CutPrefix(ip, "["); found {
		ip = strings.TrimSuffix(inner, "]")
	}
	if _, err := netip.ParseAddr(ip); err != nil {
		return "", invalid("invalid IP address in add-host: %q", ip)
	}
	return name + ":" + ip, nil
}

// namespaces is every namespace but the network's, and the OCI runtime.
func (t *translation) namespaces() error {
	h, s := t.h, &t.spec
	if !h.IpcMode.Valid() || h.IpcMode.IsContainer() && h.IpcMode.Container() == "" {
		return invalid("invalid IPC mode: %v", h.IpcMode)
	}
	if !h.PidMode.Valid() {
		return invalid("invalid PID mode: %v", h.PidMode)
	}
	if !h.UTSMode.Valid() {
		return invalid("invalid UTS mode: %v", h.UTSMode)
	}
	if !h.UsernsMode.Valid() {
		return invalid("invalid user namespace mode: %v", h.UsernsMode)
	}
	if !h.CgroupnsMode.Valid() {
		return invalid("invalid cgroup namespace mode: %v", h.CgroupnsMode)
	}
	if h.Cgroup != "" {
		return notYet("HostConfig.Cgroup (%s) is not supported by brig: use CgroupParent", h.Cgroup)
	}
	if h.ShmSize < 0 {
		return invalid("SHM size can not be less than 0")
	}
	s.IpcMode, s.PidMode, s.UTSMode, s.UsernsMode = string(h.IpcMode), string(h.PidMode), string(h.UTSMode), string(h.UsernsMode)
	s.CgroupnsMode, s.CgroupParent, s.ShmSize = string(h.CgroupnsMode), h.CgroupParent, h.ShmSize
	s.Sysctls, s.Runtime = h.Sysctls, h.Runtime
	if h.CgroupnsMode == "" && t.host.CgroupNS != "" {
		h.CgroupnsMode = container.CgroupnsMode(t.host.CgroupNS)
		if h.Privileged {
			h.CgroupnsMode = container.CgroupnsModeHost // as jailer has it
		}
	}
	h.Runtime = cmp.Or(h.Runtime, t.host.Runtime)
	return nil
}

// checkRuntime refuses an OCI runtime that the host doesn't have, in dockerd's words.
func checkRuntime(name string, known map[string]string) error {
	if _, ok := known[name]; ok || name == "" {
		return nil
	}
	return errs.New(errs.Invalid, "unknown or invalid runtime name: %s", name)
}

// networkModeOf says under which network names a container without endpoints is shown.
func networkModeOf(mode string) (name string, ok bool) {
	if m := container.NetworkMode(mode); m.IsContainer() {
		return "", false
	} else if m == "" || m.IsDefault() {
		return network.NetworkBridge, true
	}
	return mode, true
}
